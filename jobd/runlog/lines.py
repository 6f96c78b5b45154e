"""One line of a log file: how it is written and read. FORMAT.md tells it in words."""

from __future__ import annotations

import calendar
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobd.engine.base import Line, Stream

#: length of `2026-11-24T04:50:23.123456789Z`
STAMP = 30
#: length of what stands before the bytes of an output line: stamp, stream, flag, three spaces
PREFIX = STAMP + len(" stdout F ")
#: the same before a note of jobd's own
NOTE_PREFIX = STAMP + len(" jobd F ")
#: what one line may hold of an attempt's output, in bytes; the engine's own bound (16 KiB)
MAX_DATA = 16 << 10
#: what one line may take in the file, newline included
MAX_LINE = PREFIX + MAX_DATA + 1

#: how the note begins that ends the head of a log; resuming looks for it
FULL = b"full: "
#: how the note begins that stands where lines were left out
CUT = b"cut: "

_NOTE = b" jobd F "
_BLOCK = 64 << 10
_GARBAGE = 1 << 20
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a log file, read back. `stream` is `stdout`, `stderr` or `jobd`."""

    time_ns: int
    stream: str
    partial: bool
    data: bytes


def stamp(time_ns: int) -> bytes:
    """`time_ns` (nanoseconds UTC) as RFC 3339 with nine decimals; stamps sort as their times do."""
    second, rest = divmod(time_ns, _SECOND)
    return b"%b.%09dZ" % (_second(second), rest)


def _second(second: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()


def encode(batch: Sequence[Line]) -> list[bytes]:
    """Each line of `batch` as it stands in the file, newline included.

    Lines longer than MAX_DATA, or with a newline inside, come out as several: the file's form must
    hold whatever an engine hands over.
    """
    encoded: list[bytes] = []
    add = encoded.append
    stderr = Stream.STDERR
    known, prefix = -1, b""
    for line in batch:
        second, rest = divmod(line.time_ns, _SECOND)
        if second != known:
            known, prefix = second, _second(second)
        if line.partial:
            word = b"stderr P" if line.stream is stderr else b"stdout P"
        else:
            word = b"stderr F" if line.stream is stderr else b"stdout F"
        add(b"%b.%09dZ %b %b\n" % (prefix, rest, word, line.data))
    # two looks at the whole batch instead of two at each line: half the cost of encoding
    if encoded and (
        max(map(len, encoded)) > MAX_LINE or b"".join(encoded).count(b"\n") != len(encoded)
    ):
        return encode([piece for line in batch for piece in _pieces(line)])
    return encoded


def _pieces(line: Line) -> Iterator[Line]:
    rows = line.data.split(b"\n")
    for index, row in enumerate(rows):
        partial = line.partial if index == len(rows) - 1 else False
        start = 0
        while len(row) - start > MAX_DATA:
            yield Line(line.time_ns, line.stream, row[start : start + MAX_DATA], partial=True)
            start += MAX_DATA
        yield Line(line.time_ns, line.stream, row[start:], partial)


def encode_note(when: bytes, text: str) -> bytes:
    """A note of jobd itself as it stands in the file; `when` is a stamp."""
    data = " ".join(text.split()).encode("utf-8", "replace")[:MAX_DATA]
    return when + _NOTE + data + b"\n"


def is_note(line: bytes) -> bool:
    """Whether a line of the file is a note of jobd itself."""
    return line.startswith(_NOTE, STAMP)


def time_of(line: bytes) -> int | None:
    """The time of a line of the file in nanoseconds UTC; None where it has none."""
    text = line[:STAMP]
    try:
        day = (int(text[:4]), int(text[5:7]), int(text[8:10]))
        second = calendar.timegm((*day, int(text[11:13]), int(text[14:16]), int(text[17:19])))
        found = second * _SECOND + int(text[20:29])
        # int() takes signs and blanks: only what would be written so is a time
        return found if stamp(found) == text else None
    except (ValueError, OverflowError):
        return None


def parse(line: bytes) -> Entry | None:
    """A line of the file (without its newline) read back; None where it is not of the form."""
    when = time_of(line)
    words = line[STAMP:].split(b" ", 3)
    if when is None or len(words) != 4 or words[0] or words[2] not in (b"F", b"P"):
        return None
    if words[1] not in (b"stdout", b"stderr", b"jobd"):
        return None
    return Entry(when, words[1].decode("ascii"), words[2] == b"P", words[3])


def words_of(line: bytes) -> bytes:
    """What the attempt wrote, from an output line of the file without its newline."""
    data = line[PREFIX:]
    return data if line[PREFIX - 2 : PREFIX - 1] == b"P" else data + b"\n"


def backward(fd: int, end: int) -> Iterator[tuple[int, bytes]]:
    """`(offset, line without newline)` from `end` (behind a newline) back to the file's start.

    Holds one line and one block in memory; a megabyte without a newline is no line of ours and is
    passed over. Ends early where the file is cut meanwhile.
    """
    rest = b""
    while end > 0:
        begin = max(0, end - _BLOCK)
        block = os.pread(fd, end - begin, begin)
        if len(block) < end - begin:
            return
        data = block + rest
        # up to the first newline it belongs to a line that begins before this block
        cut = data.find(b"\n") + 1 if begin else 0
        rest = data[:cut] if cut <= _GARBAGE else b""
        lines = data[cut:].split(b"\n")
        offset = begin + len(data) - len(lines.pop())
        for line in reversed(lines):
            offset -= len(line) + 1
            yield offset, line
        end = begin
