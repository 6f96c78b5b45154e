"""`jobctl init`: writes a starter configuration, and says what to type next."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jobctl.output import Output
from jobd.errors import ConflictError, UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Writes jobd.toml with every key as a comment, an example job in jobs.d/hello.toml, and a folder for
secrets that only you can read. What is there already is never overwritten (73).

  jobctl init --home /srv/jobd      # a daemon that keeps everything under one folder
  jobctl init                       # root: /etc/jobd; others: ~/.config/jobd

JSON: {"files": [PATH, ...], "next": [COMMAND, ...]}."""


def add_arguments(parser: ArgumentParser) -> None:
    """None of its own."""


def check(given: Namespace, out: Output) -> None:
    """A socket says nothing about where a configuration belongs."""
    if given.socket:
        raise UsageError("init: a configuration has no socket: use --home, or neither")


def run(given: Namespace, client: Client, out: Output) -> int:
    """Writes."""
    from jobctl.starter import CONFIG, JOB

    home = given.home or (os.environ.get("JOBCTL_HOME") if not given.socket else None)
    folder = os.path.abspath(home) if home else config_folder()
    files = {
        os.path.join(folder, "jobd.toml"): CONFIG,
        os.path.join(folder, "jobs.d", "hello.toml"): JOB,
    }
    for path in files:
        if os.path.lexists(path):
            raise ConflictError(f"init: {path}: is there already; nothing was written")
    os.makedirs(os.path.join(folder, "jobs.d"), exist_ok=True)
    os.makedirs(os.path.join(folder, "secrets"), mode=0o700, exist_ok=True)
    for path, text in files.items():
        # exclusively: two that begin at once do not overwrite each other either
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    commands = _next(home, folder)
    if out.json:
        out.value({"files": list(files), "next": commands})
        return 0
    for path in files:
        out.line(path)
    if out.mode != "id":
        out.note("written; next:")
        for command in commands:
            out.note(f"  {command}")
    return 0


def config_folder() -> str:
    """Where a daemon of this user looks for its configuration (INTERFACE, "Places")."""
    if os.geteuid() == 0:
        return "/etc/jobd"
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return os.path.join(base if base.startswith("/") else os.path.expanduser("~/.config"), "jobd")


def _next(home: str | None, folder: str) -> list[str]:
    """What to type, in this order; `--home` each time where there is one."""
    where = f" --home {_quoted(home)}" if home else ""
    start = f"jobd run{where}"
    if not home and os.geteuid() == 0 and os.path.isdir("/run/systemd/system"):
        start = "systemctl start jobd"
    return [
        f"$EDITOR {_quoted(os.path.join(folder, 'jobd.toml'))}",
        f"jobd check{where}",
        f"{start}        # in another terminal, or as a service",
        f"jobctl{where} run hello -p 'some payload'",
    ]


def _quoted(text: str) -> str:
    plain = text.replace("/", "").replace(".", "").replace("-", "").replace("_", "")
    return text if plain.isalnum() else "'" + text.replace("'", "'\\''") + "'"
