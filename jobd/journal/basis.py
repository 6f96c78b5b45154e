"""What a start builds on: the newest sound snapshot, and the segments that go on from it.

DURABILITY R2. A damaged snapshot is no loss as long as the one before it and the segments behind
that are there; so the segments are kept from the older of two snapshots on (:mod:`retention`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from jobd.journal.fsutil import Fs
from jobd.journal.segment import (
    BadSegmentError,
    Header,
    first_lsn_of,
    read_header,
    segment_name,
)
from jobd.journal.snapshot import BadSnapshotError, Snapshot, lsn_of, survey


@dataclass(frozen=True, slots=True)
class Bad:
    """A snapshot that is damaged: its file, where, and a sentence's end that says in what."""

    name: str
    offset: int
    why: str


@dataclass(frozen=True, slots=True)
class Basis:
    """The newest sound snapshot, or None; the damaged ones above it; the names of those below."""

    snapshot: Snapshot | None
    bad: tuple[Bad, ...]
    older: tuple[str, ...]

    @property
    def lsn(self) -> int:
        """The last batch that the snapshot tells of; 0 where there is none."""
        return self.snapshot.lsn if self.snapshot is not None else 0

    def misfit(self, header: Header) -> str | None:
        """Why the segment with that header cannot be the first one behind it, or None."""
        damaged = "".join(f"; snapshot {bad.name} {bad.why}" for bad in self.bad)
        link = header.predecessor
        if self.snapshot is None:
            if link is not None:
                return f"the segment before it, {segment_name(link.first_lsn)}, is missing{damaged}"
            return None if header.first_lsn == 1 else f"the segments before it are missing{damaged}"
        if header.store != self.snapshot.header.store:
            return f"the segment is of another queue (store {header.store.hex()})"
        if header.first_lsn != self.lsn + 1:
            return f"{segment_name(self.lsn + 1)} is missing{damaged}"
        if link != self.snapshot.after:
            return f"it does not follow what snapshot {self.snapshot.name} tells of{damaged}"
        return None


@dataclass(frozen=True, slots=True)
class OldSegment:
    """A segment that the snapshot tells of too: kept for the case that it is damaged later."""

    name: str
    header: Header
    end: int


def find_basis(fs: Fs, directory: str, names: list[str], newest: int | None = None) -> Basis:
    """The basis in a directory that holds `names`; of snapshots up to lsn `newest` where given.

    Only as many are read as it takes to find a sound one, and that one whole. Raises VersionError
    for one of a format that is not known (DURABILITY R12): what is behind it may be gone.
    """
    found = [
        name
        for name in reversed(names)
        if (lsn := lsn_of(name)) is not None and (newest is None or lsn <= newest)
    ]
    bad = []
    for place, name in enumerate(found):
        try:
            snapshot = survey(fs, os.path.join(directory, name))
        except BadSnapshotError as error:
            bad.append(Bad(name, error.offset, str(error)))
        else:
            return Basis(snapshot, tuple(bad), tuple(found[place + 1 :]))
    return Basis(None, tuple(bad), ())


def old_segments(fs: Fs, directory: str, names: list[str], first: Header) -> tuple[OldSegment, ...]:
    """The segments before the one with header `first`, without a gap, oldest first.

    What does not fit any more ends them: a start does not need them.
    """
    found: list[OldSegment] = []
    after = first
    for name in sorted(names, reverse=True):
        link = after.predecessor
        if (first_lsn_of(name) or after.first_lsn) >= after.first_lsn:
            continue
        if link is None or name != segment_name(link.first_lsn):
            break
        try:
            fd = fs.open(os.path.join(directory, name), os.O_RDONLY)
            try:
                header = read_header(fs, fd, name)
                size = fs.size(fd)
            finally:
                fs.close(fd)
        except (OSError, BadSegmentError):
            break
        if header.store != after.store or size < link.length:
            break
        found.append(OldSegment(name, header, link.length))
        after = header
    return tuple(reversed(found))
