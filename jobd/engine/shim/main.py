"""The shim's life: claims the attempt, starts the command, keeps output and exit status.

Forked by the shims' server (server.py). It gets its order over its channel to the daemon, and tells
there how the start went and how the command ended; PROCESS.md, "The channel".
"""

from __future__ import annotations

import os
import select
import signal
import time

from jobd.engine.shim.command import READY, Command
from jobd.engine.shim.log import WORDS, Log
from jobd.engine.shim.order import END, Order
from jobd.engine.shim.records import (
    AGAIN,
    DONE,
    ENDED,
    FAILED,
    NEW,
    PIECE,
    REFUSED,
    RESERVED,
    STARTED,
    encode,
    process_state,
)

TYPE_CHECKING = False  # typing itself costs a millisecond of every start
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CHUNK = 64 << 10
#: how long output is still read once the command has ended and others hold its pipes, in seconds,
#: and how long once those were ended
GRACE, LAST_GRACE = 1.0, 1.0
#: how long what a command leaves behind is waited for after SIGKILL
END_PATIENCE = 5.0
#: how long the daemon has to say that it has the end on the disk, before the shim sees to that, in
#: seconds
DONE_PATIENCE = 2.0


#: attempts that one shim runs at most: what memory python may lose goes with it
MOST = 1000
#: no descriptor of a shim is higher
FILES = 256


def claim(folder: int, launch: str, boot: str) -> bool:
    """Make the attempt this shim's own; False where it is another's. Never gives it up again."""
    pid = os.getpid()
    mine = f".claim.{pid}"
    fd = os.open(mine, NEW, 0o600, dir_fd=folder)
    os.write(fd, encode({"pid": pid, "start": process_state(pid)[1], "boot": boot}))
    os.close(fd)
    try:
        # a link, as a file that is made first and written then is seen empty by others
        os.link(mine, f"claim.{launch}", src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        return False
    finally:
        os.unlink(mine, dir_fd=folder)
    return True


def reserve(folder: int) -> int:
    """The file that becomes the record of the end. Raises OSError.

    Its space is taken before the command runs, so that a full disk cannot keep the exit status and
    the last words from being recorded.
    """
    fd = os.open("exit", AGAIN, 0o600, dir_fd=folder)
    os.posix_fallocate(fd, 0, RESERVED + 2 * WORDS)
    return fd


class Reaped:
    """Everything that was waited for: how the command ended, and what all of them used."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None
        self.cpu = 0.0
        self.peak = 0

    def reap(self) -> None:
        """Take in what has ended; a shim gets what the command's own processes leave behind."""
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.cpu += used.ru_utime + used.ru_stime
            self.peak = max(self.peak, used.ru_maxrss << 10)
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                self.code = code if code >= 0 else 128 - code


def end_rest(reaped: Reaped) -> int:
    """SIGKILL to every process that the command left behind, until none is; how many there were.

    Each is a child of the shim, or becomes one when its parent is ended.
    """
    seen: set[int] = set()
    until = time.monotonic() + END_PATIENCE
    while time.monotonic() < until:
        reaped.reap()
        left = children()
        if not left:
            break
        for pid in left:
            seen.add(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it ended by itself
        time.sleep(0.002)
    return len(seen)


def children() -> list[int]:
    """The shim's own children that still live."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return []
    me = os.getpid()
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue  # it ended
            if int(fields[1]) == me and fields[0] != b"Z":
                found.append(int(name))
    return found


class Attempt:
    """The command, its pipes, and the folder that tells of it."""

    def __init__(self, folder: int, order: Order, channel: int) -> None:
        self._folder = folder
        self._order = order
        self._channel = channel
        self._exit = reserve(folder)
        self._log = Log(folder, max(order.number("log_bytes") // 2, CHUNK))
        self._notes: list[str] = []
        self._began = 0

    def run(self, command: Command) -> bool:
        """From the order to the record of the end; False where it went in a way that the shim
        should not outlive."""
        command.prepare(self._order)
        reaped = Reaped(command.pid)
        self._began = time.time_ns()
        # on record before it is let go, as from then on it may have done something, and while it
        # gets ready: both take their time
        start = self._record_start(command.pid)
        said = command.let_go()
        if not said.startswith(READY):
            # nothing was begun, and by no fault of the command: no record, so it is tried again
            os.unlink("started", dir_fd=self._folder)
            os.fsync(self._folder)
            tell(self._channel, FAILED + b"not begun: " + (said or b"somebody killed it"))
            return False
        if said != READY:
            return self._refused(reaped, said[1:].decode("utf-8", "replace"))
        tell(self._channel, STARTED + start)
        self._follow(reaped, {command.out: 1, command.err: 2})
        words = self._log.finish()
        if words:
            os.pwrite(self._exit, words, RESERVED)
        more = {"words": len(words)} if words else {}
        return self._end(reaped, ENDED, more) and not children()

    def _refused(self, reaped: Reaped, said: str) -> bool:
        os.waitpid(reaped.pid, 0)
        number, _, text = said.partition(" ")
        # as a shell would say it: no such command, or one that cannot be executed
        reaped.code = 127 if number in ("2", "20") else 126
        return self._end(reaped, REFUSED, {"refused": text})

    def _follow(self, reaped: Reaped, pipes: dict[int, int]) -> None:
        """Read the output until the command has ended and its pipes are closed, or held by others
        for too long."""
        poll = select.poll()
        ended = os.pidfd_open(reaped.pid)
        for fd in (*pipes, ended):
            poll.register(fd, select.POLLIN)
        until: float | None = None
        killed = False
        while pipes or until is None:
            wait = 5.0 if until is None else until - time.monotonic()
            if wait <= 0:
                if killed:
                    self._notes.append(
                        "gap: somebody still held the output's pipe open; it was read no longer"
                    )
                    return
                killed, until = True, time.monotonic() + LAST_GRACE
                self._end_rest(reaped)
                continue
            for fd, _ in poll.poll(wait * 1000):
                if fd != ended:
                    self._read(fd, pipes, poll)
            reaped.reap()
            if reaped.code is not None and until is None:
                poll.unregister(ended)
                until = time.monotonic() + GRACE
        self._end_rest(reaped)

    def _read(self, fd: int, pipes: dict[int, int], poll: select.poll) -> None:
        data = os.read(fd, CHUNK)
        if data:
            self._log.take(pipes[fd], data)
        else:
            poll.unregister(fd)
            os.close(fd)
            del pipes[fd]

    def _end_rest(self, reaped: Reaped) -> None:
        count = end_rest(reaped)
        if count:
            self._notes.append(f"ended: the command left {count} processes behind")

    def _end(self, reaped: Reaped, word: bytes, more: Mapping[str, object]) -> bool:
        """Record the end and see to it that it is durable: nothing else tells how it ended.

        Whether the daemon has it on its disk.
        """
        fields: dict[str, object] = {
            "code": reaped.code,
            "began": self._began,
            "ended": time.time_ns(),
            "cpu": f"{reaped.cpu:.6f}",
            "peak": reaped.peak,
            "cut_lines": self._log.cut[0],
            "cut_bytes": self._log.cut[1],
            **{f"note.{n}": note for n, note in enumerate(self._notes)},
            **more,
        }
        data = encode(fields)[:RESERVED]
        os.pwrite(self._exit, data, 0)
        tell(self._channel, word + data)
        # a daemon that follows has it in its queue in a moment, and one sync less is half the time
        # of a short command
        if is_done(self._channel):
            return True
        os.fdatasync(self._exit)
        return False

    def _record_start(self, pid: int) -> bytes:
        fields = {"pid": pid, "start": process_state(pid)[1], "at": self._began}
        fd = os.open("started.new", AGAIN, 0o600, dir_fd=self._folder)
        data = encode(fields)
        os.write(fd, data)
        os.close(fd)
        os.rename("started.new", "started", src_dir_fd=self._folder, dst_dir_fd=self._folder)
        # the name alone has to outlive a power cut: then the command is gone as well, and what
        # counts is that it had begun. So one sync will do
        os.fsync(self._folder)
        return data


def tell(channel: int, message: bytes) -> None:
    """Tell the daemon that started the shim, if it is still there."""
    try:
        os.write(channel, message)
    except OSError:
        pass  # it is gone; the next one looks into the folder


def is_done(channel: int) -> bool:
    """Wait for the daemon's word that the end is on its disk; False where none comes."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    try:
        return bool(poll.poll(DONE_PATIENCE * 1000)) and os.read(channel, 16) == DONE
    except OSError:
        return False  # it was killed with something of ours unread


def receive(channel: int) -> Order | None:
    """The next order; None where the daemon has none, and none will come."""
    data = b""
    try:
        while not data.endswith(END):
            piece = os.read(channel, PIECE)
            if not piece:
                return None
            data += piece
    except OSError:
        return None  # it was killed with something of ours unread
    return Order(data)


def main(channel: int, boot: str, show: Callable[..., None]) -> None:
    """Run an attempt, and the next where all of the last is done, until there are no more.

    `boot` is the kernel's boot id, `show` writes the title by which people find a shim.
    """
    for _ in range(MOST):
        show(b"jobd-shim", b"idle")
        # ahead of its order: a third of what a short attempt takes
        command = Command()
        order = receive(channel)
        if order is None:
            return
        show(b"jobd-shim", order.one["folder"], order.one["launch"])
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        folder = os.open(order.one["folder"], flags)
        if not claim(folder, order.one["launch"].decode(), boot):
            return
        if not Attempt(folder, order, channel).run(command):
            return
        # all that was opened for it, whatever way it went
        os.closerange(3, channel)
        os.closerange(channel + 1, FILES)
