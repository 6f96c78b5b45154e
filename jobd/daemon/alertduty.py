"""What the daemon does for alerts: looks at what no event tells of, hands jobs theirs, and sees to
it that somebody delivers the others (`jobd notify`, daemon/notify.py).

Owned by the core loop's thread, but for :meth:`AlertDuty.secret`.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from jobd.core import outbox
from jobd.core.alertbook import MOST_OPEN
from jobd.core.alertcommands import LookForAlerts, QueueDelivery, RedoAlert
from jobd.core.alertrules import AlertRules
from jobd.core.alerttext import body, fields
from jobd.core.commands import Caller
from jobd.core.model import Now
from jobd.core.states import Kind
from jobd.daemon.notifychild import NotifyChild
from jobd.daemon.orders import read_secret
from jobd.daemon.room import ALERT_ROOM
from jobd.engine.base import StartRefusedError
from jobd.errors import InvalidError, RefusedError

if TYPE_CHECKING:
    from jobd.daemon.core_loop import CoreLoop

_log = logging.getLogger(__name__)

#: milliseconds between two looks, while there is anything to look at
LOOK_EVERY = 2_000
#: how long an engine has to be out of reach: one that is started anew is back before that
PATIENCE = 30_000
#: nobody has asked for deliveries for so long: nobody will
GONE_AFTER = 40_000
#: runs that alerts queue in one pass
_AT_ONCE = 100
#: room in the queue that a run which an alert queues may need, its alert's own with it, in bytes
_ROOM = 2 * ALERT_ROOM


class AlertDuty:
    """See the module. `store` is the queue's id; `kinds` are the engines that there are."""

    def __init__(
        self, loop: CoreLoop, store: bytes, secrets: Path, path: Path, kinds: Collection[Kind]
    ) -> None:
        self._loop = loop
        self.store = store.hex()
        self._host = socket.gethostname()
        self._secrets = secrets
        self._kinds = kinds
        self._next = loop.now.mono
        #: since when each engine has been out of reach (monotonic ms)
        self._away: dict[Kind, int] = {}
        #: when somebody asked for deliveries last, and since when some wait for it
        self._came = loop.now.mono - GONE_AFTER
        self._unasked: int | None = None
        self._came_as: int | None = None
        self._child = NotifyChild(path)

    @property
    def _rules(self) -> AlertRules:
        return self._loop.rules.alerts

    def close(self) -> None:
        """End who delivers, where the daemon started it."""
        self._child.close()

    # -- in each pass ------------------------------------------------------------------------

    def _idle(self) -> bool:
        book = self._loop.state.alerts
        return not (self._loop.shed or book.open or book.waiting or book.watched or self._rules.on)

    def wait_ms(self, now: Now) -> int | None:
        """How long there is nothing to do; None: there is nothing to look at."""
        return None if self._idle() else max(0, self._next - now.mono)

    def turn(self, caller: Caller) -> None:
        """Look, where it is time; `caller` is the daemon itself."""
        loop = self._loop
        if loop.now.mono < self._next or self._idle():
            return
        self._next = loop.now.mono + LOOK_EVERY
        while loop.shed and not loop.room.missing(_ROOM):
            loop.decide(RedoAlert(loop.shed.popleft()), caller)
        loop.decide(LookForAlerts(self._troubles()), caller)
        if not loop.state.alerts.waiting:
            self._unasked = None
            return
        self._hand_over(caller)
        if next(outbox.due(loop.state.alerts, loop.now, self._rules), None) is not None:
            loop.touch(outbox.OUTBOX)
            self._see_to_it()
        else:
            self._unasked = None

    def _troubles(self) -> dict[tuple[str, str], str]:
        ledger, now = self._loop.ledger, self._loop.now.mono
        found: dict[tuple[str, str], str] = {}
        for kind in self._kinds:
            reason = ledger.engines[kind]
            if reason is None:
                self._away.pop(kind, None)
                found["engine", str(kind)] = ""
            elif reason.code == "engine" and now - self._away.setdefault(kind, now) >= PATIENCE:
                found["engine", str(kind)] = f"engine for {kind}: {reason.text}"
        for gate in ledger.gates.gates:
            if gate.code == "disk":
                place = gate.name.removeprefix("disk-free ")
                found["disk", place] = "" if gate.ok else f"disk: {gate.text}"
        if self._loop.state.waiting:
            found["disk", "queue"] = "" if ledger.disk is None else f"disk: {ledger.disk.text}"
        return found

    def _hand_over(self, caller: Caller) -> None:
        """Queue the runs of jobs that are to be told; once each, as that is one batch."""
        loop, rules = self._loop, self._rules
        for _ in range(_AT_ONCE):
            delivery = next(outbox.due(loop.state.alerts, loop.now, rules, of_jobs=True), None)
            if delivery is None:
                return
            message = fields(loop.state, delivery, self.store, self._host)
            named = rules.named.get(delivery.to.value)
            template = named.to.template if named is not None else delivery.to.template
            _, payload = body(message, template)
            try:
                loop.room.require(_ROOM)
                if delivery.tries == 0:
                    loop.state.alerts.bucket.take(rules.rate, rules.burst, loop.now.wall)
                loop.decide(QueueDelivery(delivery.id, payload), caller)
            except RefusedError as error:
                _log.warning("alert %d: not handed to its job: %s", delivery.alert.id, error)
                return

    # -- who delivers ------------------------------------------------------------------------

    def came(self, caller: Caller) -> None:
        """Somebody asks for deliveries."""
        self._came = self._loop.now.mono
        self._came_as = caller.uid
        self._unasked = None
        self._child.replaced()

    def _see_to_it(self) -> None:
        """Start who delivers, where that is the daemon's to do and nobody has come by himself."""
        now = self._loop.now.mono
        if self._child.ended():
            # what it had in its hands nobody has now
            self._loop.state.alerts.taken.clear()
        elif now - self._came < GONE_AFTER:
            return
        if self._unasked is None:
            self._unasked = now
        wanted = self._rules.child == "always" or (
            self._rules.child == "auto" and "NOTIFY_SOCKET" not in os.environ
        )
        if wanted and not self._no_user():
            self._child.start(self._rules.user if os.geteuid() == 0 else "", now)

    def _no_user(self) -> str | None:
        if os.geteuid() != 0 or self._rules.uid is not None:
            return None
        user = self._rules.user
        return (
            f"there is no user {user} to deliver alerts as: make it (`useradd --system "
            f"--no-create-home {user}`) or name another in jobd.toml ([alerts] user), then reload"
        )

    def problem(self) -> str | None:
        """Why alerts wait and nobody delivers them, and what to do; None: nothing is wrong."""
        now = self._loop.now.mono
        if len(self._loop.state.alerts.open) >= MOST_OPEN:
            return f"{MOST_OPEN} alerts are open: no more are taken down"
        if not self._loop.state.alerts.waiting or self._unasked is None:
            return None
        missing = self._no_user()
        if missing is not None:
            return missing
        if now - self._unasked < 10_000:
            return None
        if self._child.started:
            who = self._rules.user
            return (
                f"jobd notify does not get through as {who}: it has to reach jobd's socket "
                "(access.socket_group or socket_mode in jobd.toml); jobd's log has more"
            )
        return "nobody delivers them: start jobd notify (systemctl start jobd-notify)"

    def gave_up(self, delivery: int, error: str) -> None:
        """Tell the log, as the alert itself told nobody."""
        alerts = self._loop.state.alerts.alerts.values()
        found = next((d for a in alerts for d in a.deliveries if d.id == delivery), None)
        if found is not None:
            what = f"alert {found.alert.id} to {found.to.shown}"
            _log.error("%s: given up after %d tries: %s", what, found.tries, error)

    # -- in any thread -----------------------------------------------------------------------

    def secret(self, name: str) -> bytes:
        """The content of a file of the secrets folder, its last newline left out. Raises
        InvalidError."""
        try:
            return read_secret(self._secrets, name).removesuffix(b"\n")
        except StartRefusedError as error:
            raise InvalidError(str(error)) from None
