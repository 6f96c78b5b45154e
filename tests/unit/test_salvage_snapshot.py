"""Salvage of a queue that goes on from a snapshot: what the snapshot tells of is untouched."""

from __future__ import annotations

import pytest

from jobd.core.states import RunState
from jobd.journal.segment import HEADER_BYTES
from tests.support.damaged_store import flipped
from tests.support.hurt_queue import Q, Queue, fates
from tests.unit.test_salvage_damage import allowed

DONE = {1, 4, 6}


@pytest.fixture(scope="module")
def queue() -> Queue:
    return Queue(snapshot=True)


def behind(queue: Queue) -> str:
    """The segment that holds what was written since."""
    return next(name for name in queue.names if queue.places[name])


def test_one_flipped_bit_behind_it_costs_no_other_run(queue: Queue) -> None:
    name = behind(queue)
    data = queue.data[name]
    seen = 0
    for place in [*range(100), *range(HEADER_BYTES - 4, len(data))]:
        hurt = queue.check(queue.hurt({name: flipped(data, place * 8 + place % 8)}))
        if hurt is None:
            continue
        seen += 1
        assert hurt.suspect <= allowed(queue, name, place, place + 1) - DONE
        assert queue.touched(name, place, place + 1)[1] <= hurt.suspect
        assert not hurt.missing
    assert seen > 300


def test_a_zeroed_window_behind_it_holds_what_was_live(queue: Queue) -> None:
    name = behind(queue)
    data = queue.data[name]
    for start in range(HEADER_BYTES, len(data) - 200, 16):
        hurt = queue.check(queue.hurt({name: data[:start] + bytes(200) + data[start + 200 :]}))
        if hurt is not None:
            assert not hurt.suspect & DONE


def test_an_active_run_of_the_snapshot_is_held_with_its_attempt_lost(queue: Queue) -> None:
    name = behind(queue)
    data = queue.data[name]
    start, stop, _, _ = next(place for place in queue.places[name] if place[3] == 2)
    hurt = queue.check(queue.hurt({name: data[: start + 30] + b"\xff" * 6 + data[start + 36 :]}))
    assert hurt is not None
    assert stop > start + 36
    assert hurt.suspect == {2}
    found = fates(hurt.state)[2]
    assert found.state is RunState.HELD
    assert [outcome for _, outcome in found.attempts] == ["lost"]


def test_a_missing_segment_behind_it(queue: Queue) -> None:
    """The whole of what was written since is gone, and another segment says so."""
    name = behind(queue)
    index = queue.names.index(name)
    later = queue.names[index + 1 :]
    hurt = queue.check(queue.hurt({name: None}))
    if later:
        assert hurt is not None
        assert hurt.suspect >= {2, 3, 5}
    assert hurt is None or not hurt.suspect & DONE


def test_a_damaged_snapshot_whose_segments_are_gone(queue: Queue) -> None:
    name = next(name for name in queue.disk.listdir(Q) if name.endswith(".snap"))
    data = queue.disk.data(f"{Q}/{name}")
    hurt = queue.check(queue.hurt({name: flipped(data, (HEADER_BYTES + 200) * 8)}))
    assert hurt is not None
    # nothing of it is believed, and nothing is made up: 7 was queued for a job that cannot be read
    assert all(one.state is RunState.HELD for one in fates(hurt.state).values())
    assert {number for number in queue.truth if number not in fates(hurt.state)} <= hurt.missing
