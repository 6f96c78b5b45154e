"""What single records say of a run when others are gone (fault 6): three rules, one at a time."""

from __future__ import annotations

from jobd.core import events as e
from jobd.core.remains import Items, Remains, RunRemains, Seen
from jobd.core.state import State

WHO = [0, "root", 1, ""]
AT = 1_700_000_000_000
SPEC = {"name": "job", "command": ["true"]}


def seen(event: e.Event, revision: int, *, whole: bool = True) -> Seen:
    """A record of that change; not `whole`: known by its frame alone."""
    cls = type(event)
    number, kind = e.CODES_OF[cls]
    return Seen(number, kind, event[0], revision, event if whole else None, whole)


BEGIN = (
    seen(e.JobRegistered(1, "job", 1, SPEC, AT, WHO), 1),
    seen(e.RunQueued(1, 1, 1, AT, "cli", WHO, b"x"), 1),
)


def run_of(*more: Seen) -> tuple[Remains, RunRemains]:
    """What remains of run 1."""
    items: Items = lambda: iter((*BEGIN, *more))  # noqa: E731
    remains = Remains(items, State())
    return remains, remains.runs[1]


def test_all_of_it_is_there() -> None:
    _, run = run_of(seen(e.AttemptClaimed(1, 1, AT), 2))
    assert (run.hurt, run.attempts) == ("", 1)


def test_a_change_that_is_not_there_is_a_hole() -> None:
    _, run = run_of(seen(e.RunHeld(1, AT, "held", "by root", WHO), 3))
    assert run.hurt == "1 of its 3 changes are lost"


def test_a_record_that_is_met_twice_counts_once() -> None:
    claimed = seen(e.AttemptClaimed(1, 1, AT), 2)
    remains, run = run_of(claimed, claimed)
    assert remains.twice == {4}
    assert run.rev == 2


def test_an_attempt_that_only_a_frame_tells_of_is_counted() -> None:
    """Its name may have been given to a container: it is not used again."""
    _, run = run_of(seen(e.AttemptClaimed(1, 1, AT), 2, whole=False))
    assert run.attempts == 1
    assert "AttemptClaimed" in run.hurt
