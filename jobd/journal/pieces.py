"""All that can still be read of a damaged queue, in the order of writing; changes nothing.

Where `examine` stops at the first bad place, this goes on behind it (DURABILITY R8): by the
checksum of each record, of each record's frame, and of each batch's header.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from jobd.journal.basis import find_basis
from jobd.journal.damage import unreadable
from jobd.journal.fsutil import Fs
from jobd.journal.held import Held, Source
from jobd.journal.segment import HEADER_BYTES, BadSegmentError, Header, first_lsn_of, read_header
from jobd.journal.wreck import Gap, Piece, Wound, Wreck

__all__ = ["Gap", "Piece", "Reading", "Wound"]


class _Segment(NamedTuple):
    """One segment file, and what is believed of its header. `mended`: it had to be guessed at."""

    name: str
    header: Header
    known: bool


class Reading:
    """What is left of the queue in `directory`, read from the disk as often as it is asked for.

    `wounds` are what is wrong with files as a whole. Raises VersionError for a format that this
    program cannot read, ConfigError and RefusedError as opening the queue does.
    """

    def __init__(self, fs: Fs, directory: str) -> None:
        self._fs = fs
        self._directory = directory
        self.wounds: list[Wound] = []
        names = fs.listdir(directory)
        #: the newest sound snapshot: what lies before it is not read
        self.basis = find_basis(fs, directory, names)
        for bad in self.basis.bad:
            self.wounds.append(Wound(bad.name, bad.offset, f"the snapshot {bad.why}"))
        self._segments = self._sorted([name for name in names if first_lsn_of(name) is not None])
        #: the queue's identity
        self.store = self._store()

    def pieces(self) -> Iterator[Piece | Gap | Wound]:
        """Every record behind the basis that can be read or named, and what lies between them."""
        lsn, before = self.basis.lsn, None
        for index, (name, header, known) in enumerate(self._segments):
            if header.first_lsn <= self.basis.lsn:
                continue
            if known and header.store != self.store:
                yield Gap(name, 0, 0, "is a segment of another queue; nothing of it was taken")
                continue
            if before is not None and header.first_lsn == before:
                yield self._second(name)
                continue
            if header.first_lsn > lsn + 1:
                text = f"batches {lsn + 1} to {header.first_lsn - 1} are missing before it"
                yield Gap(name, 0, 0, text)
            data, wounds = self._data(name)
            yield from wounds
            following = self._segments[index + 1 :]
            wreck = Wreck(name, header, data, _end(header, following), last=not following)
            yield from wreck.pieces()
            if not known and wreck.lsn < header.first_lsn:
                yield Gap(name, 0, len(data), "nothing in it can be read")
            lsn, before = max(lsn, wreck.lsn), header.first_lsn

    def _second(self, name: str) -> Gap | Wound:
        """A segment that is there twice: whether it has taken the place of another one."""
        text = "is a second segment for the same batches"
        place = first_lsn_of(name)
        if any(segment.header.first_lsn == place for segment in self._segments):
            return Wound(name, 0, text)
        return Gap(name, 0, 0, f"{text}, and what stood here is lost")

    # -- the segments' headers -------------------------------------------------------------

    def _sorted(self, names: list[str]) -> list[_Segment]:
        found = [segment for name in names if (segment := self._segment(name)) is not None]
        return sorted(found, key=lambda segment: segment.header.first_lsn)

    def _segment(self, name: str) -> _Segment | None:
        source = self._open(name)
        with source:
            head, _ = source.read(0, HEADER_BYTES)
            try:
                return _Segment(name, read_header(Held(head), 0, name), True)
            except BadSegmentError as error:
                why = str(error)
            self.wounds.append(Wound(name, 0, f"the segment {why}"))
            mended = Held.mended(head)
            if mended is not None:
                # its own word, not the name's, tells where it belongs
                try:
                    return _Segment(name, mended.header(), True)
                except BadSegmentError:
                    pass
            salt = self._salt(source)
        return _Segment(name, Header(b"", salt or 0, first_lsn_of(name) or 1, 0, None), False)

    @staticmethod
    def _salt(source: Source) -> int | None:
        """The salt that the segment's batches bear, where its header is lost."""
        data, _ = source.read(0, source.size)
        found = Counter(Held(data).salts())
        return found.most_common(1)[0][0] if found else None

    def _store(self) -> bytes:
        if self.basis.snapshot is not None:
            return self.basis.snapshot.header.store
        found = Counter(segment.header.store for segment in self._segments if segment.known)
        return found.most_common(1)[0][0] if found else os.urandom(16)

    def _data(self, name: str) -> tuple[bytes, list[Wound]]:
        with self._open(name) as source:
            data, lost = source.read(0, source.size)
        return data, [Wound(name, at, "cannot be read from the disk") for at in lost]

    def _open(self, name: str) -> Source:
        try:
            return Source(self._fs, os.path.join(self._directory, name))
        except OSError as error:
            raise unreadable(self._directory, name, 0, error) from error


def _end(header: Header, following: list[_Segment]) -> tuple[int, int] | None:
    """Where a segment's data end, and its last lsn, by the word of the next one; or None."""
    link = following[0].header.predecessor if following else None
    if link is None or link.first_lsn != header.first_lsn:
        return None
    return link.length, link.last_lsn
