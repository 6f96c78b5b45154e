"""Starts the shim of a process attempt and tells it what to run."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import jobd
from jobd.engine.account import Account
from jobd.engine.attemptfolder import AttemptFolder
from jobd.engine.base import Order, StartRefusedError
from jobd.engine.cage import Cage
from jobd.engine.shim import order as orders

#: how long a shim may take to say that the command runs, in seconds
PATIENCE = 30.0
_NICE = 5
_START = (
    "import sys; sys.path.append(sys.argv[1]); from jobd.engine.shim.main import main; "
    "main(*sys.argv[2:])"
)
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}


def launch(
    folder: AttemptFolder, number: int, order: Order, who: Account, cage: Cage
) -> subprocess.Popen[bytes]:
    """Start the shim of launch `number`; it has said how the command's start went, or has ended.

    Raises OSError, and StartRefusedError for what no process can be given.
    """
    data = _encoded(order, who, cage)
    with open(folder.path / "shim.err", "wb", opener=_private) as errors:
        shim = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-c", _START),
                *(str(Path(jobd.__file__).parent.parent), str(folder.path), str(number)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd="/",
            env={},
            start_new_session=True,
        )
    assert shim.stdin is not None
    assert shim.stdout is not None
    with shim.stdout as says:
        try:
            with shim.stdin as told:
                told.write(data)
        except BrokenPipeError:
            return shim  # it ended at once: the look that follows says so
        poll = select.poll()
        poll.register(says, select.POLLIN)
        poll.poll(PATIENCE * 1000)
    return shim


def _encoded(order: Order, who: Account, cage: Cage) -> bytes:
    """The order as the shim takes it. Raises StartRefusedError."""
    own = {**_ENVIRONMENT, "HOME": who.home, "USER": who.name, "LOGNAME": who.name}
    one: dict[str, bytes | int] = {
        "cwd": os.fsencode(order.task_dir),
        "log_bytes": order.log_bytes,
    }
    if order.stdin is not None:
        one["stdin"] = os.fsencode(order.task_dir / "payload")
    if who.changes:
        one |= {"uid": who.uid, "gid": who.gid}
    if not cage.memory:
        one["data"] = order.memory
    if not cage.cpu:
        one["nice"] = _NICE
    if not cage.pids and who.changes:
        # it counts all processes of the user, so other attempts' are added
        one["nproc"] = order.pids + _processes_of(who.uid)
    try:
        return orders.encode(
            map(_bytes, order.command or ()),
            _bytes_map({**own, **order.env}),
            map(os.fsencode, cage.joins),
            one,
        )
    except ValueError as error:
        raise StartRefusedError(str(error), 126) from None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _bytes_map(texts: Mapping[str, str]) -> dict[bytes, bytes]:
    return {_bytes(name): _bytes(text) for name, text in texts.items()}


def _processes_of(uid: int) -> int:
    count = 0
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue  # it ended
    return count


def last_words(folder: AttemptFolder) -> str:
    """What a shim that failed said last."""
    try:
        text = (folder.path / "shim.err").read_text("utf-8", "replace").strip()
    except OSError:
        text = ""
    return text.splitlines()[-1] if text else "it said nothing"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
