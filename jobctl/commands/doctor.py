"""`jobctl doctor`: what is wrong with the set-up, and what to do about it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from jobctl.output import Output
from jobd.errors import ForbiddenError, JobdError, UnreachableError, VersionError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Looks at the set-up of jobd and its host: configuration, engine, cgroups, disk space, rights of the
socket and of the secrets, the clock. Each finding comes with its remedy. 0: nothing is wrong (a
warning is nothing wrong); 1: something is; 69: no daemon answers, and what can be seen without one
is told.

  jobctl doctor

JSON: an array of {"about", "level": "ok", "warning" or "wrong", "text", "remedy"}."""

Finding = dict[str, Any]

_COLOURS = {"ok": "green", "warning": "yellow", "wrong": "red"}


def add_arguments(parser: ArgumentParser) -> None:
    """None of its own."""


def run(given: Namespace, client: Client, out: Output) -> int:
    """Looks, and tells."""
    status = 0
    found: list[Finding] = []
    try:
        found += client.doctor()
        found.insert(0, finding("daemon", "ok", f"jobd answers on {client.place}"))
    except (UnreachableError, ForbiddenError, VersionError) as error:
        status = error.status
        found += [finding("daemon", "wrong", str(error), _remedy(error)), *without(client.place)]
    tell(found, out)
    return status or int(any(row["level"] == "wrong" for row in found))


def _remedy(error: JobdError) -> str:
    if isinstance(error, ForbiddenError):
        return "ask an administrator, or use an account that is one"
    if isinstance(error, VersionError):
        return "install the same version of jobctl and jobd"
    return "start it; `jobd check` tells what would keep it from starting"


def finding(about: str, level: str, text: str, remedy: str | None = None) -> Finding:
    """One thing that was looked at."""
    return {"about": about, "level": level, "text": text, "remedy": remedy}


def tell(found: list[Finding], out: Output) -> None:
    """Writes the findings: what is wrong last, where eyes are at the end."""
    from jobctl.render import escape

    if out.json:
        out.values(found)
        return
    order = list(_COLOURS)
    for row in sorted(found, key=lambda row: order.index(str(row["level"]))):
        level = out.paint(_COLOURS[str(row["level"])], f"{row['level']:8}")
        out.line(f"{level} {escape(str(row['about'])):9} {escape(str(row['text']))}")
        if row["remedy"]:
            out.line(f"{'':18} -> {escape(str(row['remedy']))}")


# --- what can be seen without a daemon ------------------------------------------------------


def without(place: str) -> list[Finding]:
    """Findings on socket, engine and cgroups, by what this user may see."""
    return [_socket(place), _engine(), _cgroups()]


def _socket(place: str) -> Finding:
    try:
        mode = os.stat(place)
    except FileNotFoundError:
        return finding("socket", "warning", f"{place}: is not there", "jobd makes it at its start")
    except OSError as error:
        return finding("socket", "wrong", f"{place}: {error.strerror}", "look at its folders")
    if not stat.S_ISSOCK(mode.st_mode):
        return finding("socket", "wrong", f"{place}: is not a socket", "move it away")
    if not os.access(place, os.R_OK | os.W_OK):
        return finding(
            "socket",
            "wrong",
            f"{place}: you may not use it (gid {mode.st_gid}, mode {mode.st_mode & 0o777:o})",
            "have an administrator put you into its group, then log in anew",
        )
    return finding("socket", "ok", f"{place}: is there, and nobody listens behind it")


def _engine() -> Finding:
    from jobctl import connect

    url = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not url.startswith("unix://"):
        return finding("engine", "ok", f"{url}: not looked at, as it is no Unix socket")
    path = url.removeprefix("unix://")
    try:
        connect.plain_connect(path, 1.0).close()
    except PermissionError:
        # the daemon has other rights than whoever asks
        return finding("engine", "ok", f"{path}: is there, and not for you to use")
    except OSError as error:
        remedy = "start the container engine; runs wait until it answers"
        return finding("engine", "warning", f"{path}: {error.strerror or error}", remedy)
    return finding("engine", "ok", f"{path}: something listens there")


def _cgroups() -> Finding:
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return finding("cgroups", "ok", "version 2")
    return finding(
        "cgroups",
        "warning",
        "version 1: peak memory and out-of-memory ends are told less exactly",
        "boot with systemd.unified_cgroup_hierarchy=1",
    )
