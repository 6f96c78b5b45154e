"""Errors keep their names and exit statuses: scripts are written against them."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobd import errors

#: INTERFACE "Exit statuses" and "jobd": never changed, only added to
FIXED = {
    "internal": 70,
    "usage": 2,
    "not-found": 66,
    "unreachable": 69,
    "outcome-unknown": 69,
    "conflict": 73,
    "refused": 75,
    "version": 76,
    "forbidden": 77,
    "invalid": 78,
    "time-over": 124,
    "config": 78,
    "queue-damaged": 65,
    "already-running": 73,
    "disk-failed": 74,
}


def every_class(top: type[errors.JobdError] = errors.JobdError) -> list[type[errors.JobdError]]:
    """All errors below `top`."""
    return [each for cls in top.__subclasses__() for each in (cls, *every_class(cls))]


def test_codes_and_statuses_stay() -> None:
    listed = {code: status for code, status, _ in errors.table()}
    assert {code: listed.get(code) for code in FIXED} == FIXED


def test_every_error_is_in_the_table_with_a_sentence() -> None:
    listed = {code: meaning for code, _, meaning in errors.table()}
    for cls in every_class():
        assert listed[cls.code].endswith("."), cls


@pytest.mark.parametrize("code", FIXED)
def test_an_error_is_the_same_on_both_sides_of_the_wire(code: str) -> None:
    error = errors.from_wire(code, "run 7: no", {"run": 7})
    assert (error.code, error.status, str(error)) == (code, FIXED[code], "run 7: no")
    assert error.details == {"run": 7}


def test_an_error_of_a_newer_daemon_is_still_an_error() -> None:
    error = errors.from_wire("from-the-future", "so it is", {})
    assert type(error) is errors.InternalError
    assert str(error) == "so it is"


def test_the_protocol_has_the_table_of_errors() -> None:
    text = (Path(errors.__file__).parent / "wire" / "PROTOCOL.md").read_text()
    rows = [f"| `{code}` | {status} | {meaning} |" for code, status, meaning in errors.table()]
    assert text.endswith("|---|---|---|\n" + "\n".join(rows) + "\n"), "\n".join(rows)
