"""What a delivery says: its message in fields, and the bytes that its destination gets. Pure."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from jobd.core.alertbook import RAISED, Alert, Delivery
from jobd.core.alertspec import TEMPLATES, TEST
from jobd.core.state import State

#: of a text, in characters: it goes to a phone, mostly. With what a template may have
#: (core/alertspec.py) no body is longer than 64 KiB
_LONGEST_TEXT = 1_000
_FIELD = re.compile(r"\$\{([a-z_]+)\}")


def fields(state: State, delivery: Delivery, store: str, host: str) -> dict[str, Any]:
    """The message in its fields. `id` is the same however often the message is delivered."""
    alert = delivery.alert
    job = state.jobs_by_id.get(alert.job)
    raised = delivery.tells == RAISED
    return {
        "id": f"{store[:8]}-{delivery.id}",
        "alert": alert.id,
        "state": TEST if alert.what == TEST else delivery.tells,
        "what": alert.what,
        "job": None if job is None else job.name,
        "run": alert.run or None,
        "count": alert.count,
        "text": _text(alert, raised),
        "at": _iso(alert.at if raised else alert.resolved_at or alert.last_at),
        "raised_at": _iso(alert.at),
        "host": host,
    }


def _text(alert: Alert, raised: bool) -> str:
    if raised:
        return _cut(alert.text)
    times = f" (seen {alert.count} times)" if alert.count > 1 else ""
    return _cut(f"recovered: {alert.resolved_text or alert.text}{times}")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def _iso(at: int) -> str:
    moment = datetime.fromtimestamp(at / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at % 1000:03d}Z"


def body(message: dict[str, Any], template: str) -> tuple[str, bytes]:
    """Content type and bytes of a message by its template: a name, a text, or empty for JSON.

    In a template that is JSON each field is escaped, so that no text breaks out of its string.
    """
    if template in ("", "json"):
        return "application/json", json.dumps(message).encode()
    text = TEMPLATES.get(template, template)
    as_json = text.lstrip()[:1] in ("{", "[")

    def filled(found: re.Match[str]) -> str:
        value = message.get(found[1])
        plain = "" if value is None else str(value)
        return json.dumps(plain)[1:-1] if as_json else plain

    made = _FIELD.sub(filled, text).encode()
    return ("application/json" if as_json else "text/plain; charset=utf-8"), made
