"""What is wrong with a daemon's set-up, and what to do about it: the answer of `host.doctor`.

Each finding: `{about, level, text, remedy}`, `level` one of ok, warning, wrong. Looks at files and
asks the engine, so it runs beside the loop.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jobd.daemon.places import Places
from jobd.daemon.reloading import refusal
from jobd.daemon.settings import Settings
from jobd.engine.base import Engine, EngineError, EngineInfo
from jobd.engine.sides import Absent, Sides
from jobd.errors import JobdError

Finding = dict[str, Any]

#: a file system below this share, or this many bytes, is soon full
_LOW_SHARE, _LOW_BYTES = 0.05, 1 << 30
#: below this the queue's own spare space is at stake
_WRONG_BYTES = 128 << 20
#: adjtimex(2): the kernel says that nobody disciplines its clock
_TIME_ERROR, _STA_UNSYNC = 5, 0x40


def examine(
    places: Places,
    sides: Sides,
    off: str | None,
    read: Callable[[], Settings],
    problems: list[str],
) -> list[Finding]:
    """Every finding. `off` is why there are no processes (None: there are); `read` reads the
    configuration anew, `problems` are the last reload's."""
    return [
        *_configuration(read, problems),
        *_engine("engine", sides.containers),
        *_engine("processes", Absent(off) if off else sides.processes),
        _cgroups(),
        *_disks(places),
        _socket(places.socket),
        _secrets(places.secrets),
        _spool(places.spool),
        _clock(),
    ]


def finding(about: str, level: str, text: str, remedy: str | None = None) -> Finding:
    """One thing that was looked at."""
    return {"about": about, "level": level, "text": text, "remedy": remedy}


def _configuration(read: Callable[[], Settings], problems: list[str]) -> Iterator[Finding]:
    try:
        read()
    except JobdError as error:
        for line in refusal(error):
            yield finding("config", "wrong", line, "mend it, then reload jobd; the old one stays")
        return
    if problems:
        text = f"the files are sound now, and the last reload was refused: {problems[0]}"
        yield finding("config", "warning", text, "reload jobd: systemctl reload jobd, or SIGHUP")
        return
    yield finding("config", "ok", "jobd.toml and the job files are sound")


def _engine(about: str, engine: Engine) -> Iterator[Finding]:
    if isinstance(engine, Absent):
        # switched off is a choice; wanted and not to be had is not
        wanted = engine.why.startswith("there is no user")
        remedy = "see [process] in jobd.toml, then start jobd anew" if wanted else None
        yield finding(about, "warning" if wanted else "ok", engine.why, remedy)
        return
    try:
        info: EngineInfo = engine.connect()
    except EngineError as error:
        remedy = "start it, or see engine.socket in jobd.toml; runs wait meanwhile"
        yield finding(about, "wrong", f"does not answer: {error}", remedy)
        return
    yield finding(about, "ok", f"{info.name} {info.version} answers")
    for note in info.notes:
        yield finding(about, "warning", note, _note_remedy(note))


def _note_remedy(note: str) -> str | None:
    if note.startswith("live-restore"):
        return '{"live-restore": true} in /etc/docker/daemon.json, then reload the engine'
    if "cannot limit" in note:
        return "give the host's cgroups that controller (cgroup_enable=memory at boot, mostly)"
    return None


def _cgroups() -> Finding:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return finding("cgroups", "ok", "version 2")
    return finding(
        "cgroups",
        "warning",
        "version 1: peak memory and out-of-memory ends are told less exactly",
        "boot with systemd.unified_cgroup_hierarchy=1",
    )


def _disks(places: Places) -> Iterator[Finding]:
    for about, folder in (("queue", places.state), ("logs", places.logs)):
        place = folder
        while not place.exists():
            place = place.parent
        usage = shutil.disk_usage(place)
        inodes = os.statvfs(place)
        text = f"{folder}: {usage.free >> 20} MiB of {usage.total >> 20} MiB are free"
        if inodes.f_files and inodes.f_favail < 1000:
            text = f"{folder}: {inodes.f_favail} files more can be made there"
            yield finding(about, "wrong", text, "remove files, or move it to another disk")
        elif usage.free < _WRONG_BYTES:
            yield finding(about, "wrong", text, "free some space, or move it to another disk")
        elif usage.free < max(_LOW_BYTES, usage.total * _LOW_SHARE):
            yield finding(about, "warning", text, "free some space before it is full")
        else:
            yield finding(about, "ok", text)


def _socket(path: Path) -> Finding:
    mode = path.stat().st_mode
    if mode & 0o002:
        # who asks is the kernel's word all the same: it is a choice, and worth knowing
        return finding("socket", "ok", f"{path}: open to all, the access rules decide")
    for folder in path.parents:
        if not folder.stat().st_mode & stat.S_IXGRP and mode & 0o020:
            text = f"{path}: for its owner alone, as {folder} is closed to its group"
            return finding("socket", "ok", text)
    return finding("socket", "ok", f"{path}: for its owner and group, mode {mode & 0o777:o}")


def _secrets(folder: Path) -> Finding:
    trouble = secrets_trouble(folder)
    if trouble is None:
        there = "for the daemon alone" if folder.exists() else "not there, and none is needed"
        return finding("secrets", "ok", f"{folder}: {there}")
    text, _, remedy = trouble.partition(": ")
    return finding("secrets", "wrong", text, remedy)


def _spool(folder: Path) -> Finding:
    """Whether files can be dropped."""
    if os.access(folder, os.W_OK | os.X_OK) and folder.stat().st_uid == os.geteuid():
        return finding("drops", "ok", f"{folder}: a folder for each job is there")
    text = f"{folder}: is not jobd's own: nothing can be dropped"
    return finding("drops", "wrong", text, f"make it, and give it to the daemon's user: {folder}")


def secrets_trouble(folder: Path) -> str | None:
    """What is wrong with the secrets folder and the files in it, and what to do; None: nothing."""
    try:
        mode = folder.stat().st_mode
        open_ = [folder] if mode & (stat.S_IRWXG | stat.S_IRWXO) else []
        open_ += [path for path in sorted(folder.iterdir()) if path.stat().st_mode & 0o077]
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{folder}: cannot be read: {error.strerror}: give it to the daemon's user"
    if not open_:
        return None
    names = " ".join(map(str, open_[:5]))
    return f"open to others than the daemon: chmod go= {names}"


def _clock() -> Finding:
    """What the kernel says of its clock: schedules and delays go by it."""
    room = ctypes.create_string_buffer(512)  # struct timex, all zero: only asks
    state = ctypes.CDLL(None).adjtimex(room)
    status = int.from_bytes(room.raw[40:44], "little")
    if state == _TIME_ERROR or status & _STA_UNSYNC:
        text = "nobody says that it is right: it is not synchronised"
        return finding("clock", "warning", text, "run chrony or systemd-timesyncd")
    return finding("clock", "ok", "synchronised")
