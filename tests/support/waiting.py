"""Waiting for what has to come: no test asserts a time, and none waits for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

#: seconds until it is given up on; never what is measured
PATIENCE = 60.0


def until(
    holds: Callable[[], Any],
    patience_s: float = PATIENCE,
    look_s: float = 0.02,
    said: Callable[[], str] = lambda: "it never came",
) -> Any:
    """What `holds` gives once that is something; looked at every `look_s` seconds.

    Fails with what `said` says where it has not come within `patience_s` seconds.
    """
    deadline = time.monotonic() + patience_s
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, said()
        time.sleep(look_s)
