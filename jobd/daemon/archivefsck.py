"""What `jobd fsck` says of the archive: each file read to its end, what is damaged by its name."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from jobd.core.statements import TYPE_OF, RevisionStands, RunStands
from jobd.history.index import Index, IndexBusyError, IndexUnusableError
from jobd.journal.archive import Archive, Part
from jobd.journal.fsutil import Fs
from jobd.journal.live import NUMBER_SHIFT, OFFSET_MASK
from jobd.journal.record import FRAME_BYTES

_RUN, _REVISION = TYPE_OF[RunStands], TYPE_OF[RevisionStands]


def look(
    fs: Fs, folder: str, index_path: str, store: bytes, live: Callable[[], Container[int]]
) -> dict[str, Any]:
    """The archive in `folder`, of the queue `store`: `sound files bytes runs damaged unnamed
    unreadable`.

    `damaged` has a row a record: file, offset, and the `run`, or the `job` (by number) and
    `revision`, whose it is. The last batch of a file may be what a crash left of it, and then its
    runs are in memory (`live`, asked only where that matters) or archived once more: that is no
    damage. Where the index knows more of a file than can be read, it names the runs. Changes
    nothing. Raises OSError.
    """
    try:
        archive = Archive(fs, folder, store, change=False)
    except FileNotFoundError:
        return {"sound": True, "files": [], "bytes": 0, "runs": 0, "damaged": [], "unnamed": [],
                "unreadable": []}  # fmt: skip
    with _index(index_path, store) as index:
        found = _Findings(archive, index)
        for number in archive.numbers():
            for part in archive.scan(number, archive.start_of(number)):
                found.take(number, part)
    return found.told(live)


@contextmanager
def _index(path: str, store: bytes) -> Iterator[Index | None]:
    """The index, as a copy that may be opened: an open one is written to. None where none is."""
    with tempfile.TemporaryDirectory(prefix="jobd-fsck-") as copy:
        index = None
        with suppress(OSError, IndexBusyError, IndexUnusableError):
            shutil.copyfile(path, os.path.join(copy, "index"))
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{path}-journal", os.path.join(copy, "index-journal"))
            index = Index(os.path.join(copy, "index"), store)
        try:
            yield index
        finally:
            if index is not None:
                index.close()


class _Findings:
    """What a scan of the archive met."""

    def __init__(self, archive: Archive, index: Index | None) -> None:
        self._archive, self._index = archive, index
        self._read_to: dict[int, int] = {}
        if index is not None:
            with suppress(IndexBusyError, IndexUnusableError):
                self._read_to = {row.number: row.offset for row in index.segments().values()}
        self._intact: set[int] = set()
        self._runs: dict[int, int] = dict.fromkeys(archive.numbers(), 0)
        #: damage by segment: the offset of the first
        self._hurt: dict[int, int] = {}
        #: rows of records that cannot be read, and whether each may never have been promised
        self._damaged: list[tuple[int, bool, dict[str, Any]]] = []
        self._unnamed: list[dict[str, Any]] = []

    def take(self, number: int, part: Part) -> None:
        """Take in one part of a segment."""
        runs = {one.id for one in part.records if one.type == _RUN}
        self._intact |= runs
        self._runs[number] += len(runs)
        hole = part.hole
        if hole is None:
            return
        file = os.path.basename(self._archive.path_of(number) or "")
        # what the index has read of a file was durable: then it is no crash's doing
        doubtful = hole.last and self._read_to.get(number, 0) <= hole.start
        if not doubtful:
            self._hurt.setdefault(number, hole.start)
        named = set()
        for one in part.damaged:
            row: dict[str, Any] = {"file": file, "offset": one.where & OFFSET_MASK}
            if one.type == _RUN:
                named.add(one.id)
                self._damaged.append((number, doubtful, {**row, "run": one.id}))
            elif one.type == _REVISION:
                told = {**row, "job": one.id, "revision": one.revision}
                self._damaged.append((number, doubtful, told))
        others = self._known(number, hole.start, hole.stop)
        for run, place in sorted(others.items()):
            if run not in runs and run not in named:
                told = {"file": file, "offset": place & OFFSET_MASK, "run": run}
                self._damaged.append((number, doubtful, told))
        if hole.unread >= FRAME_BYTES and not others and not doubtful:
            self._unnamed.append({"file": file, "offset": hole.start, "bytes": hole.unread})

    def _known(self, number: int, start: int, stop: int) -> dict[int, int]:
        if self._index is None or self._read_to.get(number, 0) < stop:
            return {}
        base = number << NUMBER_SHIFT
        with suppress(IndexBusyError, IndexUnusableError):
            return self._index.inside(number, base + start, base + stop)
        return {}

    def told(self, live: Callable[[], Container[int]]) -> dict[str, Any]:
        """All of it, as :func:`look` gives it."""
        archive, there = self._archive, None
        damaged = []
        for number, doubtful, row in self._damaged:
            run = row.get("run")
            if run in self._intact or (doubtful and run is None):
                continue
            if doubtful:
                there = live() if there is None else there
                if run in there:
                    continue
            self._hurt.setdefault(number, row["offset"])
            damaged.append(row)
        files = [
            {
                "file": os.path.basename(archive.path_of(number) or ""),
                "bytes": archive.size(number),
                "runs": self._runs[number],
                "damage": f"at offset {self._hurt[number]}" if number in self._hurt else None,
            }
            for number in archive.numbers()
        ]
        return {
            "sound": not self._hurt and not archive.problems,
            "files": files,
            "bytes": archive.bytes(),
            "runs": len(self._intact),
            "damaged": damaged,
            "unnamed": self._unnamed,
            "unreadable": archive.problems,
        }


def lines(found: dict[str, Any]) -> list[str]:
    """What :func:`look` found, in words: a line each."""
    if not found["files"] and found["sound"]:
        return []
    word = "sound" if found["sound"] else "damaged"
    made = [
        f"archive: {word}: {found['runs']} runs in {len(found['files'])} files, "
        f"{found['bytes']} bytes"
    ]
    made += found["unreadable"]
    for row in found["damaged"]:
        what = f"run {row['run']}" if "run" in row else f"a definition of job number {row['job']}"
        made.append(f"damaged: {what}, in archive/{row['file']} at offset {row['offset']}")
    for row in found["unnamed"]:
        made.append(
            f"damaged: {row['bytes']} bytes of archive/{row['file']} from offset {row['offset']}: "
            "what they held cannot be named"
        )
    for row in found["files"]:
        if row["damage"] and not any(one["file"] == row["file"] for one in found["damaged"]):
            made.append(f"archive/{row['file']}: damaged {row['damage']}: no run is lost by that")
    if not found["sound"]:
        made.append(
            "all others are intact and are shown as before; nothing of the archive is needed to "
            "start, and its files are left as they are, until they are too old"
        )
    return made
