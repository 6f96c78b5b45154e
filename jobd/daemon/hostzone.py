"""Which zone the host's clocks show."""

from __future__ import annotations

import os

from jobd.cron import zones
from jobd.errors import InvalidError


def name() -> str:
    """The name of the zone that the host's clocks show; UTC where it has none."""
    for text in (os.environ.get("TZ", "").removeprefix(":"), _localtime()):
        try:
            if text:
                zones.find(text)
                return text
        except InvalidError:
            continue
    return "UTC"


def _localtime() -> str:
    """As systemd has it: a link into the zones' folder."""
    return os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]
