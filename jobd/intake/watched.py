"""One watched path: what has happened there and is not told yet, and how far all is dealt with.

The mark is a moment before which, by the files' own ctimes, nothing is left to be told. It never
passes a file that waits to be told or is still being written; those that were told and lie behind
it are known by their numbers.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from jobd.core.watching import WatchSpec
from jobd.intake.marks import number_of

#: files that were told and are known by number; more are told twice after a crash, rather than not
MOST_SEEN = 4096
#: changes in one group, and in one run where they are batched
GROUP, BATCH = 200, 1000
#: a change is told though there is no quiet, after so many times the quiet, and seconds at least
_TIMES, _LEAST = 10, 5.0


class Waiting(NamedTuple):
    """A change that is not told: since when (monotonic s), and when it is due."""

    event: str
    first: float
    due: float
    #: the file's own ctime, 0 where there is no file
    changed_ns: int
    before: bytes | None = None


class Group(NamedTuple):
    """Changes that are told together, and where the watch stands then."""

    key: tuple[int, str]
    payloads: list[bytes]
    mark: int
    seen: list[int]


@dataclass(slots=True)
class Watched:
    """One watch. For the thread of the paths alone."""

    key: tuple[int, str]
    job: str
    spec: WatchSpec
    mark: int
    #: numbers of files that were told, with their ctimes where known
    seen: dict[int, int]
    waiting: dict[bytes, Waiting] = field(default_factory=dict)
    #: files that are being written: their ctimes when that was noticed
    unclosed: dict[bytes, int] = field(default_factory=dict)
    #: what is under way to the loop
    group: Group | None = None
    told: dict[int, int] = field(default_factory=dict)
    again_at: float | None = None
    look_at: float = 0.0
    said: str = ""

    @property
    def root(self) -> bytes:
        """The folder."""
        return os.fsencode(self.spec.path)

    @property
    def debounce(self) -> float:
        """In seconds."""
        return self.spec.debounce / 1000

    def means(self, path: bytes) -> bool:
        """Whether the watch is about a file of that name."""
        return fnmatchcase(os.fsdecode(os.path.basename(path)), self.spec.pattern)

    # -- what happens ----------------------------------------------------------------------

    def note(self, path: bytes, event: str, now: float, before: bytes | None = None) -> None:
        """Something has happened to a file; of several in one quiet moment the last is told."""
        if event == "deleted":
            self.unclosed.pop(path, None)
            if path in self.waiting and "deleted" not in self.spec.events:
                del self.waiting[path]
        if event not in self.spec.events or not self.means(path):
            return
        changed = 0
        if event != "deleted":
            found = look(path)
            if found is None:
                return
            changed = found.st_ctime_ns
        old = self.waiting.get(path)
        first = old.first if old is not None else now
        least = min(old.changed_ns, changed) if old is not None and old.changed_ns else changed
        due = min(now + self.debounce, first + max(_TIMES * self.debounce, _LEAST))
        self.waiting[path] = Waiting(event, first, due, least, before)

    def is_written(self, path: bytes) -> None:
        """A file is being written: the mark stays before it until it is closed."""
        if path not in self.unclosed and "closed" in self.spec.events and self.means(path):
            found = look(path)
            if found is not None:
                self.unclosed[path] = found.st_ctime_ns

    def is_told(self, path: bytes, changed_ns: int) -> bool:
        """Whether this state of a file was told, which is remembered again."""
        number = number_of(path, changed_ns)
        if number in self.seen:
            self.seen[number] = changed_ns
            return True
        return path in self.waiting

    # -- what is told ----------------------------------------------------------------------

    def due_at(self) -> float | None:
        """When something is to be told, or told again."""
        if self.group is not None:
            return self.again_at
        if not self.waiting:
            return None
        moments = [one.due for one in self.waiting.values()]
        if not self.spec.batch:
            return min(moments)
        # all of them quiet; but the first has waited for long enough at some time
        first = min(one.first for one in self.waiting.values())
        return min(max(moments), first + max(_TIMES * self.debounce, _LEAST))

    def next_group(self, now: float) -> Group | None:
        """The changes that are due, to be told; they count as told once that has succeeded."""
        at = self.due_at()
        if self.group is not None or at is None or at > now:
            return None
        most = BATCH if self.spec.batch else GROUP
        due = {path: one for path, one in self.waiting.items() if self.spec.batch or one.due <= now}
        rows: list[dict[str, Any]] = []
        newest = self.mark
        self.told = {}
        for path, one in list(due.items())[:most]:
            del self.waiting[path]
            found = look(path) if one.event != "deleted" else None
            if one.event != "deleted" and found is None:
                continue  # it has gone again
            rows.append(_row(path, one))
            if found is not None:
                newest = max(newest, found.st_ctime_ns)
                self.told[number_of(path, found.st_ctime_ns)] = found.st_ctime_ns
        if not rows:
            return None
        self.group = self._group(rows, newest)
        return self.group

    def _group(self, rows: list[dict[str, Any]], newest: int) -> Group:
        open_ = [one.changed_ns for one in self.waiting.values() if one.changed_ns]
        open_ += self.unclosed.values()
        mark = max(self.mark, min([newest, *open_]))
        known = {**self.seen, **self.told}
        kept = [number for number, changed in known.items() if changed >= mark]
        payloads = [_payload(rows)] if self.spec.batch else [_payload(row) for row in rows]
        return Group(self.key, payloads, mark, kept[-MOST_SEEN:])

    def went(self) -> None:
        """The group that was under way is queued for good."""
        if self.group is not None:
            known = {**self.seen, **self.told}
            self.seen = {number: known[number] for number in self.group.seen}
            self.mark = self.group.mark
        self.group, self.again_at = None, None
        self.told = {}


def look(path: bytes) -> os.stat_result | None:
    """A plain file as it is; None for what is none."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def files(root: bytes, deep: bool) -> Iterator[tuple[bytes, os.stat_result | None]]:
    """What lies in a folder, no link followed: folders with None, each before what is in it.

    Raises OSError where the folder itself cannot be read; below it what vanishes is left out.
    """
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        yield folder, None
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            if deep:
                                waiting.append(entry.path)
                        elif entry.is_file(follow_symlinks=False):
                            yield entry.path, entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
        except OSError:
            if folder == root:
                raise


def _row(path: bytes, one: Waiting) -> dict[str, Any]:
    row = {"event": one.event, "path": os.fsdecode(path)}
    if one.before is not None:
        row["from"] = os.fsdecode(one.before)
    return row


def _payload(value: Any) -> bytes:
    # escaped, so that a name that is no UTF-8 can be told: its bytes are \udc80 to \udcff
    return json.dumps(value).encode()
