"""When snapshots of the queue are made, and what becomes of them: a thread beside the loop.

One at a time, by a process of its own (:mod:`jobd.daemon.snapshotter`), as soon as as much was
written since the last one as the settings say and a third of what is live: so the queue's files
stay within three times the live data and ALLOWANCE, and a start reads little beside the snapshot.
One that fails harms nothing: it is told, and tried again later.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jobd
from jobd.capacity import probe
from jobd.errors import JobdError
from jobd.journal import Fs, Journal
from jobd.journal.retention import unfinished_name
from jobd.journal.snapshot import BadSnapshotError, Snapshot, glance

_log = logging.getLogger(__name__)

#: seconds between two looks
EVERY = 0.5
#: what the queue's files may take besides three times the live data, in bytes
ALLOWANCE = 256 << 20
#: bytes of the disk that a snapshot leaves free
SPARED = 64 << 20
#: seconds until one that failed is tried again: at first, and at most
RETRY, RETRY_MOST = 60.0, 900.0
#: seconds between two steps of removing what is replaced
REST = 0.02
#: seconds that it may take when nobody else leaves it any time
IDLE_AT_MOST = 300.0
#: seconds for which the loop may keep a question waiting, and for which a segment is waited for
_PATIENCE = 60.0
_SEGMENT_PATIENCE = 3.0
_START = (
    "import sys; sys.path.append(sys.argv[1]); from jobd.daemon.snapshotter import main; "
    "sys.exit(main())"
)


class _StoppedError(Exception):
    """The daemon stops: nothing more is begun."""


class _FailedError(Exception):
    """No snapshot came of it; the sentence says why."""


class Snapshots:
    """Makes them. `work` is for one thread; the rest for any."""

    def __init__(
        self,
        journal: Journal,
        post: Callable[[Callable[[], None]], None],
        seal: Callable[[], None],
        runs: Callable[[], int],
        after: int,
    ) -> None:
        """`seal`, done in the loop by `post`, begins a new segment; `runs` tells how many there are
        now; `after`: bytes written that a snapshot is worth."""
        self._journal, self._post, self._seal_now, self._runs = journal, post, seal, runs
        #: may be set at any time
        self.after = after
        self._stopping = threading.Event()
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._asked = self._finished = 0
        self._not_before = 0.0
        self._failures = 0
        self._making = False
        self._took: float | None = None
        self._problem: str | None = None
        self._problem_at: int | None = None
        self._tidied = False
        self._damage = list(journal.report.bad_snapshots)

    # -- from other threads ------------------------------------------------------------------

    def ask(self) -> int:
        """Have one made now; the number that `finished` in :meth:`row` reaches with it."""
        self._asked = self._finished + 1 + self._making
        return self._asked

    def row(self) -> dict[str, Any]:
        """How it is with snapshots, for `status`: the last one's time, bytes, and trouble."""
        last = self._journal.snapshot
        return {
            "at": last.header.created_ms if last is not None else None,
            "bytes": last.bytes if last is not None else 0,
            "records": last.records if last is not None else 0,
            "lsn": last.lsn if last is not None else 0,
            "took_s": self._took,
            "making": self._making,
            "finished": self._finished,
            "problem": self._problem,
            "problem_at": self._problem_at,
            "damaged": self._damage,
        }

    def close(self) -> None:
        """Give up what is being made: a stop waits for no snapshot."""
        self._stopping.set()
        with self._lock:
            if self._child is not None:
                self._child.kill()

    # -- the thread --------------------------------------------------------------------------

    def work(self) -> float:
        """Look whether one is due, and make it; seconds until the next look."""
        try:
            if not self._tidied:
                # what a daemon that was killed had not come to
                self._tidied = True
                self._journal.retire(keep_older=not self._too_much(0), rest=self._rest)
            if self._asked > self._finished or self._due():
                self._attempt()
        except _StoppedError:
            pass
        except OSError as error:
            # of removing: what could not go is looked for after the next one
            self._tell(f"what snapshots have replaced cannot be removed: {error.strerror}")
        return EVERY

    def _due(self) -> bool:
        if self._stopping.is_set() or time.monotonic() < self._not_before:
            return False
        return self._journal.behind_snapshot() >= max(self.after, self._live() // 3)

    def _attempt(self) -> None:
        self._making = True
        began = time.monotonic()
        try:
            self._make()
        except _FailedError as error:
            self._failures += 1
            wait = min(RETRY * 2 ** (self._failures - 1), RETRY_MOST)
            self._not_before = time.monotonic() + wait
            self._tell(f"no snapshot was made: {error}; it is tried again in {wait:.0f} s")
        else:
            self._failures, self._problem, self._problem_at = 0, None, None
            self._took = round(time.monotonic() - began, 3)
        finally:
            self._making = False
            self._finished += 1

    def _make(self) -> None:
        journal = self._journal
        last = journal.snapshot
        expected = self._live() or journal.behind_snapshot()
        if last is None or journal.stats().snapshot_bytes == last.bytes:
            self._require(expected)  # before anything is begun: there is no older one to give up
        self._seal()
        end = journal.sealed()
        if end is None or (last is not None and last.lsn >= end.last_lsn):
            return  # nothing has happened since
        target = os.path.join(journal.directory, unfinished_name(end.last_lsn, os.getpid()))
        try:
            made, bad = self._by_child(end.last_lsn, target, expected)
            journal.adopt(made, bad)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(target)
            if isinstance(error, OSError | BadSnapshotError | JobdError):
                raise _FailedError(str(error)) from error
            raise
        _log.info("queue snapshot of lsn %d: %d bytes", made.lsn, made.bytes)
        journal.retire(keep_older=not self._too_much(0), rest=self._rest)

    def _seal(self) -> None:
        """Have the loop go on in a new segment, so that all of now is told.

        The next one may not be ready yet: it is made beside the loop, within a second.
        """
        until = time.monotonic() + _SEGMENT_PATIENCE
        while (refused := self._seal_once()) is not None:
            if time.monotonic() > until:
                raise _FailedError(str(refused))
            if self._stopping.wait(EVERY):
                raise _StoppedError

    def _seal_once(self) -> JobdError | None:
        done = threading.Event()
        refused: list[JobdError] = []

        def seal() -> None:
            try:
                self._seal_now()
            except JobdError as error:
                refused.append(error)
            finally:
                done.set()

        self._post(seal)
        until = time.monotonic() + _PATIENCE
        while not done.wait(0.1):
            if self._stopping.is_set():
                raise _StoppedError
            if time.monotonic() > until:
                raise _FailedError("the daemon is too busy to go on in a new segment")
        return refused[0] if refused else None

    def _by_child(self, lsn: int, target: str, expected: int) -> tuple[Snapshot, list[int]]:
        """The snapshot that a process has made, and the lsns of those that it found damaged."""
        child = self._spawn()
        task = {"directory": self._journal.directory, "lsn": lsn, "target": target}
        try:
            self._send(child, {**task, "now": time.time_ns() // 1_000_000})
            told = self._hear(child, "read")
            bad = self._damaged(told)
            self._make_space(expected, told["read"], bad)
            self._send(child, {})
            footer = self._hear(child, "made")["footer"]
        finally:
            with self._lock:
                self._child = None
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                assert pipe is not None
                with suppress(OSError):
                    pipe.close()
        return glance(Fs(), target, footer), bad

    def _spawn(self) -> subprocess.Popen[str]:
        with self._lock:
            if self._stopping.is_set():
                raise _StoppedError
            # by vfork, as there is nothing to be done in between: a fork of much memory takes long
            self._child = subprocess.Popen(
                [sys.executable, "-c", _START, str(Path(jobd.__file__).parent.parent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            return self._child

    def _send(self, child: subprocess.Popen[str], what: dict[str, Any]) -> None:
        assert child.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: that is heard next
            child.stdin.write(json.dumps(what) + "\n")
            child.stdin.flush()

    def _hear(self, child: subprocess.Popen[str], word: str) -> dict[str, Any]:
        assert child.stdout is not None
        # else it might wait for ever where every core is always busy
        hurry = threading.Timer(IDLE_AT_MOST, probe.step_forward, (child.pid,))
        hurry.daemon = True
        hurry.start()
        line = child.stdout.readline()
        hurry.cancel()
        if self._stopping.is_set():
            raise _StoppedError
        said: dict[str, Any] = json.loads(line) if line.endswith("\n") else {}
        if "failed" in said:
            raise _FailedError(said["failed"])
        if word not in said:
            raise _FailedError(f"the process that makes it ended with status {child.wait()}")
        return said

    def _damaged(self, told: dict[str, Any]) -> list[int]:
        """The lsns of snapshots that turned out to be damaged, told in the log and in status."""
        for name, offset, why in told["bad"]:
            self._damage.append(f"{name} is damaged at offset {offset}: it {why}; used no more")
            _log.warning("queue snapshot: %s", self._damage[-1])
        return [int(name[5:25]) for name, _, _ in told["bad"]]

    def _make_space(self, expected: int, basis: int, bad: list[int]) -> None:
        """Give up the older snapshot where both would be too much; the newer was just read.

        Raises _FailedError where the disk has too little space all the same.
        """
        newest = self._journal.snapshot
        sound = newest is not None and newest.lsn == basis and not bad
        if sound and (self._too_much(expected) or self._missing(expected) > 0):
            self._journal.retire(keep_older=False, rest=self._rest)
        self._require(expected)

    def _require(self, expected: int) -> None:
        missing = self._missing(expected)
        if missing > 0:
            raise _FailedError(
                f"{self._journal.directory}: no space for it: {missing} bytes are missing"
            )

    def _missing(self, expected: int) -> int:
        disk = os.statvfs(self._journal.directory)
        return expected + SPARED - disk.f_bavail * disk.f_frsize

    def _too_much(self, more: int) -> bool:
        """Whether the queue's files with `more` bytes would be more than they may be."""
        stats = self._journal.stats()
        return stats.bytes + stats.snapshot_bytes + more > 3 * self._live() + ALLOWANCE

    def _live(self) -> int:
        """Bytes of a snapshot of now, by what the last one took for each run; 0: no last one."""
        last = self._journal.snapshot
        return last.bytes * self._runs() // max(1, last.records) if last is not None else 0

    def _rest(self) -> None:
        if self._stopping.wait(REST):
            raise _StoppedError

    def _tell(self, problem: str) -> None:
        self._problem, self._problem_at = problem, time.time_ns() // 1_000_000
        _log.warning("queue snapshot: %s", problem)
