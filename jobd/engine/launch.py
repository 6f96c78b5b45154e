"""Starts the shims of process attempts and tells each what to run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import jobd
from jobd.engine.account import Account
from jobd.engine.attemptfolder import AttemptFolder
from jobd.engine.base import Order, StartRefusedError
from jobd.engine.cage import Cage
from jobd.engine.channel import Channel, new_channel
from jobd.engine.shim import order as orders

#: how long a shim may take to say that the command runs, in seconds
PATIENCE = 30.0
#: shims that are kept for the next attempts
_MOST_WAITING = 8
#: how long their server may take to end when nobody needs it any more
_PATIENCE_OF_END = 5.0
_NICE = 5
_START = (
    "import sys; sys.path.append(sys.argv[1]); from jobd.engine.shim.server import serve; "
    "serve(int(sys.argv[2]))"
)
#: where a shim's title goes, which names its attempt's folder (server.py)
_ROOM = "-" * 512
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}


class Launcher:
    """Starts shims, by a server that is started when the first is needed. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._door: socket.socket | None = None
        #: of shims that wait for another attempt
        self._waiting: list[Channel] = []
        self._closed = False

    def launch(
        self, folder: AttemptFolder, number: int, order: Order, who: Account, cage: Cage
    ) -> Channel:
        """Start the shim of launch `number`; it has said how the command's start went, or is gone.

        Raises OSError, and StartRefusedError for what no process can be given.
        """
        data = _encoded(folder, number, order, who, cage)
        channel = self._idle() or new_channel(self._hand)
        self._ask(channel, data)
        for _ in range(2):
            if not channel.gone or channel.told:
                break
            # it had ended, or its server, and nobody knew yet. Where it had claimed the attempt
            # the next one does not get it
            channel.close()
            channel = new_channel(self._hand)
            self._ask(channel, data)
        return channel

    def _ask(self, channel: Channel, order: bytes) -> None:
        try:
            channel.order(order)
            channel.hear(PATIENCE)
        except BaseException:
            channel.close()
            raise

    def _idle(self) -> Channel | None:
        with self._lock:
            return self._waiting.pop() if self._waiting else None

    def release(self, channel: Channel) -> None:
        """The end that it told of is on the daemon's disk: its shim is free for another attempt."""
        again = channel.done()
        if again is None:
            return
        with self._lock:
            if len(self._waiting) < _MOST_WAITING and not self._closed:
                self._waiting.append(again)
                return
        again.close()

    def _hand(self, channel: int) -> None:
        with self._lock:
            try:
                socket.send_fds(self._door or self._open(), [b"s"], [channel])
            except (BrokenPipeError, ConnectionResetError):
                # somebody killed it; shims that it has made are none the worse for that
                self._end()
                socket.send_fds(self._open(), [b"s"], [channel])

    def _open(self) -> socket.socket:
        """A server of this daemon's own version, which ends with it."""
        door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-c", _START),
                    *(str(Path(jobd.__file__).parent.parent), str(theirs.fileno()), _ROOM),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                cwd="/",
                env={},
                start_new_session=True,
            )
        self._door = door
        return door

    def _end(self) -> None:
        if self._door is not None:
            self._door.close()
        if self._server is not None:
            try:
                self._server.wait(_PATIENCE_OF_END)
            except subprocess.TimeoutExpired:
                self._server.kill()  # somebody has stopped it
                self._server.wait()
        self._door = self._server = None

    def close(self) -> None:
        """End the server; the shims go on, and are init's children."""
        with self._lock:
            self._closed = True
            for channel in self._waiting:
                channel.close()
            self._waiting.clear()
            self._end()


def _encoded(folder: AttemptFolder, number: int, order: Order, who: Account, cage: Cage) -> bytes:
    """The order as the shim takes it. Raises StartRefusedError."""
    own = {**_ENVIRONMENT, "HOME": who.home, "USER": who.name, "LOGNAME": who.name}
    one: dict[str, bytes | int] = {
        "folder": os.fsencode(folder.path),
        "launch": number,
        "cwd": os.fsencode(order.task_dir),
        "log_bytes": order.log_bytes,
    }
    if order.stdin is not None:
        one["stdin"] = os.fsencode(order.task_dir / "payload")
    if who.changes:
        one |= {"uid": who.uid, "gid": who.gid}
    if not cage.memory:
        one["data"] = order.memory
    if not cage.cpu:
        one["nice"] = _NICE
    if not cage.pids and who.changes:
        # it counts all processes of the user, so other attempts' are added
        one["nproc"] = order.pids + _processes_of(who.uid)
    try:
        return orders.encode(
            map(_bytes, order.command or ()),
            _bytes_map({**own, **order.env}),
            map(os.fsencode, cage.joins),
            one,
        )
    except ValueError as error:
        raise StartRefusedError(str(error), 126) from None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _bytes_map(texts: Mapping[str, str]) -> dict[bytes, bytes]:
    return {_bytes(name): _bytes(text) for name, text in texts.items()}


def _processes_of(uid: int) -> int:
    count = 0
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue  # it ended
    return count
