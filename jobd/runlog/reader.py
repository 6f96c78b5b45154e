"""Reads log files, while they grow and after: whole lines from an offset, bounded in memory."""

from __future__ import annotations

import os

from jobd.engine.base import Line, Stream
from jobd.runlog.lines import (
    CUT,
    MAX_LINE,
    PREFIX,
    STAMP,
    backward,
    encode,
    encode_note,
    is_note,
    stamp,
    time_of,
    words_of,
)

_BLOCK = 64 << 10
_SECOND = 1_000_000_000
#: a line longer than this is none of ours (the file was tampered with) and is passed over
_LONGEST = 4 * MAX_LINE


def read(fd: int, offset: int, limit: int) -> tuple[bytes, int]:
    """`(whole lines, offset behind them)`, `limit` bytes at most but one line at least.

    No new whole line yet: `(b"", offset)`. The line that is just being written is left for the
    next time. An offset inside a line (the file was cut meanwhile) moves to the next line.
    Raises OSError.
    """
    if offset and os.pread(fd, 1, offset - 1) not in (b"\n", b""):
        offset = _next_line(fd, offset)
    data = os.pread(fd, max(limit, 1), offset)
    end = data.rfind(b"\n") + 1
    if end:
        return data[:end], offset + end
    if len(data) < limit:
        return b"", offset
    # the first line alone is longer than the limit
    data = os.pread(fd, _LONGEST, offset)
    end = data.find(b"\n") + 1
    if end:
        return data[:end], offset + end
    if len(data) < _LONGEST:
        return b"", offset
    after = _next_line(fd, offset + len(data))
    if after == offset + len(data):
        return b"", offset
    text = f"left out: {after - offset} bytes at {offset} of this file are no line of a log"
    return encode_note(stamp(time_of(data) or 0), text), after


def _next_line(fd: int, offset: int) -> int:
    """The offset behind the first newline at or behind `offset`; `offset` where there is none."""
    at = offset
    while block := os.pread(fd, _BLOCK, at):
        found = block.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(block)
    return offset


def _end(fd: int) -> int:
    """The offset behind the last whole line."""
    end = os.fstat(fd).st_size
    while end > 0:
        begin = max(0, end - _BLOCK)
        found = os.pread(fd, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def start_of_tail(fd: int, lines: int) -> int:
    """The offset from which the last `lines` lines of output follow. Raises OSError.

    Parts count as the one line that they make; notes of jobd itself do not count.
    """
    end = start = _end(fd)
    if lines <= 0:
        return end
    count = 0
    ended: dict[bytes, bool] = {}
    for offset, line in backward(fd, end):
        if not is_note(line):
            stream = line[STAMP + 1 : PREFIX - 3]
            # a part belongs to the line that follows on its stream; at the end nothing follows
            if line[PREFIX - 2 : PREFIX - 1] == b"F" or stream not in ended:
                if count == lines:
                    return start
                count += 1
            ended[stream] = True
        start = offset
    return start


def start_of_time(fd: int, ms: int) -> int:
    """The offset of the first line from `ms` (milliseconds UTC) on; the end where there is none.

    Halves the file, so a long log costs no more than a short one. Lines may be a little out of
    order (two streams), so it looks from a second before on. Raises OSError.
    """
    wanted = stamp(max(ms, 0) * 1_000_000)
    early = stamp(max(ms * 1_000_000 - _SECOND, 0))
    low, high = 0, _end(fd)
    while high - low > _BLOCK:
        middle = _next_line(fd, (low + high) // 2)
        if middle >= high or os.pread(fd, STAMP, middle) >= early:
            high = (low + high) // 2
        else:
            low = middle
    end = _end(fd)
    # low is the start of a line before the time, or of the file
    while low < end:
        data, after = read(fd, low, _BLOCK)
        if not data:
            break
        for line in data.splitlines(keepends=True):
            if line >= wanted:
                return low
            low += len(line)
        low = after
    return end


def missing_words(fd: int | None, words: bytes, at: int) -> bytes:
    """Lines, as in a log file, of the last `words` of an attempt that ended `at` (ms UTC).

    Empty where they are in the file: a full disk may have kept them out of it, or all of it.
    """
    if fd is not None:
        for _, line in backward(fd, os.fstat(fd).st_size):
            if not is_note(line):
                if words.endswith(words_of(line)):
                    return b""
                break
    when = at * 1_000_000
    rows = words.split(b"\n")
    lines = [Line(when, Stream.STDOUT, row) for row in rows[:-1]]
    if rows[-1]:
        lines.append(Line(when, Stream.STDOUT, rows[-1], partial=True))
    why = "the disk was full"
    if fd is None:
        why = "its log is not there: removed for its age or by hand, or the disk took none of it"
    note = f"{CUT.decode()}{why}; the last words, both streams mixed, from the queue:"
    return encode_note(stamp(when), note) + b"".join(encode(lines))
