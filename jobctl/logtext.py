"""Reads the lines of a log file, and shows them to people without losing a byte to programs.

A line is `<RFC3339 with nanoseconds>Z <stdout|stderr|jobd> <F|P> <bytes>` (runlog/FORMAT.md); `P`
is a part of a line that goes on in the next entry of the same stream.
"""

from __future__ import annotations

import codecs
from typing import Any

from jobctl.render import escape

STREAMS = {b"stdout": "stdout", b"stderr": "stderr", b"jobd": "jobd"}


class Entry:
    """One line of a log, or a part of one (`full` is false)."""

    __slots__ = ("attempt", "data", "full", "stream", "time")

    def __init__(self, time: str, stream: str, full: bool, data: bytes, attempt: int) -> None:
        #: as in the file: RFC 3339 UTC with nine decimals
        self.time = time
        self.stream = stream
        self.full = full
        self.data = data
        self.attempt = attempt

    def shape(self) -> dict[str, Any]:
        """The entry as JSON says it; the time with milliseconds, as all times there."""
        return {
            "time": self.time[:23] + "Z",
            "stream": self.stream,
            "text": self.data.decode("utf-8", "replace"),
            "partial": not self.full,
            "attempt": self.attempt,
        }


def entries(data: bytes, attempt: int) -> list[Entry]:
    """The entries of whole log lines; a line of another form is given as it is, as jobd's note."""
    made = []
    for line in data.split(b"\n"):
        if not line:
            continue
        parts = line.split(b" ", 3)
        stream = STREAMS.get(parts[1]) if len(parts) == 4 else None
        if stream is None or parts[2] not in (b"F", b"P"):
            made.append(Entry("", "jobd", True, line, attempt))
            continue
        time = parts[0].decode("ascii", "replace")
        made.append(Entry(time, stream, parts[2] == b"F", parts[3], attempt))
    return made


class Shower:
    """Makes the bytes of one stream of entries: as they are, or safe for a terminal.

    `terminal` escapes what a terminal would obey; `stamps` puts the time before each line; `dim`
    sets lines apart as notes of jobd.
    """

    __slots__ = ("_decoder", "_dim", "_middle", "_stamps", "_terminal")

    def __init__(self, *, terminal: bool, stamps: bool = False, dim: bool = False) -> None:
        self._terminal = terminal
        self._stamps = stamps
        self._dim = dim
        #: whether the last entry was a part, so that the next one goes on in the same line
        self._middle = False
        # a character may be cut between two parts of a line
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def show(self, entry: Entry) -> bytes:
        """The bytes to write for `entry`."""
        data = entry.data
        if self._terminal:
            text = self._decoder.decode(data, entry.full)
            # a program that ends its lines with CR LF means no harm by it
            text = text.removesuffix("\r") if entry.full else text
            data = escape(text, tabs=True).encode()
        if self._dim:
            data = b"\x1b[2m" + data + b"\x1b[0m"
        if self._stamps and not self._middle:
            data = entry.time.encode() + b" " + data
        self._middle = not entry.full
        return data + b"\n" if entry.full else data

    def finish(self) -> bytes:
        """A line end where the last line has none, for what a terminal shows next."""
        return b"\n" if self._middle and self._terminal else b""
