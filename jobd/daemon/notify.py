"""`jobd notify`: delivers alerts. A process of its own, without rights, a client of the socket.

It keeps nothing: the outbox is the daemon's, durable there. It takes what is due, carries it out in
threads, a few at once, and tells what became of it. What it was at when it was killed the daemon
gives out again a minute later, with the same id: delivered at least once.
"""

from __future__ import annotations

import logging
import os
import pwd
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jobd.alerts import senders
from jobd.alerts.senders import DeliveryError
from jobd.daemon.notifyline import GoneError, Line, is_error
from jobd.errors import ConfigError
from jobd.wire.envelope import KEY_BYTES

_log = logging.getLogger(__name__)

#: deliveries under way at once; the daemon gives one a destination
THREADS = 8
#: milliseconds for which the daemon may keep a request for deliveries
_HOLD = 25_000
#: seconds after which one that was not answered is asked anew
_SILENCE = 40.0
#: seconds without anything to deliver after which a child of the daemon goes
_IDLE = 60.0
#: seconds between tries to reach the daemon: at first, and at most
_SOON, _LATE = 0.2, 5.0
#: seconds for which a child tries to reach the daemon that started it
_CHILDS_PATIENCE = 20.0


class Settled(NamedTuple):
    """What became of a delivery; with the key of the request that tells so."""

    delivery: int
    error: str | None
    key: bytes


class Notifier:
    """Delivers until told to stop. `child`: the daemon started it."""

    def __init__(self, path: Path, child: bool = False) -> None:
        self._path = path
        self._child = child
        self._stopping = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        #: what is to be told to the daemon, put there by the threads
        self._settled: deque[Settled] = deque()
        #: what it was told and has not answered, by the request's number
        self._telling: dict[int, Settled] = {}
        self._under_way = 0
        self._busy_at = time.monotonic()
        for number in range(THREADS):
            name = f"deliver-{number}"
            threading.Thread(target=self._deliver_all, name=name, daemon=True).start()

    def stop(self) -> None:
        """Have :meth:`run` end. Safe in a signal handler."""
        self._stopping.set()
        os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        """Serve the daemon, whenever it is there."""
        wait, since = _SOON, time.monotonic()
        while not self._stopping.is_set():
            try:
                line = Line(self._path, self._wake)
            except GoneError as error:
                if self._child and time.monotonic() - since > _CHILDS_PATIENCE:
                    raise ConfigError(f"notify: cannot reach jobd: {error}") from None
                if wait == _LATE:
                    _log.info("jobd is not there: %s", error)
                self._stopping.wait(wait)
                wait = min(wait * 2, _LATE)
                continue
            try:
                self._serve(line)
            except GoneError as error:
                _log.info("%s", error)
            finally:
                # what it had not answered is told to the next one: it knows what it knows
                self._settled.extendleft(self._telling.values())
                self._telling.clear()
                line.close()
            wait, since = _SOON, time.monotonic()
            self._stopping.wait(_SOON)

    def _serve(self, line: Line) -> None:
        asked, asked_at = 0, 0.0
        while not self._stopping.is_set():
            while self._settled:
                self._tell(line, self._settled.popleft())
            free, now = THREADS - self._under_way, time.monotonic()
            if asked and now - asked_at > _SILENCE:
                raise GoneError("jobd does not answer")
            if not asked and free > 0:
                asked = line.ask("alert.take", {"most": free, "hold": _HOLD})
                asked_at = now
            for number, answer in line.answers(1.0 if self._child else 5.0):
                if number == asked:
                    asked = 0
                    self._take(answer)
                else:
                    self._told(number, answer)
            if self._child and time.monotonic() - self._busy_at > _IDLE and not self._under_way:
                self.stop()

    def _take(self, answer: Any) -> None:
        if is_error(answer):
            _log.error("alert.take: %s", answer)
            self._stopping.wait(_LATE)
            return
        for order in answer["deliveries"]:
            self._under_way += 1
            self._busy_at = time.monotonic()
            self._orders.put(order)

    def _tell(self, line: Line, settled: Settled) -> None:
        arguments: dict[str, Any] = {"delivery": settled.delivery, "ok": settled.error is None}
        if settled.error is not None:
            arguments["error"] = settled.error
        self._telling[line.ask("alert.settle", arguments, settled.key)] = settled

    def _told(self, number: int, answer: Any) -> None:
        settled = self._telling.pop(number, None)
        if settled is None:
            return
        self._under_way -= 1
        if is_error(answer):
            # the daemon gives it out again: delivered twice rather than not at all
            _log.error("delivery %d: could not be settled: %s", settled.delivery, answer)

    # -- the threads -------------------------------------------------------------------------

    def _deliver_all(self) -> None:
        while True:
            order = self._orders.get()
            error = None
            try:
                deliver(order)
            except DeliveryError as problem:
                error = str(problem)
                _log.info("delivery %d: %s", order["delivery"], error)
            self._settled.append(Settled(order["delivery"], error, os.urandom(KEY_BYTES)))
            os.eventfd_write(self._wake, 1)


def deliver(order: dict[str, Any]) -> None:
    """Carry out one delivery of `alert.take`. Raises DeliveryError."""
    kind = order["kind"]
    if kind == "url":
        senders.send_http(order["url"], order["headers"], order["body"])
    elif kind == "command":
        if os.geteuid() == 0:
            raise DeliveryError("command: never run as root")
        senders.run_command(order["command"], order["fields"], order["body"])
    elif kind == "journal":
        senders.tell_journal(order["journal"], order["fields"])
    else:
        raise DeliveryError(f"{kind}: not known to this jobd notify")


def become(user: str, path: Path) -> None:
    """Give up root's rights for those of `user`, and of the group that may reach the socket at
    `path`: that is no right to anything, as jobd asks who is in which group. Raises ConfigError."""
    if os.geteuid() != 0:
        return
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(
            f"notify: there is no user {user}: name another in jobd.toml ([alerts] user)"
        ) from None
    if found.pw_uid == 0:
        raise ConfigError("notify: alerts are never delivered as root: see [alerts] user")
    # what is imported late is imported now: the tree may be closed to that user
    import encodings.idna  # noqa: F401

    groups = os.getgrouplist(found.pw_name, found.pw_gid)
    try:
        reaches = path.stat().st_gid
    except OSError:
        reaches = 0  # the daemon is not there yet
    os.setgroups([*groups, reaches] if reaches else groups)
    os.setgid(found.pw_gid)
    os.setuid(found.pw_uid)
    os.umask(0o077)


def main(path: Path, user: str, child: bool) -> int:
    """Run until told to stop. Raises ConfigError."""
    become(user, path)
    notifier = Notifier(path, child)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: notifier.stop())
    if child:
        threading.Thread(target=_end_with, args=(notifier.stop,), daemon=True).start()
    notifier.run()
    return 0


def _end_with(stop: Callable[[], None]) -> None:
    """The daemon holds the other end of standard input: it ends with the daemon."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    stop()
