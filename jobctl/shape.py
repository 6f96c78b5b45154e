"""Turns what the wire says into INTERFACE's JSON shape, and ends into exit statuses."""

from __future__ import annotations

from typing import Any

from jobctl.render import iso
from jobd.wire.verb import TIME_KEYS

#: the status words of runs that have ended; core/states.py has them too, but is no client's import
#: on the hot path (a test compares the two)
FINAL = frozenset(
    "succeeded failed timed-out oom-killed cancelled expired skipped lost".split()  # noqa: SIM905
)


def shaped(value: Any) -> Any:
    """`value` with each time (verb.TIME_KEYS) as ISO 8601 and bytes as text, at any depth."""
    if isinstance(value, dict):
        return {
            _text(key): iso(item) if key in TIME_KEYS and type(item) is int else shaped(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [shaped(item) for item in value]
    return _text(value)


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def exit_status(run: dict[str, Any]) -> int:
    """The exit status that tells how one run ended (INTERFACE, "Exit statuses")."""
    if run.get("status") == "succeeded":
        return 0
    code = run.get("exit_code")
    if run.get("status") == "failed" and isinstance(code, int) and code != 0:
        # a signal as a negative number becomes 128+n, as shells say it
        return code & 0xFF if 0 < code < 256 else 128 - code if -64 <= code < 0 else 1
    return 1


def exit_status_of(runs: list[dict[str, Any]], *, single: bool) -> int:
    """0 where all succeeded; one run's own status; 1 where one of several did not succeed."""
    if single and len(runs) == 1:
        return exit_status(runs[0])
    return 0 if all(run.get("status") == "succeeded" for run in runs) else 1


def ending(run: dict[str, Any]) -> str:
    """How a run ended, in a few words: `failed: exit status 3`."""
    status = str(run.get("status"))
    if status == "succeeded":
        return status
    reason = (run.get("reason") or {}).get("text")
    code = run.get("exit_code")
    if reason:
        return f"{status}: {reason}"
    return f"{status}: exit status {code}" if status == "failed" and code is not None else status
