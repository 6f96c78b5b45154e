"""Drops a request into the spool while jobd is down: it is queued once jobd is there again.

Off the hot path. What the folders are is told by where the daemon's socket is (INTERFACE,
"Places"); a dropped file and its `.meta.toml` are taken as any other (README, "Dropped files").
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from jobctl import connect
from jobctl.output import Output
from jobd.errors import ForbiddenError, RefusedError, UnreachableError, UsageError
from jobd.wire.envelope import CHUNK, KEY_BYTES

SYSTEM = "/var/spool/jobd"


def is_down(path: str) -> bool:
    """Whether nobody is behind the socket, or somebody who is about to end. Raises
    ForbiddenError where we may not ask."""
    place = connect.Place(path, "")
    if connect.listening(place) is not None:
        return False
    health = connect.ask_health(place)
    return health is None or health.phase in ("stopping", "failed")


def folder_for(path: str, job: str) -> str:
    """The folder that files for the job are dropped into, by the daemon's socket."""
    home = os.path.dirname(os.path.dirname(path))
    if os.path.basename(os.path.dirname(path)) == "run":
        root = os.path.join(home, "spool")
    elif path == connect.SYSTEM_SOCKET:
        root = SYSTEM
    else:
        state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        root = os.path.join(state, "jobd", "spool")
    return os.path.join(root, job)


def drop(
    path: str,
    job: str,
    payloads: Iterable[Any],
    settings: dict[str, Any],
    key: bytes,
    out: Output,
) -> list[str]:
    """Drop a file for each payload (bytes, or a file to be read); their paths, all on disk.

    `key` is the request key: the same again makes no second run within a day. Raises
    UnreachableError where there is no such folder, ForbiddenError, RefusedError for a full disk.
    """
    folder = folder_for(path, job)
    made: list[str] = []
    try:
        for number, payload in enumerate(payloads):
            request = (int.from_bytes(key, "big") + number) % (1 << 8 * KEY_BYTES)
            each = {**settings, "request": request.to_bytes(KEY_BYTES, "big").hex()}
            if "batch" in settings:
                each["batch_offset"] = number
            made.append(_drop_one(folder, f"queue-{request:032x}", payload, _toml(each)))
        _sync(folder)
    except OSError as error:
        raise _why_not(folder, job, error, made) from None
    return made


def _drop_one(folder: str, name: str, payload: Any, meta: str) -> str:
    target = os.path.join(folder, name)
    # what is beside it first: a file is taken as soon as it is there
    _write(target + ".meta.toml", [meta.encode()], folder)
    pieces = [payload] if isinstance(payload, bytes) else _read(payload)
    _write(target, pieces, folder)
    return target


def _write(target: str, pieces: Iterable[bytes], folder: str) -> None:
    building = os.path.join(folder, f".{os.path.basename(target)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    # jobd's group may read it, and nobody else: the folder gives the file that group
    fd = os.open(building, flags, 0o640)
    try:
        with os.fdopen(fd, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(fd)
        os.rename(building, target)
    except OSError:
        os.unlink(building)
        raise


def _read(file: Any) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece


def _sync(folder: str) -> None:
    """The files' names are on disk as well: whoever may not list the folder cannot sync it."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        os.sync()
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _why_not(folder: str, job: str, error: OSError, made: list[str]) -> Exception:
    done = f"{len(made)} files were dropped, then: " if made else ""
    if error.errno == errno.ENOENT:
        return UnreachableError(
            f"{done}jobd is not running, and there is no folder {folder}: is job {job} registered?"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ForbiddenError(f"{done}{folder}: permission denied: only its group may drop files")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RefusedError(f"{done}{folder}: its disk is full")
    return UnreachableError(f"{done}{folder}: {error.strerror}")


def settings_of(made: dict[str, Any], many: bool, key: bytes) -> dict[str, Any]:
    """What the options of `queue` are in a `.meta.toml`. Raises UsageError for what cannot wait
    for jobd."""
    for name in ("after", "latest", "debounce"):
        if made.get(name):
            raise UsageError(f"queue: --{name} cannot be dropped into the spool: jobd has to be up")
    found = {name: made[name] for name in ("priority", "key", "mutex") if made.get(name)}
    for name in ("expires", "timeout"):
        if made.get(name) is not None:
            found[name] = f"{round(made[name] * 1000)}ms"
    for name in ("env", "labels", "args"):
        if made.get(name):
            found[name] = made[name]
    # counted from now, and not from when jobd is back
    if made.get("delay") is not None:
        found["not_before"] = round((time.time() + made["delay"]) * 1000)
    elif made.get("at") is not None:
        found["not_before"] = round(made["at"].timestamp() * 1000)
    if many:
        found["batch"] = key.hex()
    return found


def _toml(settings: dict[str, Any]) -> str:
    return "".join(f"{name} = {_value(value)}\n" for name, value in settings.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{_value(name)} = {_value(item)}" for name, item in value.items())
        return "{ " + inner + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        # JSON's text is TOML's, but for the one character that JSON leaves as it is
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)
