"""Commands about alerts; as core/commands.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LookForAlerts:
    """Look for what no event tells of: who is late or slow, queues, and what the host says.

    `host`: kind of trouble and scope -> the sentence of it, or empty where all is well; what is not
    known is left out.
    """

    host: Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class SettleDelivery:
    """What became of a delivery that somebody took."""

    delivery: int
    ok: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class QueueDelivery:
    """Hand a delivery to its job: a run with this payload. `store` names the queue in ids."""

    delivery: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class SnoozeAlerts:
    """Send nothing of a job's alerts (None: the host's) on `what` (empty: any) before `until`.

    `until` in ms UTC; None: send again.
    """

    job: str | None
    what: str
    until: int | None


@dataclass(frozen=True, slots=True)
class ResendAlert:
    """Send once more what was sent, or given up, of an alert."""

    alert: int


@dataclass(frozen=True, slots=True)
class SendTest:
    """Send a test to all destinations of a job, to one of jobd.toml (`to`), or (both None) to all
    that jobd.toml's `[[alerts.on]]` names."""

    job: str | None
    to: str | None


@dataclass(frozen=True, slots=True)
class RedoAlert:
    """Decide anew on an alert's event (core/alertevents.py) that there was no room to record."""

    event: object


AlertCommand = (
    RedoAlert
    | LookForAlerts
    | SettleDelivery
    | QueueDelivery
    | SnoozeAlerts
    | ResendAlert
    | SendTest
)
