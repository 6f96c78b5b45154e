"""What an existing log file holds: looked at when it is opened again after a stop or a crash."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from jobd.runlog.lines import (
    FULL,
    MAX_LINE,
    NOTE_PREFIX,
    PREFIX,
    backward,
    is_note,
    parse,
    stamp,
    time_of,
)

#: how far before the last line the output is read again. The engine's two goroutines (one a
#: stream) stamp a line first and store it then, so a line may be stored a little out of order.
OVERLAP_NS = 1_000_000_000
#: lines that the overlap remembers at most: 4 MiB of memory; a flood has more in a second
OVERLAP_LINES = 50_000

_CHUNK = 1 << 20
_MARKS = (b"Z jobd F ", b"Z stdout P ", b"Z stderr P ")
_STAMP_END = 29


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in a log: `output_bytes` as the attempt wrote them, of `lines` output lines.

    `full_at` is the offset behind the note that ends the head, None where the head is not full.
    """

    lines: int = 0
    output_bytes: int = 0
    full_at: int | None = None


@dataclass(frozen=True, slots=True)
class Overlap:
    """From when on output is to be read again (ns UTC, inclusive), and which lines are known.

    `seen` counts lines by the hash of their bytes in the file, newline included: two may bear the
    same nanosecond, and be alike as well. `expected` of them must come again; older ones need not.
    """

    since_ns: int
    last_ns: int
    seen: dict[int, int]
    expected: int


def mend(fd: int) -> int:
    """Cut what is not a whole line off the end of the file, and answer its new size.

    Raises OSError. A crash leaves a torn line; a power cut can leave a stretch of zeros.
    """
    size = os.fstat(fd).st_size
    end = _last_newline(fd, size)
    for offset, line in backward(fd, end):
        if parse(line) is not None:
            break
        end = offset
    else:
        end = 0
    if end != size:
        os.ftruncate(fd, end)
    return end


def _last_newline(fd: int, size: int) -> int:
    end = size
    while end > 0:
        begin = max(0, end - (64 << 10))
        at = os.pread(fd, end - begin, begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        end = begin
    return 0


def survey(fd: int, size: int) -> Survey:
    """What the first `size` bytes of the file hold. Raises OSError."""
    lines = notes = partial = text = 0
    full_at: int | None = None
    for begin, chunk in _whole_lines(fd, size):
        lines += chunk.count(b"\n")
        text += len(chunk)
        for offset, line in _marked(chunk):
            if not is_note(line):
                partial += 1
                continue
            notes += 1
            text -= len(line) + 1
            if full_at is None and line.startswith(FULL, NOTE_PREFIX):
                full_at = begin + offset + len(line) + 1
    lines -= notes
    # of a partial line no newline was written by the attempt
    return Survey(lines, text - lines * PREFIX - partial, full_at)


def _whole_lines(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    begin = 0
    while begin < size:
        chunk = os.pread(fd, min(_CHUNK, size - begin), begin)
        if not chunk:
            return
        end = chunk.rfind(b"\n") + 1
        if end:
            yield begin, chunk[:end]
        begin += end or len(chunk)


def _marked(chunk: bytes) -> Iterator[tuple[int, bytes]]:
    """Notes and parts of lines in `chunk`. An attempt can print the marks, but not a stamp
    before them at a line's start."""
    for mark in _MARKS:
        at = chunk.find(mark)
        while at >= 0:
            begin = at - _STAMP_END
            if begin == 0 or (begin > 0 and chunk[begin - 1] == 0x0A):
                yield begin, chunk[begin : chunk.find(b"\n", at, at + MAX_LINE)]
            at = chunk.find(mark, at + 1)


def overlap(fd: int, size: int, limit: int = OVERLAP_LINES) -> Overlap:
    """Where to go on reading output so that no line is lost or doubled. Raises OSError.

    `since_ns` is 0 where the log holds no output yet. The lines remembered reach back twice as
    far as what is read again, as a line a little out of order may lie before older ones.
    """
    seen: dict[int, int] = {}
    last: int | None = None
    since, bound, earliest, count, stop = 0, b"", b"", 0, 0
    for offset, line in backward(fd, size):
        stop = offset
        if is_note(line):
            continue
        if last is None:
            last = time_of(line)
            if last is None:
                continue
            since, bound = last - OVERLAP_NS, stamp(last - 2 * OVERLAP_NS)
        if line < bound:
            break
        if count >= limit:
            # a flood: less than a second, but the same share of it
            since = max(since, ((time_of(earliest) or since) + last) // 2)
            break
        count += 1
        earliest = line
        key = hash(line + b"\n")
        seen[key] = seen.get(key, 0) + 1
    since = max(since, 0)
    first = stamp(since)
    expected = 0
    for offset, line in backward(fd, size):
        if offset < stop:
            break
        expected += line >= first and not is_note(line)
    return Overlap(since, last or 0, seen, expected)
