"""`jobctl` as other users of this host: real uids, through the real socket. Needs root.

One process has everything loaded and forks for each command: checkout and Python may be closed to
other users, and a start costs a third of a second. A child changes its uid first and connects then,
so it is the kernel that tells jobd who asks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent

SCRIPT = """
import datetime, importlib, json, locale, os, pkgutil, pwd, sys, unicodedata, zoneinfo, zmq
import jobctl.commands, jobctl.cli, jobctl.client

def run(words, out, err):
    os.dup2(out, 1), os.dup2(err, 2)
    return jobctl.cli.main(words)

for module in pkgutil.walk_packages(jobctl.__path__, "jobctl."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
talk, null = os.dup(1), os.open(os.devnull, os.O_RDWR)
# what is imported late is imported now; it ends before there is a socket
for words in (["ls", "--since", "1h"], ["queue", "j", "-p", "x"], ["nonsense"], ["show", "--help"]):
    run(["--socket", "/nonexistent", *words], null, null)
for line in sys.stdin:
    asked = json.loads(line)
    files = [os.memfd_create(name) for name in ("out", "err")]
    child = os.fork()
    if child == 0:
        status = 99
        try:
            if asked["user"] != "root":
                user = pwd.getpwnam(asked["user"])
                os.initgroups(user.pw_name, user.pw_gid)
                os.setgid(user.pw_gid)
                os.setuid(user.pw_uid)
            os.dup2(null, 0)
            status = run(asked["words"], *files)
            sys.stdout.flush()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = []
    for file in files:
        os.lseek(file, 0, 0)
        with open(file, errors="replace") as text:
            texts.append(text.read())
    os.write(talk, json.dumps([status, *texts]).encode() + b"\\n")
"""


class Said(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.out)


class People:
    """Users of this host, one command at a time."""

    def __init__(self, home: Path) -> None:
        self._home = str(home)
        self._process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"},
        )

    def say(self, user: str, *words: str) -> Said:
        """`jobctl WORDS` as that user."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"user": user, "words": ["--home", self._home, *words]}
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        return Said(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


def is_root() -> bool:
    """Whether this process may become others."""
    return os.geteuid() == 0
