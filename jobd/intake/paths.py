"""Watches paths: what happens there is gathered until it is quiet, and told the loop in groups.

One thread for all watches of all jobs. After a start, and after the kernel lost events, the folders
are looked through for what has changed since each watch's mark.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import closing

from jobd.core.watching import WatchSpec
from jobd.intake import inotify
from jobd.intake.errands import Errands
from jobd.intake.inotify import Seen
from jobd.intake.marks import happened
from jobd.intake.watched import Group, Watched, files, look
from jobd.intake.writers import is_remote, is_written

_log = logging.getLogger(__name__)

#: seconds until what could not be done is tried again; between two looks where the kernel tells
#: nothing; between two looks at files that are being written
AGAIN, LOOK_REMOTE, LOOK_UNCLOSED = 2.0, 5.0, 10.0
#: seconds for which events gather before they are read: who writes much makes one of each write
_GATHER = 0.05
_MASK = (
    inotify.CREATE
    | inotify.MODIFY
    | inotify.CLOSE_WRITE
    | inotify.MOVED_FROM
    | inotify.MOVED_TO
    | inotify.DELETE
    | inotify.DELETE_SELF
    | inotify.MOVE_SELF
)

#: a watch as the loop knows it: id of the job and name, the job's name, and where it stands
Standing = tuple[tuple[int, str], str, WatchSpec, int, list[int]]


class Paths:
    """The thread. `deliver` hands a group to the loop, which answers by :meth:`went`."""

    def __init__(
        self, deliver: Callable[[Group], None], fatal: Callable[[BaseException], None]
    ) -> None:
        self._deliver = deliver
        self._fatal = fatal
        self._inotify = inotify.listen()
        #: watches of which the kernel tells nothing, or not all: too many folders
        self._deaf: set[tuple[int, str]] = set()
        self._watches: dict[tuple[int, str], Watched] = {}
        #: folders by the kernel's number: the path that each watch knows it by
        self._folders: dict[int, dict[tuple[int, str], bytes]] = {}
        self._moves: dict[int, bytes] = {}
        self._unclosed_at = 0.0
        self._errands = Errands()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="paths", daemon=True)
        self._thread.start()

    # -- from other threads ----------------------------------------------------------------

    def watch(self, standing: list[Standing]) -> None:
        """These are all watches from now on; one that is known goes on as it is."""
        self._errands.post(lambda: self._take(standing))

    def went(self, key: tuple[int, str], later: str = "") -> None:
        """The group of a watch is queued for good; or not yet, for the reason `later`."""
        self._errands.post(lambda: self._went(key, later))

    def close(self) -> None:
        """End the thread after what it is at."""
        self._closing = True
        self._errands.wake()
        self._thread.join(5)

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with closing(self._inotify):
                poll = select.poll()
                poll.register(self._inotify, select.POLLIN)
                poll.register(self._errands, select.POLLIN)
                while not self._closing:
                    if any(fd == self._inotify.fileno() for fd, _ in poll.poll(self._wait_ms())):
                        time.sleep(_GATHER)
                    self._turn()
        except BaseException as error:
            self._fatal(error)
            raise

    def _turn(self) -> None:
        self._errands.run()
        now = time.monotonic()
        for seen in self._inotify.read():
            self._happened(seen, now)
        self._moved_out(now)
        for watch in list(self._watches.values()):
            if watch.look_at <= now:
                self._look_through(watch, now)
            if watch.unclosed and self._unclosed_at <= now:
                self._look_at_unclosed(watch, now)
            self._tell(watch, now)
        if self._unclosed_at <= now:
            self._unclosed_at = now + LOOK_UNCLOSED

    def _wait_ms(self) -> float | None:
        until = [watch.look_at for watch in self._watches.values()]
        until += [at for watch in self._watches.values() if (at := watch.due_at()) is not None]
        if any(watch.unclosed for watch in self._watches.values()):
            until.append(self._unclosed_at)
        at = min(until, default=None)
        if at is None or at == float("inf"):
            return None
        return max(0.0, at - time.monotonic()) * 1000 + 1

    def _take(self, standing: list[Standing]) -> None:
        now = {key: (job, spec, mark, seen) for key, job, spec, mark, seen in standing}
        for key in list(self._watches):
            if key not in now or now[key][1] != self._watches[key].spec:
                self._forget(self._watches.pop(key))
        for key, (job, spec, mark, seen) in now.items():
            if key not in self._watches:
                self._watches[key] = Watched(key, job, spec, mark, dict.fromkeys(seen, mark))

    def _forget(self, watch: Watched, below: bytes | None = None) -> None:
        """Let go of its folders, or of those at `below` and under it."""
        for number, known in list(self._folders.items()):
            path = known.get(watch.key)
            inside = path is not None and (
                below is None or path == below or path.startswith(below + b"/")
            )
            if inside:
                del known[watch.key]
            if not known:
                del self._folders[number]
                self._inotify.remove(number)

    # -- what the kernel tells -------------------------------------------------------------

    def _happened(self, seen: Seen, now: float) -> None:
        if seen.mask & inotify.OVERFLOW:
            for watch in self._watches.values():
                watch.look_at = now
                watch.unclosed.clear()
            return
        for key, folder in list(self._folders.get(seen.watch, {}).items()):
            watch = self._watches[key]
            if seen.mask & (inotify.IGNORED | inotify.DELETE_SELF | inotify.MOVE_SELF):
                if folder == watch.root:
                    watch.look_at = now  # it may be made anew
                if seen.mask & inotify.IGNORED:
                    self._folders[seen.watch].pop(key, None)
                elif seen.mask & inotify.MOVE_SELF and folder == watch.root:
                    self._forget(watch)
                continue
            path = folder + b"/" + seen.name
            if seen.mask & inotify.IS_FOLDER:
                self._folder_happened(watch, path, seen.mask, now)
            else:
                self._file_happened(watch, path, seen, now)
        if not self._folders.get(seen.watch, True):
            del self._folders[seen.watch]

    def _folder_happened(self, watch: Watched, path: bytes, mask: int, now: float) -> None:
        if not watch.spec.recursive:
            return
        if mask & inotify.MOVED_FROM:
            self._forget(watch, path)
        elif mask & (inotify.CREATE | inotify.MOVED_TO):
            # what lay in it before it was watched would be missed
            self._guarded(
                watch, lambda: self._enter(watch, path, now, moved=bool(mask & inotify.MOVED_TO))
            )

    def _file_happened(self, watch: Watched, path: bytes, seen: Seen, now: float) -> None:
        if seen.mask & inotify.CREATE:
            watch.is_written(path)
            watch.note(path, "created", now)
        elif seen.mask & inotify.MODIFY:
            watch.is_written(path)
        elif seen.mask & inotify.CLOSE_WRITE:
            watch.unclosed.pop(path, None)
            watch.note(path, "closed", now)
        elif seen.mask & inotify.MOVED_FROM:
            self._moves[seen.cookie] = path
        elif seen.mask & inotify.MOVED_TO:
            before = self._moves.pop(seen.cookie, None)
            if before is not None:
                self._renamed(watch, before, path)
            watch.note(path, "moved", now, before)
        elif seen.mask & inotify.DELETE:
            watch.note(path, "deleted", now)

    @staticmethod
    def _renamed(watch: Watched, before: bytes, path: bytes) -> None:
        """What was to be told of a file is told of it under its new name."""
        if before in watch.unclosed:
            watch.unclosed[path] = watch.unclosed.pop(before)
        waiting = watch.waiting.pop(before, None)
        if waiting is not None and watch.means(path):
            watch.waiting[path] = waiting

    def _moved_out(self, now: float) -> None:
        """A file that went and came nowhere that is watched is gone, as far as can be seen."""
        for path in self._moves.values():
            for watch in self._watches.values():
                inside = os.path.dirname(path) == watch.root or (
                    watch.spec.recursive and path.startswith(watch.root + b"/")
                )
                if inside:
                    watch.note(path, "deleted", now)
        self._moves.clear()

    # -- looking ---------------------------------------------------------------------------

    def _guarded(self, watch: Watched, work: Callable[[], None]) -> bool:
        try:
            work()
        except OSError as error:
            text = f"job {watch.job}: {watch.spec.path} cannot be watched: {error.strerror}"
            if text != watch.said:
                _log.warning("%s: tried again every %.0f s", text, AGAIN)
                watch.said = text
            watch.look_at = time.monotonic() + AGAIN
            return False
        watch.said = ""
        return True

    def _look_through(self, watch: Watched, now: float) -> None:
        """Watch all its folders, and find what has changed since its mark."""
        if self._guarded(watch, lambda: self._enter(watch, watch.root, now)):
            poor = watch.key in self._deaf or is_remote(watch.spec.path)
            watch.look_at = now + LOOK_REMOTE if poor else float("inf")

    def _enter(self, watch: Watched, root: bytes, now: float, *, moved: bool = False) -> None:
        for path, found in files(root, watch.spec.recursive):
            if found is None:
                self._listen_to(watch, path)
            elif watch.means(path):
                self._compare(watch, path, found, now, moved=moved)

    def _listen_to(self, watch: Watched, folder: bytes) -> None:
        try:
            number = self._inotify.add(folder, _MASK)
        except FileNotFoundError:
            if folder == watch.root:
                raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.ENOMEM):
                raise
            if watch.key not in self._deaf:
                _log.warning(
                    "job %s: %s: no inotify watch is left (fs.inotify.max_user_watches): it is "
                    "looked at every %.0f s",
                    *(watch.job, watch.spec.path, LOOK_REMOTE),
                )
            self._deaf.add(watch.key)
        else:
            self._folders.setdefault(number, {})[watch.key] = folder

    def _compare(
        self, watch: Watched, path: bytes, found: os.stat_result, now: float, *, moved: bool
    ) -> None:
        event = happened(path, found, watch.mark, watch.spec.events)
        if event is None and moved and "moved" in watch.spec.events:
            event = "moved"
        if event is None or watch.is_told(path, found.st_ctime_ns):
            return
        if event == "closed" and _is_open(path):
            watch.unclosed[path] = found.st_ctime_ns
            if "created" in watch.spec.events:
                watch.note(path, "created", now)
            return
        watch.note(path, event, now)

    @staticmethod
    def _look_at_unclosed(watch: Watched, now: float) -> None:
        """Files whose closing is not told: a second name of one, or the event was lost."""
        for path in list(watch.unclosed):
            if look(path) is None:
                del watch.unclosed[path]
            elif not _is_open(path):
                del watch.unclosed[path]
                watch.note(path, "closed", now)

    # -- telling ---------------------------------------------------------------------------

    def _tell(self, watch: Watched, now: float) -> None:
        group = watch.group
        if group is not None:
            if watch.again_at is None or watch.again_at > now:
                return
            watch.again_at = None
        else:
            group = watch.next_group(now)
        if group is not None:
            self._deliver(group)

    def _went(self, key: tuple[int, str], later: str) -> None:
        watch = self._watches.get(key)
        if watch is None:
            return
        if not later:
            watch.went()
            return
        watch.again_at = time.monotonic() + AGAIN
        if later != watch.said:
            _log.warning("job %s: changes of %s wait: %s", watch.job, watch.spec.path, later)
            watch.said = later


def _is_open(path: bytes) -> bool:
    """Whether somebody is known to have the file open for writing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return is_written(fd) is True
    finally:
        os.close(fd)
