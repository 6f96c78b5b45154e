"""Takes what is dropped: watches every job's folder, claims complete files, has them queued.

One thread. Of a thousand files that come at once each step is done for many together: claimed, one
sync of the folder, one message to the loop, one sync of the queue; then they are removed.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

from jobd.core.commands import Body
from jobd.errors import RefusedError
from jobd.intake import inotify
from jobd.intake.box import Awaited, Box, How, Taken
from jobd.intake.clearing import Clearing
from jobd.intake.errands import Errands
from jobd.intake.loading import Load, NotYetError, RefusedDropError, load, make_durable
from jobd.intake.names import Claimed, is_left_alone
from jobd.intake.spool import FOLDERS, JobFolder, Spool
from jobd.intake.writers import is_remote

_log = logging.getLogger(__name__)

#: files that are claimed, and queued, together; and how many such groups are under way at once
BATCH, UNDER_WAY = 256, 4
#: seconds until what could not be taken is tried again
AGAIN = 2.0
#: seconds between two looks at all folders, and where the kernel tells nothing of changes
LOOK_EVERY, LOOK_REMOTE = 60.0, 2.0
#: large files that are synced at once, each in a thread of its own
_SYNCS = 2
#: refusals that are logged in a minute: each has its reason beside it
_MOST_LOGGED = 20

_MASK = inotify.CREATE | inotify.CLOSE_WRITE | inotify.MOVED_TO | inotify.DELETE_SELF

_DEAF = "no inotify watch is left (fs.inotify.max_user_watches): folders are looked at"


class Dropbox:
    """The thread. `deliver` hands a group of loads to the loop, which answers by :meth:`taken`.

    `known` has the keys of claimed files that have made their runs, each with whether the file
    stays, being its run's payload. `most` says how large a payload may be that is copied, in
    bytes; `keep` makes a body file of one, `discard` removes such a file by its name.
    """

    def __init__(
        self,
        spool: Spool,
        deliver: Callable[[list[Load]], None],
        keep: Callable[[bytes], Body],
        discard: Callable[[str], None],
        most: Callable[[], int],
        known: Mapping[str, bool],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._spool = spool
        self._deliver = deliver
        self._keep = keep
        self._discard = discard
        #: bodies of drops that wait, by their keys
        self._kept: dict[str, Body] = {}
        self._most = most
        self._known = dict(known)
        self._fatal = fatal
        self._remote = is_remote(str(spool.root))
        self._inotify = inotify.listen()
        self._clearing = Clearing(spool, fatal)
        self._boxes: dict[str, Box] = {}
        self._by_watch: dict[int, Box] = {}
        self._under_way = 0
        self._syncing = 0
        self._told = ""
        self._minute, self._logged = 0.0, 0
        self._errands = Errands()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="drops", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    # -- from other threads ----------------------------------------------------------------

    def jobs(self, added: Iterable[str], gone: Iterable[str]) -> None:
        """Take the folders of these jobs in, or leave them alone from now on."""
        added, gone = list(added), list(gone)
        self._errands.post(lambda: self._jobs(added, gone))

    def taken(self, results: list[Taken]) -> None:
        """What became of a group of loads; what is said here is on disk."""
        self._errands.post(lambda: self._settle(results))

    def close(self) -> None:
        """End the thread after what it is at."""
        self._closing = True
        self._errands.wake()
        if self._thread.is_alive():
            self._thread.join(5)
        self._clearing.close()

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            poll = select.poll()
            poll.register(self._inotify, select.POLLIN)
            poll.register(self._errands, select.POLLIN)
            while not self._closing:
                poll.poll(self._wait_ms())
                self._turn()
        except BaseException as error:
            self._fatal(error)
            raise

    def _turn(self) -> None:
        self._errands.run()
        self._listen()
        now = time.monotonic()
        for box in list(self._boxes.values()):
            if box.look_at <= now or self._is_due(box, now):
                self._guarded(box, lambda box=box: self._attend(box, now))  # type: ignore[misc]

    def _is_due(self, box: Box, now: float) -> bool:
        if self._under_way >= UNDER_WAY:
            return False
        at = box.next_at()
        return at is not None and at <= now

    def _wait_ms(self) -> float:
        until = [box.look_at for box in self._boxes.values()]
        if self._under_way < UNDER_WAY:
            until += [at for box in self._boxes.values() if (at := box.next_at()) is not None]
        now = time.monotonic()
        return max(0.0, min(until, default=now + LOOK_EVERY) - now) * 1000 + 1

    def _guarded(self, box: Box, work: Callable[[], None]) -> None:
        """What the disk refuses is tried again later, and said once."""
        try:
            work()
            if box.told == self._told:
                self._told = ""
            box.told = ""
        except OSError as error:
            text = f"{error.strerror or error}"
            if text not in (box.told, self._told):
                _log.warning("drops of job %s: %s: tried again every %.0f s", box.job, text, AGAIN)
            # what ails the disk ails a thousand folders: it is said of one of them
            box.told = self._told = text
            box.look_at = box.again_at = time.monotonic() + AGAIN

    # -- folders ---------------------------------------------------------------------------

    def _jobs(self, added: list[str], gone: list[str]) -> None:
        for job in gone:
            box = self._boxes.pop(job, None)
            if box is not None:
                self._unwatch(box)
            self._spool.leave(job)
        for job in added:
            if job not in self._boxes:
                box = self._boxes[job] = Box(job)
                self._guarded(box, lambda box=box: self._begin(box))  # type: ignore[misc]

    def _begin(self, box: Box) -> None:
        self._spool.make(box.job)
        self._watch(box)
        with self._spool.folder(box.job) as folder:
            for one in folder.unfinished():
                if one.key not in self._known:
                    box.again.append(one)
                elif not self._known[one.key]:
                    folder.remove(one)

    def _watch(self, box: Box) -> None:
        """Have changes told; where the kernel has no watch left, the folder is looked at often."""
        try:
            with self._spool.folder(box.job) as folder:
                # by its descriptor: no path is made of a job's name
                box.watch = self._inotify.add(b"/proc/self/fd/%d/." % folder.fd, _MASK)
            self._by_watch[box.watch] = box
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.ENOMEM):
                raise
            if self._told != _DEAF:
                _log.warning("drops of job %s: %s every %.0f s", box.job, _DEAF, LOOK_REMOTE)
            self._told = _DEAF

    def _unwatch(self, box: Box) -> None:
        if box.watch >= 0:
            self._inotify.remove(box.watch)
            self._by_watch.pop(box.watch, None)
            box.watch = -1

    def _listen(self) -> None:
        now = time.monotonic()
        for seen in self._inotify.read():
            if seen.mask & inotify.OVERFLOW:
                for box in self._boxes.values():
                    box.look_at = now
                continue
            found = self._by_watch.get(seen.watch)
            if found is None:
                continue
            if seen.mask & (inotify.IGNORED | inotify.DELETE_SELF):
                # somebody removed the folder: the next look makes it anew
                self._by_watch.pop(seen.watch, None)
                found.watch, found.look_at = -1, now
            elif not is_left_alone(seen.name) and os.fsdecode(seen.name) not in FOLDERS:
                found.expect(seen.name, seen.mask, now)

    # -- claiming --------------------------------------------------------------------------

    def _attend(self, box: Box, now: float) -> None:
        with self._open(box) as folder:
            if box.look_at <= now:
                poor = self._remote or box.watch < 0
                # not all folders at the same moment
                spread = 1 + hash(box.job) % 100 / 100
                box.look_at = now + (LOOK_REMOTE if poor else LOOK_EVERY * spread)
                for name in folder.drops():
                    box.found(name, now)
            if self._under_way < UNDER_WAY and box.again and box.again_at <= now:
                count = min(len(box.again), BATCH)
                self._load(box, folder, [box.again.popleft() for _ in range(count)])
            while self._under_way < UNDER_WAY:
                ready = box.ready(now, BATCH)
                if not ready:
                    return
                claimed = [one for name in ready if (one := self._claim(box, folder, name, now))]
                if claimed:
                    self._make_sure(box, folder, claimed)

    def _make_sure(self, box: Box, folder: JobFolder, claimed: list[Claimed]) -> None:
        """A rename that a power cut took back would make a second run of a file."""
        try:
            folder.sync()
        except OSError:
            for one in claimed:
                self._later(box, one, "")
            raise
        self._load(box, folder, claimed)

    def _open(self, box: Box) -> AbstractContextManager[JobFolder]:
        if box.watch < 0:
            self._spool.make(box.job)
            self._watch(box)
        return self._spool.folder(box.job)

    def _claim(self, box: Box, folder: JobFolder, name: bytes, now: float) -> Claimed | None:
        """The file, claimed where it is complete; else it is looked at again, or waited for."""
        look = folder.look(name)
        if look is None:
            del box.awaited[name]
            return None
        if not box.is_complete(name, look, now):
            return None
        try:
            return folder.claim(name)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                box.wait(name, Awaited(now + AGAIN, How.FOUND))
            _log.warning("drop %r of job %s: not taken: %s", name, box.job, error.strerror)
            return None

    # -- queueing --------------------------------------------------------------------------

    def _load(self, box: Box, folder: JobFolder, claimed: list[Claimed]) -> None:
        ready: list[Load] = []
        for one in claimed:
            try:
                made = load(folder, one, self._most(), self._keep, self._kept.get(one.key))
            except FileNotFoundError:
                continue
            except RefusedDropError as error:
                self._reject(box, folder, one, str(error))
                continue
            except (NotYetError, RefusedError, OSError) as error:
                self._later(box, one, str(error))
                continue
            if made.held is None:
                ready.append(made)
            else:
                self._sync_beside(box, made)
        if ready:
            self._under_way += 1
            self._deliver(ready)

    def _sync_beside(self, box: Box, made: Load) -> None:
        """Have a large file synced, which may take minutes, and then queued."""
        if self._syncing >= _SYNCS:
            self._later(box, made.claimed, "")
            return
        self._syncing += 1

        def work() -> None:
            error: OSError | None = None
            try:
                with self._spool.folder(made.job) as folder:
                    make_durable(folder, made.claimed)
            except OSError as found:
                error = found
            self._errands.post(lambda: self._synced(box, made, error))

        threading.Thread(target=work, name=f"drop {made.claimed.key[:8]}", daemon=True).start()

    def _synced(self, box: Box, made: Load, error: OSError | None) -> None:
        self._syncing -= 1
        if error is not None:
            self._later(box, made.claimed, str(error))
            return
        self._under_way += 1
        self._deliver([made])

    def _later(self, box: Box, one: Claimed, why: str) -> None:
        if why and why != box.told:
            _log.warning("drops of job %s: wait: %s", box.job, why)
            box.told = why
        box.again.append(one)
        box.again_at = time.monotonic() + (AGAIN if why else 0.5)

    def _settle(self, results: list[Taken]) -> None:
        """Remove what is queued, put aside what is refused, keep what has to wait."""
        self._under_way -= 1
        jobs: dict[str, list[Taken]] = {}
        for taken in results:
            jobs.setdefault(taken.load.job, []).append(taken)
        for job, mine in jobs.items():
            box = self._boxes.get(job) or Box(job)
            self._guarded(box, lambda job=job, box=box, mine=mine: self._clear(job, box, mine))  # type: ignore[misc]

    def _clear(self, job: str, box: Box, mine: list[Taken]) -> None:
        done: list[tuple[Claimed, bool]] = []
        with self._spool.folder(job) as folder:
            for load_, run, refused, later in mine:
                self._keep_body(load_, waits=run is None and not refused, used=run is not None)
                if refused:
                    self._reject(box, folder, load_.claimed, refused)
                elif run is None:
                    self._later(box, load_.claimed, later)
                elif load_.held is None:
                    done.append((load_.claimed, load_.settings is not None))
        self._clearing.remove(job, done)

    def _keep_body(self, made: Load, *, waits: bool, used: bool) -> None:
        """A body file that was made of a drop is made once, and is not left where it is refused."""
        if not isinstance(made.payload, Body):
            return
        if waits:
            self._kept[made.claimed.key] = made.payload
            return
        self._kept.pop(made.claimed.key, None)
        if not used:
            self._discard(made.payload.name)

    def _reject(self, box: Box, folder: JobFolder, one: Claimed, reason: str) -> None:
        try:
            folder.reject(one, f"{os.fsdecode(one.given)}: {reason}\n")
        except FileNotFoundError:
            return
        except OSError as error:
            self._later(box, one, f"a refused file cannot be put aside: {error.strerror}")
            return
        now = time.monotonic()
        if now >= self._minute:
            self._minute, self._logged = now + 60, 0
        self._logged += 1
        if self._logged <= _MOST_LOGGED:
            _log.warning("drop %r of job %s: refused: %s", one.given, box.job, reason)
