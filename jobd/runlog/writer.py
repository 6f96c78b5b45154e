"""Writes one attempt's log file: head and tail within a limit, resumed without loss or doubling."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from jobd.engine.base import Line
from jobd.runlog.lines import (
    CUT,
    FULL,
    MAX_LINE,
    PREFIX,
    STAMP,
    backward,
    encode,
    encode_note,
    is_note,
    stamp,
    words_of,
)
from jobd.runlog.survey import OVERLAP_NS, Overlap, mend, overlap, survey
from jobd.runlog.tail import TailRing

#: what one attempt's log file may take, in bytes (INTERFACE, `[logs] per_attempt`)
DEFAULT_LIMIT = 64 << 20
#: how much of the output goes into an end record (DURABILITY, rulings)
LAST_WORDS = 8 << 10

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NANO = 1_000_000_000


def _nobody() -> None:
    """Where nobody follows."""


class LogWriter:
    """Appends an attempt's output to its log file; a disk that refuses never ends the attempt.

    For one thread. Use: :meth:`resume`, :meth:`append` for each batch, leave the stream when
    :attr:`full` or :attr:`stalled` turns true, and when the attempt has ended :meth:`last_pass`,
    resume and append once more, then :meth:`finish`. No method raises OSError: what the disk said
    is in :attr:`trouble`, and a stalled writer tries again at the next :meth:`resume`.
    """

    def __init__(
        self,
        open_folder: Callable[[], int],
        name: str,
        limit: int = DEFAULT_LIMIT,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Opens `name` in the folder whose descriptor `open_folder` gives; the writer closes it.

        `limit` is the size of the file in bytes, prefixes counted; half of it is the head's.
        """
        self._open_folder = open_folder
        self._dir_fd = -1
        self._name = name
        self._limit = limit
        self._head = limit // 2
        self._clock_ns = clock_ns
        self._fd = -1
        self._size = 0
        self._last_stamp = b""
        self._overlap: Overlap | None = None
        self._ring: TailRing | None = None
        self._ended = False
        self._lost_lines = self._lost_bytes = self._ring_bytes = 0
        self._engine_cut = (0, 0)
        self._stalled_at = 0
        self._words = bytearray()
        #: the head's share is used up: follow no longer, fetch the tail when the attempt has ended
        self.full = False
        #: the disk refuses: leave the stream, wait, resume
        self.stalled = False
        #: what the disk said last, for people; empty while all is well
        self.trouble = ""
        #: how many lines of the file the stream has not brought again since :meth:`resume`
        self.unmatched = 0
        self._since = b""
        #: bytes of output, prefixes not counted, lines left out counted
        self.log_bytes = 0
        #: some of the output is not in the file
        self.truncated = False
        #: the file held something already: an attempt that is taken over
        self.existed = False
        #: called whenever the file has grown, for those who follow it
        self.grew: Callable[[], None] = _nobody
        self._guarded(self._open)

    def _open(self) -> None:
        if self._dir_fd < 0:
            self._dir_fd = self._open_folder()
        fd = os.open(self._name, _FLAGS, 0o600, dir_fd=self._dir_fd)
        try:
            size = mend(fd)
            found = survey(fd, size)
            if found.full_at is not None and found.full_at < size:
                # stopped while the tail was copied: it is fetched again, whole
                os.ftruncate(fd, found.full_at)
                size = found.full_at
                found = survey(fd, size)
        except OSError:
            os.close(fd)
            raise
        self._fd, self._size = fd, size
        self.existed = size > 0
        self.full = found.full_at is not None
        self.log_bytes = found.output_bytes

    def _guarded(self, step: Callable[[], None]) -> bool:
        """Runs `step`; what the disk refuses stalls the writer instead of ending the attempt."""
        try:
            step()
        except OSError as error:
            self.trouble = error.strerror or str(error)
            self.stalled = True
            self._stalled_at = self._stalled_at or self._clock_ns()
            return False
        return True

    def resume(self) -> int:
        """From when on to read the output (ns UTC, inclusive); known lines are then dropped.

        A stalled writer tries again here.
        """
        self.stalled = False
        self._forget_tail()
        if self._fd < 0:
            self._guarded(self._open)
        if self._fd >= 0:
            self._guarded(self._find_overlap)
        return 0 if self._overlap is None else self._overlap.since_ns

    def _forget_tail(self) -> None:
        # all that is not in the file is read again now, or else lost again
        self._words.clear()
        self.log_bytes -= self._lost_bytes
        self._lost_lines = self._lost_bytes = 0
        if self._ring is not None:
            self._ring.close()
            self._ring = None
            self.log_bytes -= self._ring_bytes
        self._ring_bytes = 0

    def _find_overlap(self) -> None:
        self._overlap = found = overlap(self._fd, self._size)
        self._since = stamp(found.since_ns)
        self.unmatched = found.expected
        self._last_stamp = stamp(found.last_ns) if found.last_ns else b""

    def append(self, batch: Sequence[Line]) -> int:
        """Write the lines that are not in the file yet, with one write; answers how many."""
        encoded = encode(batch)
        if self._overlap is not None:
            encoded = self._unseen(encoded, batch[-1].time_ns if batch else 0)
        if not encoded:
            return 0
        if self._ring is not None:
            self._to_ring(encoded)
        elif self.stalled:
            self._lose(encoded)
        elif not self.full:
            self._to_head(encoded)
        elif self._ended:
            self._to_ring(encoded)
        return len(encoded)

    def _unseen(self, encoded: list[bytes], time_ns: int) -> list[bytes]:
        assert self._overlap is not None
        seen = self._overlap.seen
        fresh = []
        for line in encoded:
            key = hash(line)
            left = seen.get(key, 0)
            if not left:
                fresh.append(line)
                continue
            self.unmatched -= line >= self._since
            if left == 1:
                del seen[key]
            else:
                seen[key] = left - 1
        if not seen or time_ns > self._overlap.last_ns + OVERLAP_NS:
            self._overlap = None
        return fresh

    def _to_head(self, encoded: list[bytes]) -> None:
        data = b"".join(encoded)
        fitting = len(encoded)
        if self._size + len(data) > self._head:
            room, fitting = self._head - self._size, 0
            while fitting < len(encoded) and len(encoded[fitting]) <= room:
                room -= len(encoded[fitting])
                fitting += 1
            data = b"".join(encoded[:fitting])
        if data and not self._guarded(lambda: self._write(self._gap_note() + data)):
            self._lose(encoded)
            return
        self._stalled_at, self.trouble = 0, ""
        if fitting:
            self._last_stamp = encoded[fitting - 1][:STAMP]
        self.log_bytes += _text_bytes(encoded[:fitting], data)
        if fitting < len(encoded):
            self._fill(encoded[fitting:])

    def _gap_note(self) -> bytes:
        # in the write of the first lines that pass: notes alone would fill what room there is
        if not self._stalled_at:
            return b""
        waited = (self._clock_ns() - self._stalled_at) / _NANO
        return self._note(
            f"gap: this file could not be written for {waited:.1f} s ({self.trouble}); "
            "what the engine has dropped meanwhile is missing"
        )

    def _fill(self, rest: list[bytes]) -> None:
        self.full = True
        self.note(
            f"{FULL.decode()}{self._size} bytes are kept of the beginning; the end of the output "
            "follows when the attempt has ended"
        )
        if self._ended:
            self._to_ring(rest)

    def _to_ring(self, encoded: list[bytes]) -> None:
        def add() -> None:
            if self._ring is None:
                name = f".{self._name}.tail"
                self._ring = TailRing(self._dir_fd, name, self._limit - self._head)
            self._ring.add(encoded)

        if not self.stalled and self._guarded(add):
            size = _text_bytes(encoded, b"".join(encoded))
            self._ring_bytes += size
            self.log_bytes += size
        else:
            self._lose(encoded)

    def _lose(self, encoded: list[bytes]) -> None:
        """Keep the last words in memory. While the attempt runs nothing is lost yet: read again."""
        for line in encoded:
            self._words += words_of(line[:-1])
        del self._words[:-LAST_WORDS]
        if self._ended:
            self._lost_lines += len(encoded)
            size = _text_bytes(encoded, b"".join(encoded))
            self._lost_bytes += size
            self.log_bytes += size

    def _write(self, data: bytes) -> None:
        """All of `data` at the end of the file, or nothing of it and OSError."""
        view, done = memoryview(data), 0
        try:
            while done < len(view):
                done += os.pwrite(self._fd, view[done:], self._size + done)
        except OSError:
            # a full disk takes a part of a write first; half a line must not stay
            if done:
                os.ftruncate(self._fd, self._size)
            raise
        self._size += done
        self.grew()

    def note(self, text: str) -> None:
        """Write a note of jobd itself, timed as the last line, so that the file stays in order."""
        if self._fd < 0 or self.stalled:
            return
        data = self._note(text)
        self._guarded(lambda: self._write(data))

    def _note(self, text: str) -> bytes:
        return encode_note(self._last_stamp or stamp(self._clock_ns()), text)

    def last_pass(self) -> None:
        """The attempt has ended: what outgrows the head from now on is kept as the tail."""
        self._ended = True

    def finish(self, cut_lines: int = 0, cut_bytes: int = 0) -> None:
        """Put the tail into the file, say what is missing, and see that it is on the disk.

        `cut_lines` and `cut_bytes` of output the engine had to leave out, between head and tail.
        """
        self._engine_cut = (cut_lines, cut_bytes)
        self.log_bytes += cut_bytes
        if self._ring is not None:
            ring, self._ring = self._ring, None
            if not self._guarded(lambda: self._copy_tail(ring)):
                self._guarded(lambda: self._lose_tail(ring))
            ring.close()
        if self.stalled:
            self.truncated = True
            self.stalled = False
            if self._fd < 0:
                self._guarded(self._open)
            lost = f"{self._lost_lines} lines, {self._lost_bytes} bytes of output are"
            self.note(
                f"{CUT.decode()}{lost if self._lost_lines else 'output is'} missing from here on "
                f"({self.trouble})"
            )
        # a log that is not there reads as one with nothing in it
        if self._fd >= 0 and self._size:
            # the engine's own copy is removed next, so this one has to be on the disk
            self._guarded(lambda: os.fsync(self._fd))
            self._guarded(lambda: os.fsync(self._dir_fd))

    def _copy_tail(self, ring: TailRing) -> None:
        begin, kept, left_out = ring.kept()
        lines, size = self._engine_cut
        # lines of the head that did not come again: the engine keeps no more than its own cap
        dropped = ", and what the engine had dropped before them," if self.unmatched else ""
        if left_out or lines or dropped:
            self.truncated = True
            cut = begin - left_out * PREFIX + size
            what = f"{left_out + lines} lines, {cut} bytes of output{dropped}"
            data = self._note(
                f"{CUT.decode()}{what} are missing here; the last {kept} lines follow"
            )
            self._write(data)
        for chunk in ring.chunks(begin):
            self._write(chunk)

    def _lose_tail(self, ring: TailRing) -> None:
        begin, _, _ = ring.kept()
        last = b""
        for chunk in ring.chunks(begin):
            last = (last + chunk)[-(LAST_WORDS + MAX_LINE) :]
        words = b"".join(words_of(line) for line in last.split(b"\n")[1:-1])
        self._words[:] = (words + self._words)[-LAST_WORDS:]

    def last_words(self, limit: int = LAST_WORDS) -> bytes:
        """The end of the output as the attempt wrote it, both streams mixed; `limit` bytes."""
        found: list[bytes] = [bytes(self._words)]
        left = limit - len(self._words)
        if self._fd >= 0 and left > 0:
            try:
                for _, line in backward(self._fd, self._size):
                    if left <= 0:
                        break
                    if not is_note(line):
                        found.append(words_of(line))
                        left -= len(found[-1])
            except OSError as error:
                self.trouble = error.strerror or str(error)
        return b"".join(reversed(found))[-limit:]

    def close(self) -> None:
        """Let go of the file; nothing is written by this."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        for fd in (self._fd, self._dir_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._dir_fd = -1

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _text_bytes(encoded: Sequence[bytes], joined: bytes) -> int:
    """How many bytes the attempt wrote to make these lines: of a partial one no newline."""
    # one search for all of them, as parts of lines are rare
    partial = 0
    if b" P " in joined:
        partial = sum(1 for line in encoded if line[PREFIX - 2] == 0x50)
    return len(joined) - len(encoded) * PREFIX - partial
