"""The headers of an alert's request, with the signature by which its receiver knows it.

`Jobd-Signature: t=SECONDS,v1=HEX`: HEX is the HMAC-SHA256 of `SECONDS.BODY` under the secret, as
webhooks commonly have it; SECONDS (UTC) lets a receiver refuse what is old.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any


def signature(secret: bytes, body: bytes, seconds: int) -> str:
    """The value of `Jobd-Signature`."""
    made = hmac.new(secret, f"{seconds}.".encode() + body, hashlib.sha256)
    return f"t={seconds},v1={made.hexdigest()}"


def headers(
    message: dict[str, Any], content_type: str, template: str, sign: str | None
) -> dict[str, str]:
    """All headers of the request; none holds text of a run's."""
    made = {
        "Content-Type": content_type,
        "User-Agent": "jobd-notify",
        "Jobd-Alert-Id": str(message["id"]),
    }
    if sign is not None:
        made["Jobd-Signature"] = sign
    if template == "ntfy":
        made["Title"] = f"{message['what']}: {message['job'] or 'host'}"
        made["Priority"] = "high" if message["state"] == "raised" else "default"
    return made
