"""One connection to the daemon: asks, waits, and never leaves a person without a word.

The rules, for a request that has not been answered:
- after 0.25 s the health socket is held open: its end tells at once that the daemon is gone;
- a daemon that went away is asked again, once and with the same request key, where it is back
  within 3 s (30 s, and again, for requests that wait for something);
- after 2.5 s of silence what is known is said on stderr; after the request timeout it is an error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import zmq

from jobctl import connect
from jobctl.steps import Look, Pause, Steps, Work
from jobd.codec import MAX_FRAME
from jobd.errors import JobdError, OutcomeUnknownError, UnreachableError, UsageError
from jobd.wire import envelope
from jobd.wire.verb import find

#: seconds of silence after which the health connection is opened
WATCH_AFTER = 0.25
#: seconds of silence after which is said what is known; with HEALTH_PATIENCE within 3 s
SPEAK_AFTER = 2.5
#: seconds within which a daemon that went away may come back: an ordinary request, a waiting one
RETURN_SOON, RETURN_LATE = 3.0, 30.0

_KEYS = 1 << (8 * envelope.KEY_BYTES)


class _GoneError(Exception):
    """The daemon went away while something was asked."""


class Channel:
    """Asks the daemon at `place`. Not thread-safe. Connects with the first request.

    `note` is told, in one sentence each, what a person should know while waiting. `key` is the
    first request key (random where not given): an invocation repeated with the same key and the
    same input does nothing twice (PROTOCOL.md, "key").
    """

    def __init__(
        self,
        place: connect.Place,
        request_timeout: float = 30.0,
        note: Callable[[str], None] = lambda text: None,
        key: bytes | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        self.place = place
        self.request_timeout = request_timeout
        self._note = note
        self.first_key = key or os.urandom(envelope.KEY_BYTES)
        self._key_given = key is not None
        self._changes = 0
        self._number = 0
        self._context = context
        self._shared = context is not None
        self._socket: zmq.Socket[bytes] | None = None
        self._address: connect.Reachable | None = None
        #: the health connection whose end is the daemon's end
        self._watch: Any = None
        #: the listener's pid when the connection was made; None before, 0 where it is not known
        self._pid: int | None = None
        self._was_up = False
        self._parted = False

    def close(self) -> None:
        """Ends the connection; nothing unsent is waited for."""
        self._drop()
        if self._context is not None and not self._shared:
            self._context.term()
            self._context = None

    def new_keys(self) -> None:
        """What follows is another piece of work, so it has other request keys; unless the first
        key was given: then all that this channel does is one piece of work."""
        if self._key_given:
            return
        self.first_key = os.urandom(envelope.KEY_BYTES)
        self._changes = 0

    def next_key(self) -> bytes:
        """The key that the next changing request will carry."""
        number = (int.from_bytes(self.first_key, "big") + self._changes) % _KEYS
        return number.to_bytes(envelope.KEY_BYTES, "big")

    def ask(
        self,
        verb: str,
        arguments: dict[str, Any],
        *,
        hold_ms: int = 0,
        each: Callable[[Any], None] | None = None,
    ) -> Steps[Any]:
        """The last word on a request; `each` is given the parts before it.

        `hold_ms` is how long the daemon may keep the request because it waits for something. Raises
        the error that the daemon answers, UnreachableError, or OutcomeUnknownError for a request
        that changes something and whose reply was lost.
        """
        key = None
        if find(verb).changes:
            key = self.next_key()
            self._changes += 1
        self._number += 1
        frame = _pack(self._number, verb, arguments, key)
        asked = 0
        self._parted = False
        while True:
            try:
                yield from self._open()
                asked += 1
                assert self._socket is not None
                self._socket.send(frame)
                return (yield from self._receive(self._number, hold_ms / 1000, key, each))
            except _GoneError:
                self._drop()
                # parts that were given away cannot be taken back, so half an answer is not repeated
                again = (hold_ms > 0 or asked < 2) and not self._parted
                patience = RETURN_LATE if hold_ms else RETURN_SOON
                if not again or not (yield from self._returned(patience)):
                    raise self._lost(key if asked else None) from None

    # --- connecting ---------------------------------------------------------------------------

    def _open(self) -> Steps[None]:
        if self._socket is not None:
            return
        self._pid = yield Work(self._listening)
        if self._pid is None:
            if self._was_up:
                raise _GoneError
            yield from self._wait_for_start()
        if self._context is None:
            self._context = zmq.Context()
        self._address = connect.Reachable(self.place.path)
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.connect("ipc://" + self._address.path)
        self._was_up = True

    def _listening(self) -> int | None:
        return connect.listening(self.place)

    def _health(self) -> connect.Health | None:
        return connect.ask_health(self.place)

    def _wait_for_start(self) -> Steps[None]:
        """Returns once the socket is there, while the health socket says that it will be."""
        start = time.monotonic()
        told = False
        while True:
            health = yield Work(self._health)
            if health is None or health.phase in ("stopping", "failed"):
                raise connect.not_running(self.place, health)
            starting = health.phase == "starting"
            # between binding the one and the other socket it may say `running` for a moment
            patience = self.request_timeout if starting else RETURN_SOON
            if time.monotonic() - start > patience:
                raise connect.not_listening(self.place, health)
            if starting and not told:
                text = connect.describe(health, 0)
                self._note(f"{text}; waiting for it ({self.request_timeout:.0f} s)")
                told = True
            yield Pause(0.05)
            self._pid = yield Work(self._listening)
            if self._pid is not None:
                return

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None
        if self._address is not None:
            self._address.close()
            self._address = None
        self._unwatch()

    def _returned(self, seconds: float) -> Steps[bool]:
        """Whether a daemon that went away listens again within `seconds`; a long wait is told."""
        late = seconds >= RETURN_LATE
        start = time.monotonic()
        give_up = start + seconds
        told = extended = False
        # so that a daemon whose health socket ends at once is not asked in a tight loop
        yield Pause(0.02)
        while (yield Work(self._listening)) is None:
            now = time.monotonic()
            if late and not told and now - start > 0.3:
                self._note(f"jobd stopped; waiting for it to come back ({seconds:.0f} s)")
                told = True
            if now > give_up:
                health = yield Work(self._health)
                if extended or health is None or health.phase != "starting":
                    return False
                # it is back and reads its queue: that may take as long as a request
                extended, give_up = True, now + self.request_timeout
            yield Pause(0.05)
        if told:
            self._note("jobd is back")
        return True

    # --- waiting ------------------------------------------------------------------------------

    def _receive(
        self, number: int, hold: float, key: bytes | None, each: Callable[[Any], None] | None
    ) -> Steps[Any]:
        assert self._socket is not None
        silent_since = time.monotonic()
        watch_at = 0.0 if hold else silent_since + WATCH_AFTER
        told = False
        while True:
            now = time.monotonic()
            speak_at = silent_since + hold + SPEAK_AFTER
            give_up = silent_since + hold + self.request_timeout
            if now >= give_up:
                raise self._unanswered(key, now - silent_since, (yield Work(self._health)))
            if now >= watch_at:
                watch_at = yield from self._keep_watch(now)
            if now >= speak_at and not told:
                told = True
                health = yield Work(self._health)
                if health is None and (yield Work(self._listening)) is None:
                    raise _GoneError
                self._note(connect.describe(health, now - silent_since))
            due = min(watch_at, give_up, give_up if told else speak_at)
            body = yield from self._next_reply(number, due - time.monotonic())
            if body is None:
                continue
            kind, value = body
            if kind == envelope.ERROR:
                raise value
            if kind == envelope.RESULT:
                return value
            self._parted = True
            if each is not None:
                each(value)
            silent_since = time.monotonic()

    def look(self, seconds: float) -> tuple[bool, bool]:
        """Whether a reply is there, and whether the watch stirred; `seconds` at most for either."""
        assert self._socket is not None
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        if self._watch is not None:
            poller.register(self._watch.fileno(), zmq.POLLIN)
        ready = dict(poller.poll(max(int(seconds * 1000) + 1, 0) if seconds > 0 else 0))
        return self._socket in ready, self._watch is not None and self._watch.fileno() in ready

    def descriptors(self) -> list[int]:
        """What becomes readable when `look` may have something new."""
        assert self._socket is not None
        found = [int(self._socket.getsockopt(zmq.FD))]
        return found if self._watch is None else [*found, self._watch.fileno()]

    def _next_reply(self, number: int, seconds: float) -> Steps[tuple[int, Any] | None]:
        """The next reply to request `number` within `seconds`; _GoneError where the watch ends."""
        assert self._socket is not None
        reply, ended = yield Look(self, seconds)
        if ended and not reply:
            # a reply that was sent just before the end may still be on its way in ZeroMQ's thread
            yield Pause(0.05)
            reply, _ = self.look(0)
        if reply:
            got, kind, value = envelope.read_reply(self._socket.recv())
            # 0: the daemon could not read whose request it was, and only one is under way
            if got == number or (kind == envelope.ERROR and got == 0):
                return kind, value
            return None
        if ended and self._watch_ended():
            raise _GoneError
        return None

    def _keep_watch(self, now: float) -> Steps[float]:
        """Sees to the death detector; when to come again. Raises _GoneError."""
        if self._watch is not None:
            return now + 3600.0
        try:
            self._watch = yield Work(self._connect_health)
        except OSError:
            pid = yield Work(self._listening)
            if pid is None or (self._pid and pid not in (self._pid, 0)):
                raise _GoneError from None
            # no health socket (or not ours to use): look at the main one each second
            return now + 1.0
        self._watch.setblocking(False)
        # a daemon that was restarted before the watch began never got the request
        if self._pid and connect.peer_pid(self._watch) not in (self._pid, 0):
            raise _GoneError
        return now + 3600.0

    def _connect_health(self) -> Any:
        return connect.plain_connect(self.place.health, connect.HEALTH_PATIENCE)

    def _watch_ended(self) -> bool:
        try:
            return bool(self._watch.recv(4096) == b"")
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    # --- what is said in the end ----------------------------------------------------------------

    def _unanswered(
        self, key: bytes | None, silent: float, health: connect.Health | None
    ) -> JobdError:
        text = connect.describe(health, silent)
        if key is None:
            return UnreachableError(text)
        return self._unknown(text)

    def _lost(self, key: bytes | None) -> JobdError:
        if key is None:
            return UnreachableError(
                f"jobd stopped while it was asked, and nobody listens on {self.place.path}; "
                f"start it with {self.place.start}"
            )
        return self._unknown("jobd stopped before it answered")

    def _unknown(self, text: str) -> OutcomeUnknownError:
        key = self.first_key.hex()
        return OutcomeUnknownError(
            f"{text}; whether the request was carried out is not known: the same command with "
            f"--request-key {key} asks again within 24 hours and does nothing twice",
            request_key=key,
        )


def _pack(number: int, verb: str, arguments: dict[str, Any], key: bytes | None) -> bytes:
    try:
        frame = envelope.request(number, verb, arguments, key)
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!a:.80} is not valid UTF-8 text") from None
    except OverflowError:
        raise UsageError("a number in the request does not fit into 64 bits") from None
    if len(frame) > MAX_FRAME:
        # checked here, because ZeroMQ would end the connection without a word (PROTOCOL, Limits)
        raise UsageError(f"request of {len(frame)} bytes: at most {MAX_FRAME} are taken")
    return frame
