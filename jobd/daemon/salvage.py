"""`jobd fsck --salvage`: makes a sound queue of a damaged one, with every run that is intact.

By DURABILITY R8 and its rulings. Nothing is deleted: the files as they were go to `quarantine/`.
A crash at any place leaves either the damaged queue or the new one, or a change of files that the
next to open the queue finishes.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobd.core import events as e
from jobd.core.commands import Body
from jobd.core.machine import TransitionError
from jobd.core.remains import Lost, Remains, Seen
from jobd.core.salvage import Salvage, Verdict, bodies_of
from jobd.core.state import State
from jobd.daemon.folding import KNOWN_TYPES, fold
from jobd.daemon.rewriting import write_anew
from jobd.daemon.salvagereport import lines, report_of
from jobd.errors import ConfigError, DiskFailedError, QueueDamagedError, RefusedError, VersionError
from jobd.journal import SEGMENT_BYTES, swap
from jobd.journal.bodies import Bodies
from jobd.journal.examine import examine
from jobd.journal.fsutil import Fs, write_all
from jobd.journal.lock import DirectoryLock
from jobd.journal.pieces import Gap, Piece, Reading, Wound
from jobd.journal.snapshot import statements_in
from jobd.journal.space import SpaceMaker, is_full
from jobd.journal.swap import copy_file


def salvage(
    fs: Fs,
    directory: str,
    caller: list[Any],
    *,
    at: int | None = None,
    segment_bytes: int = SEGMENT_BYTES,
) -> dict[str, Any]:
    """Salvage the queue in `directory`; what was found and done, as a mapping for JSON.

    A sound queue is left as it is. Raises AlreadyRunningError while a daemon has it, ConfigError
    where it is not ours, VersionError, RefusedError for a full disk, DiskFailedError.
    """
    _check_owner(fs, directory)
    lock = DirectoryLock(fs, directory)
    now = int(time.time() * 1000) if at is None else at
    try:
        finished = swap.finish(fs, directory)
        if problem(fs, directory) is None:
            return {"queue": directory, "sound": True, "salvaged": finished is not None,
                    "quarantine": finished}  # fmt: skip
        return _Work(fs, directory, caller, now, segment_bytes).done()
    except (RefusedError, OSError) as error:
        if not isinstance(error, OSError) or is_full(error):
            raise RefusedError(
                f"queue {directory}: no space to write it anew; nothing was changed; free some and "
                "run this again"
            ) from error
        raise DiskFailedError(
            f"queue {directory}: cannot be salvaged ({error.strerror}: "
            f"{error.filename or directory}); nothing was lost; run this again"
        ) from error
    finally:
        lock.release()


def problem(fs: Fs, directory: str) -> str | None:
    """What is wrong with a queue beyond its bytes, which `examine` has found right; or None.

    Its events have to follow each other, and the payloads of runs that are not over to be there.
    Raises QueueDamagedError for its bytes.
    """
    try:
        examine(fs, directory)
    except QueueDamagedError as error:
        return str(error)
    reading = Reading(fs, directory)
    try:
        replayed(fs, directory)
    except TransitionError as error:
        return f"queue {directory}: its records do not follow each other: {error}"
    bad = _bad_bodies(directory, Remains(lambda: _items(reading, None), _base(fs, reading)))
    if bad:
        return f"queue {directory}: the payload of run {min(bad)} is damaged, of {len(bad)} in all"
    return None


def replayed(fs: Fs, directory: str) -> State:
    """The state of a queue whose bytes are right. Raises TransitionError where its events do not
    follow each other."""
    reading = Reading(fs, directory)
    state = _base(fs, reading)
    for item in _items(reading, None):
        if isinstance(item, Seen) and item.event is not None:
            revision = state.apply(item.event)
            if revision != item.revision:
                raise TransitionError(f"{item.event} is change {item.revision}")
    return state


def _base(fs: Fs, reading: Reading) -> State:
    """The state that the newest sound snapshot tells of, made anew each time."""
    snapshot = reading.basis.snapshot
    return fold(() if snapshot is None else statements_in(fs, snapshot, KNOWN_TYPES))


def _bad_bodies(directory: str, remains: Remains) -> set[int]:
    """The live runs whose payload, a file of its own, is not as it was written."""
    named = bodies_of(remains)
    if not named:
        return set()
    bodies = Bodies(Path(directory) / "bodies")
    bad = set()
    try:
        for number, body in named.items():
            try:
                for _ in bodies.chunks(Body(*body)):
                    pass
            except (QueueDamagedError, DiskFailedError, OSError, ValueError):
                bad.add(number)
    finally:
        bodies.close()
    return bad


def _check_owner(fs: Fs, directory: str) -> None:
    try:
        owner = fs.stat(directory).st_uid
    except OSError as error:
        raise ConfigError(f"queue {directory}: {error.strerror}") from None
    if owner != os.geteuid():
        # files of another user's would keep its daemon from starting
        raise ConfigError(
            f"queue {directory}: belongs to uid {owner}, and this is uid {os.geteuid()}; run "
            f"`runuser -u '#{owner}' -- jobd fsck --salvage ...` as an administrator"
        )


def _items(reading: Reading, told: list[Wound | Gap] | None) -> Iterator[Seen | Lost]:
    """What is left, in the core's words; what is wrong with the files goes to `told`."""
    for piece in reading.pieces():
        if isinstance(piece, Wound | Gap) and told is not None:
            told.append(piece)
        if isinstance(piece, Gap):
            yield Lost(piece.bytes)
        elif isinstance(piece, Piece):
            if piece.sure and piece.type not in e.BY_TYPE:
                raise VersionError(
                    f"queue file {piece.file}: the record at offset {piece.offset} is of type "
                    f"{piece.type}, which this program does not know; use the jobd that wrote it"
                )
            event = _event(piece)
            sure = piece.sure and event is not None
            yield Seen(piece.type, piece.kind, piece.id, piece.revision, event, sure)


def _event(piece: Piece) -> e.Event | None:
    if piece.body is None or piece.type not in e.BY_TYPE:
        return None
    if e.KIND_OF[e.BY_TYPE[piece.type]] != piece.kind:
        return None
    try:
        return e.decode(piece.type, piece.id, piece.body)
    except (ValueError, TypeError):
        return None  # a bit that was set right was another one


class _Work:
    """One salvage under way."""

    def __init__(
        self, fs: Fs, directory: str, caller: list[Any], at: int, segment_bytes: int
    ) -> None:
        self._fs, self._directory, self._caller, self._at = fs, directory, caller, at
        self._segment_bytes = segment_bytes
        self._reading = Reading(fs, directory)
        self._told: list[Wound | Gap] = list(self._reading.wounds)
        self._remains = Remains(lambda: _items(self._reading, self._told), _base(fs, self._reading))
        self._bodies = _bad_bodies(directory, self._remains)
        self._doubted: set[int] = set()
        self._doubted_jobs: set[int] = set()
        self._records = 0

    def done(self) -> dict[str, Any]:
        fs, directory = self._fs, self._directory
        new, target = swap.begin(fs, directory)
        try:
            verdict, state = self._written(new)
        except (RefusedError, OSError) as error:
            if isinstance(error, OSError) and not is_full(error):
                raise
            if not SpaceMaker(fs, directory, 1).free_reserve():
                raise
            new, target = swap.begin(fs, directory)
            verdict, state = self._written(new)
        report = report_of(
            directory, target, self._told, self._remains, verdict, state, self._records
        )
        self._keep(f"{new}/report.json", json.dumps(report, indent=1) + "\n")
        self._keep(f"{new}/report.txt", "\n".join(lines(report)) + "\n")
        swap.commit(fs, directory, target)
        return report

    def _keep(self, path: str, text: str) -> None:
        fd = self._fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            write_all(self._fs, fd, text.encode(), 0)
            self._fs.fsync(fd)
        finally:
            self._fs.close(fd)

    def _written(self, new: str) -> tuple[Verdict, State]:
        """The new queue, on disk in `new`; tried again where records contradict each other."""
        while True:
            verdict = Verdict(self._remains, self._doubted, self._doubted_jobs, self._bodies)
            try:
                base = _base(self._fs, self._reading)
                for _ in self._checked(self._events(verdict, base), base):
                    pass
            except _Contradiction as found:
                if found.number in found.among:
                    raise DiskFailedError(f"queue: {found}: a bug; nothing was changed") from None
                found.among.add(found.number)
                continue
            snapshot = self._reading.basis.snapshot
            if snapshot is not None:
                copy_file(self._fs, snapshot.path, os.path.join(new, snapshot.name))
            base = _base(self._fs, self._reading)
            self._records = write_anew(
                self._fs, new, self._reading.store, self._events(verdict, base), self._at,
                base, snapshot, self._segment_bytes,
            )  # fmt: skip
            return verdict, base

    def _events(self, verdict: Verdict, base: State) -> Iterator[e.Event]:
        return Salvage(self._read_again, base, verdict, self._at, self._caller).events()

    def _read_again(self) -> Iterator[Seen | Lost]:
        return _items(self._reading, None)

    def _checked(self, events: Iterator[e.Event], state: State) -> Iterator[e.Event]:
        for event in events:
            try:
                state.apply(event)
            except TransitionError as error:
                is_run = e.KIND_OF[type(event)] == e.RUN
                among = self._doubted if is_run else self._doubted_jobs
                raise _Contradiction(str(error), event[0], among) from None
            yield event


class _Contradiction(Exception):
    """Records that are intact by themselves do not follow each other."""

    def __init__(self, text: str, number: int, among: set[int]) -> None:
        super().__init__(text)
        self.number = number
        self.among = among
