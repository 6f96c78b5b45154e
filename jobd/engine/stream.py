"""The engine's log stream: frames become lines, and a stream that broke goes on where it was. Pure.

A frame is an 8-byte header (stream, three zeros, length big-endian) and one message: a time stamp
in RFC 3339 with nanoseconds, a space, the bytes as they were written. A frame is not a line: one
longer than 16 KiB comes as several.
"""

from __future__ import annotations

import calendar
import struct
from dataclasses import dataclass, replace

from jobd.engine.base import Line, Stream

#: the largest frame that is believed, in bytes; engines send 16 KiB, json-file drivers some more
MAX_FRAME = 16 << 20
#: times of the two streams may pass each other by as long as the engine's copiers take to write
OVERLAP_NS = 1_000_000_000

#: the engine cuts a line into parts of this many bytes
PART = 16 << 10

# stream, length, date and time to the second, the point, nine digits, "Z "
_HEAD = struct.Struct(">BxxxI19sc9s2s")
_LENGTH = struct.Struct(">BxxxI")
_HEADER = 8
_STREAMS = {1: Stream.STDOUT, 2: Stream.STDERR}


class BrokenStreamError(ValueError):
    """Bytes that are no frame, the engine's word that it cannot read the log, or a break-off."""


class FrameParser:
    """Bytes in, in pieces of any size; lines out, in order. Keeps less than one frame.

    Some 500,000 lines of 100 bytes a second on one core of a small machine.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._second = b""
        self._second_ns = 0

    def feed(self, chunk: bytes) -> list[Line]:
        """The lines that `chunk` completes. Raises BrokenStreamError; then feed no more."""
        data = self._rest + chunk if self._rest else chunk
        lines: list[Line] = []
        add, unpack, head_size = lines.append, _HEAD.unpack_from, _HEAD.size
        at, size = 0, len(data)
        while at + head_size <= size:
            number, length, second, point, nanos, zone = unpack(data, at)
            end = at + _HEADER + length
            if end > size:
                break
            if point != b"." or zone != b"Z " or number not in _STREAMS or not nanos.isdigit():
                add(_slow_line(data[at:end], number))
            else:
                if second != self._second:
                    self._second_ns = _seconds(second) * 1_000_000_000
                    self._second = second
                whole = end > at + head_size and data[end - 1] == 10
                add(
                    Line(
                        self._second_ns + int(nanos),
                        _STREAMS[number],
                        data[at + head_size : end - whole],
                        not whole,
                    )
                )
            at = end
        # a frame shorter than the usual head, and what is left of one too large to believe
        while at + _HEADER <= size:
            number, length = _LENGTH.unpack_from(data, at)
            if length > MAX_FRAME:
                raise BrokenStreamError(f"log stream: a frame of {length} bytes")
            end = at + _HEADER + length
            if end > size:
                break
            add(_slow_line(data[at:end], number))
            at = end
        self._rest = data[at:]
        return lines


def _slow_line(frame: bytes, number: int) -> Line:
    """A line from a frame whose time is not of the usual width (Podman gives whole seconds)."""
    stamp, space, data = frame[_HEADER:].partition(b" ")
    stream = _STREAMS.get(number)
    if stream is None or not space:
        text = frame[_HEADER : _HEADER + 200].decode("utf-8", "replace")
        raise BrokenStreamError(f"log stream: no line but {text!r}")
    whole = data.endswith(b"\n")
    return Line(parse_time(stamp), stream, data[:-1] if whole else data, not whole)


def parse_time(stamp: bytes) -> int:
    """RFC 3339 to nanoseconds UTC, exactly: no float, which holds 53 of the 61 bits.

    Raises BrokenStreamError for what is no such time.
    """
    second, rest = stamp[:19], stamp[19:]
    digits, zone = b"", rest
    if rest[:1] == b".":
        stop = 1
        while rest[stop : stop + 1].isdigit():
            stop += 1
        digits, zone = rest[1:stop], rest[stop:]
        if not 1 <= len(digits) <= 9:
            raise BrokenStreamError(f"not a time: {stamp[:40]!r}")
    return (_seconds(second) - _offset(zone, stamp)) * 1_000_000_000 + int(digits.ljust(9, b"0"))


def _seconds(text: bytes) -> int:
    """`2026-01-02T03:04:05` to seconds UTC."""
    try:
        if text[4:5] + text[7:8] + text[10:11] + text[13:14] + text[16:17] != b"--T::":
            raise ValueError
        fields = (text[:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19])
        year, month, day, hour, minute, second = (int(field) for field in fields)
        return calendar.timegm((year, month, day, hour, minute, second))
    except (ValueError, OverflowError):
        raise BrokenStreamError(f"not a time: {text[:40]!r}") from None


def _offset(zone: bytes, stamp: bytes) -> int:
    """`Z` or `+02:00` to seconds."""
    if zone == b"Z":
        return 0
    if len(zone) == 6 and zone[:1] in b"+-" and zone[3:4] == b":":
        hours, minutes = zone[1:3], zone[4:6]
        if hours.isdigit() and minutes.isdigit():
            seconds = int(hours) * 3600 + int(minutes) * 60
            return -seconds if zone[:1] == b"-" else seconds
    raise BrokenStreamError(f"not a time: {stamp[:40]!r}")


@dataclass(slots=True)
class _Given:
    """The last of what was given of one stream."""

    time_ns: int
    #: how many lines of that time were given
    count: int
    partial: bool
    #: None, or how many of that time the stream that is read again has repeated so far
    repeated: int | None = None


class Resumer:
    """Lets every line of an attempt through once, however often its stream is asked for again.

    Compares per stream, as times rise within one but not across both; and counts lines of one
    time, as the parts of a line longer than 16 KiB all bear the first one's (Docker 20.10).
    """

    def __init__(self, since_ns: int) -> None:
        self._since_ns = since_ns
        self._given: dict[Stream, _Given] = {}
        self._latest_ns = 0

    @property
    def since_ns(self) -> int:
        """From when to ask for the stream again, inclusive."""
        # the rest of a line that was given in part will bear the time of its beginning
        open_lines = [given.time_ns for given in self._given.values() if given.partial]
        return max(self._since_ns, min([self._latest_ns - OVERLAP_NS, *open_lines]))

    def again(self) -> None:
        """The stream is asked for again: what it repeats is counted from here."""
        for given in self._given.values():
            given.repeated = 0

    def misses_nothing(self, first: Line) -> bool:
        """Whether a stream that begins with `first` surely holds all that was not given yet.

        For the end of a log, which is cheap to ask for where all since a time means reading it
        whole: Docker looks through 64 MB for it.
        """
        if not self._given:
            return first.time_ns < self._since_ns - OVERLAP_NS
        last = self._given.get(first.stream)
        if last is None or first.time_ns >= last.time_ns:
            return False
        return all(
            first.time_ns < given.time_ns - OVERLAP_NS
            for given in self._given.values()
            if given.partial
        )

    def fresh(self, lines: list[Line]) -> list[Line]:
        """Those of `lines` that were not given yet."""
        return [line for line in lines if self._is_fresh(line)]

    def _is_fresh(self, line: Line) -> bool:
        time_ns = line.time_ns
        if time_ns < self._since_ns:
            return False
        last = self._given.get(line.stream)
        if last is None:
            self._given[line.stream] = _Given(time_ns, 1, line.partial)
        elif last.repeated is not None and time_ns < last.time_ns:
            return False
        elif time_ns == last.time_ns:
            if last.repeated is not None and last.repeated < last.count:
                last.repeated += 1
                return False
            last.count += 1
            last.partial, last.repeated = line.partial, None
        else:
            # later; or earlier in a stream that never broke: the host's clock was set back
            last.time_ns, last.count = time_ns, 1
            last.partial, last.repeated = line.partial, None
        self._latest_ns = time_ns
        return True


class LineEnds:
    """Gives the last part of a long line its newline back, which the driver `local` drops.

    Seen on Docker 20.10: a line above 16 KiB comes in parts of 16 KiB and a shorter one (of no
    bytes at all, if need be), none with a newline. The shorter one ends the line. It does so too
    where the attempt's very last words are such a line without a newline: that cannot be told.
    """

    def __init__(self) -> None:
        #: streams in the midst of a long line
        self._open: set[Stream] = set()

    def mend(self, lines: list[Line]) -> list[Line]:
        """`lines`, in the order in which the engine gave them, with their ends right."""
        if not self._open and not any(line.partial for line in lines):
            return lines
        return [self._mend(line) for line in lines]

    def _mend(self, line: Line) -> Line:
        if line.partial and len(line.data) >= PART:
            self._open.add(line.stream)
            return line
        if line.stream not in self._open:
            return line
        self._open.discard(line.stream)
        return replace(line, partial=False)
