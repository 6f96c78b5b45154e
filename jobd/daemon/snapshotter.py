"""Makes a snapshot of the queue: a process of its own that reads files and writes one.

It needs as much memory as the daemon's state, for a while, at a priority at which it takes no time
from anybody. It never touches what is there; what it has made counts only once the daemon gives it
its name (:mod:`jobd.daemon.snapshots`). A fork of the daemon instead would stop it for 25 to 50 ms
and copy what it changes meanwhile (measured with a million runs).

Spoken to over its standard input and output, a JSON value a line: a task; then it says `read` with
what it built on and waits for a line; then `made` or `failed`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from jobd.capacity import probe
from jobd.core.events import RUN
from jobd.core.requests import KEEP_MS
from jobd.core.state import State
from jobd.core.statements import statements
from jobd.daemon.folding import KNOWN_TYPES, fold
from jobd.errors import JobdError, QueueDamagedError
from jobd.journal import Fs, Record
from jobd.journal.basis import Basis, find_basis, old_segments
from jobd.journal.bodyreader import BodyReader
from jobd.journal.live import LiveSegment
from jobd.journal.lookup import SnapshotReader
from jobd.journal.replay import records_of
from jobd.journal.segment import BadSegmentError, Header, read_header, segment_name
from jobd.journal.snapshot import BadSnapshotError, Snapshot, SnapshotWriter, statements_in

#: bytes a second that are written at most: more would keep the queue's syncs waiting
RATE = 60 << 20


class Past:
    """The queue up to one batch, read from files that change no more.

    `basis` is the snapshot that it starts from. Raises QueueDamagedError, VersionError.
    """

    def __init__(self, fs: Fs, directory: str, lsn: int) -> None:
        self._fs = fs
        names = fs.listdir(directory)
        following = _header(fs, directory, segment_name(lsn + 1))
        assert following.predecessor is not None  # nobody asks for a snapshot of nothing
        self.after, self.store = following.predecessor, following.store
        self.basis: Basis = find_basis(fs, directory, names, lsn - 1)
        old = [
            one
            for one in old_segments(fs, directory, names, following)
            if one.header.first_lsn > self.basis.lsn
        ]
        why = self.basis.misfit(old[0].header) if old else "the segments before it are missing"
        if why is not None:
            path = os.path.join(directory, old[0].name if old else segment_name(lsn + 1))
            raise QueueDamagedError(f"queue file {path}: {why}", file=path, offset=0)
        self.files = [
            LiveSegment(number, os.path.join(directory, one.name), one.header, one.end)
            for number, one in enumerate(old)
        ]

    def records(self, look: Callable[[], None]) -> Iterator[Record]:
        """Every record, as `Journal.replay`; `look` is called before each file."""
        if self.basis.snapshot is not None:
            look()
            yield from statements_in(self._fs, self.basis.snapshot, KNOWN_TYPES)
        for segment in self.files:
            look()
            yield from records_of(self._fs, segment, KNOWN_TYPES)

    def bodies(self) -> BodyReader:
        """Reads back what these records hold."""
        found = self.basis.snapshot
        return BodyReader(self._fs, self.files, SnapshotReader(self._fs, found) if found else None)


def _header(fs: Fs, directory: str, name: str) -> Header:
    path = os.path.join(directory, name)
    try:
        fd = fs.open(path, os.O_RDONLY)
        try:
            return read_header(fs, fd, name)
        finally:
            fs.close(fd)
    except (OSError, BadSegmentError) as error:
        raise QueueDamagedError(f"queue file {path}: {error}", file=path, offset=0) from error


def write_snapshot(
    writer: SnapshotWriter, state: State, bodies: BodyReader, now_ms: int
) -> Snapshot:
    """The finished snapshot of `state`, whose bytes on disk `bodies` reads.

    `now_ms` (UTC) decides which requests may still be asked again. On an error the file is gone.
    """
    try:
        state.requests.expire(_queued_at(state), now_ms - KEEP_MS)
        writer.add_all(statements(state, lambda where, run: bodies.kept(where, RUN, run)))
        return writer.finish()
    except BaseException:
        writer.discard()
        raise


def make(
    fs: Fs,
    directory: str,
    lsn: int,
    target: str,
    now_ms: int,
    *,
    pace: Callable[[int], None] = lambda size: None,
    read: Callable[[Past], None] = lambda past: None,
) -> Snapshot:
    """Writes the snapshot of the queue in `directory` up to batch `lsn` to `target`.

    `pace` gets the bytes of each step (0: of none), `read` what was read before anything is
    written. Raises JobdError, BadSnapshotError, OSError, and leaves nothing behind then.
    """
    past = Past(fs, directory, lsn)
    state = fold(past.records(lambda: pace(0)))
    read(past)
    bodies = past.bodies()
    try:
        writer = SnapshotWriter(fs, target, past.store, past.after, now_ms, pace)
        return write_snapshot(writer, state, bodies, now_ms)
    finally:
        bodies.close()


def _queued_at(state: State) -> Callable[[int], int | None]:
    def queued_at(run: int) -> int | None:
        found = state.runs.get(run)
        return found.queued_at if found is not None else None

    return queued_at


class Pace:
    """Waits as long as each step is ahead of RATE, and ends the process when its daemon is gone."""

    def __init__(self) -> None:
        self._daemon = os.getppid()
        self._next = time.monotonic()

    def __call__(self, size: int) -> None:
        """Wait after `size` bytes."""
        if os.getppid() != self._daemon:
            raise SystemExit(1)
        now = time.monotonic()
        self._next = max(self._next, now) + size / RATE
        if size:
            time.sleep(max(0.0, self._next - now))


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def _read(past: Past) -> None:
    bad = [[one.name, one.offset, one.why] for one in past.basis.bad]
    _say(read=past.basis.lsn, bad=bad)
    if not sys.stdin.readline():
        raise SystemExit(1)  # the daemon wants it no more


def main() -> int:
    """Do the task on standard input."""
    probe.step_back()
    task = json.loads(sys.stdin.readline())
    try:
        made = make(
            Fs(), task["directory"], task["lsn"], task["target"], task["now"],
            pace=Pace(), read=_read,
        )  # fmt: skip
    except OSError as error:
        _say(failed=f"{task['target']}: {error.strerror}")
        return 1
    except (JobdError, BadSnapshotError) as error:
        _say(failed=str(error))
        return 1
    _say(made=made.bytes, footer=made.footer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
