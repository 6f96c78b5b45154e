"""The principals that jobd itself gives: a run's, for what is asked from inside of its attempts.

`run:42`, or `run:42/token:ci` where a gateway's caller had queued the run. Who stands behind it, a
uid or that principal, is who its doings are counted to. No other principal begins with `run:`.
"""

from __future__ import annotations

_RUN = "run:"


def of_run(number: int, principal: str) -> str:
    """The principal of a run that was queued by who had that one (empty: by a user)."""
    rest = behind(principal)
    return f"{_RUN}{number}/{rest}" if rest else f"{_RUN}{number}"


def behind(principal: str) -> str:
    """Who a run's principal stands for, empty for a user; any other stands for itself."""
    return principal.partition("/")[2] if principal.startswith(_RUN) else principal


def is_run(principal: str) -> bool:
    """Whether it is a run's."""
    return principal.startswith(_RUN)
