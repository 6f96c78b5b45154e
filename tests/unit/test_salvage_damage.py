"""Salvage of a queue that is hurt in every way: what is intact is there, and nothing is made up."""

from __future__ import annotations

import os

import pytest

from jobd.daemon.salvage import salvage
from jobd.journal.segment import HEADER_BYTES
from tests.support.damaged_store import flipped
from tests.support.hurt_queue import JOB_OF, LIFE, WHO, Hurt, Q, Queue, fates, mended

#: every bit with JOBD_TEST_EVERY=1, else one bit of each byte, another one from byte to byte
EVERY = bool(os.environ.get("JOBD_TEST_EVERY"))
WINDOW = 512


@pytest.fixture(scope="module")
def queue() -> Queue:
    return Queue()


def allowed(queue: Queue, name: str, start: int, stop: int) -> set[int]:
    """The runs that may be suspect where that range is hurt and every frame in it can be named."""
    jobs, runs = queue.touched(name, start, stop)
    return runs | {run for run, job in JOB_OF.items() if job in jobs}


@pytest.mark.parametrize("number", range(len(LIFE)))
def test_one_flipped_bit_costs_no_other_run(queue: Queue, number: int) -> None:
    name = queue.names[number]
    data = queue.data[name]
    damaged = 0
    # a header's bits are alike: all of its fields, and a few of the many zeroes behind them
    places = [*range(120), HEADER_BYTES // 2, *range(HEADER_BYTES - 6, len(data))]
    for place in places:
        for bit in range(8) if EVERY else [place % 8]:
            hurt = queue.check(queue.hurt({name: flipped(data, place * 8 + bit)}))
            if hurt is None:
                continue
            damaged += 1
            may = allowed(queue, name, place, place + 1)
            assert hurt.suspect <= may, f"byte {place} bit {bit} of {name}"
            assert not hurt.missing
            jobs, runs = queue.touched(name, place, place + 1)
            assert runs <= hurt.suspect, f"byte {place} bit {bit}: {runs} is not named"
            assert all(one["nameless"] is False for one in hurt.report["damage"])
            if jobs:
                assert [one["job"] for one in hurt.report["jobs"]], "the job is not marked"
    assert damaged > len(data) - HEADER_BYTES - 200


@pytest.mark.parametrize("number", range(len(LIFE)))
def test_a_zeroed_window_never_makes_a_run_that_is_not_true(queue: Queue, number: int) -> None:
    name = queue.names[number]
    data = queue.data[name]
    step = 8 if EVERY else 40
    seen = 0
    for start in range(HEADER_BYTES - WINDOW, len(data), step):
        stop = min(start + WINDOW, len(data))
        hurt = queue.check(queue.hurt({name: data[:start] + bytes(stop - start) + data[stop:]}))
        if hurt is not None:
            seen += 1
            _, runs = queue.touched(name, start, stop)
            told = hurt.suspect | hurt.missing
            # the newest run is not known to have been where its only record is gone
            assert runs - told <= {7}, f"{runs} in {start}-{stop} of {name}: told are {told}"
    assert seen > 4


def test_a_zeroed_header_of_a_segment_costs_nothing(queue: Queue) -> None:
    name = queue.names[1]
    hurt = queue.check(queue.hurt({name: bytes(HEADER_BYTES) + queue.data[name][HEADER_BYTES:]}))
    assert hurt is not None
    assert (hurt.suspect, hurt.missing) == (set(), set())


def test_a_missing_segment_leaves_no_live_run_unheld(queue: Queue) -> None:
    hurt = queue.check(queue.hurt({queue.names[1]: None}))
    assert hurt is not None
    # run 1 had ended in it, 4 was held and cancelled, 2 was claimed; 5 and 6 were queued in it
    assert hurt.suspect == {1, 2, 3, 4}
    assert hurt.missing == {5, 6}
    # 2 may have had one attempt more than what is known, and 7 is untouched
    assert hurt.state.next_run > 7
    assert hurt.state.runs.get(7) is not None


def test_a_missing_first_segment_leaves_runs_that_only_a_person_can_end(queue: Queue) -> None:
    hurt = queue.check(queue.hurt({queue.names[0]: None}))
    assert hurt is not None
    codes = {one["run"]: one["code"] for one in hurt.report["suspect"]}
    assert codes[1] == codes[2] == codes[4] == "unreadable"
    # their job cannot be read, and nobody may guess what they were to do
    assert codes[5] == codes[7] == "suspect"
    assert hurt.missing == {3}


def test_swapped_and_doubled_segments(queue: Queue) -> None:
    first, second, third = queue.names
    swapped = {first: queue.data[second], second: queue.data[first]}
    hurt = queue.check(queue.hurt(swapped))
    assert hurt is not None
    assert (hurt.suspect, hurt.missing) == (set(), set()), "nothing was lost but names"
    hurt = queue.check(queue.hurt({third: queue.data[second]}))
    assert hurt is not None


def test_a_segment_of_another_queue_is_not_taken(queue: Queue) -> None:
    other = Queue()
    name = queue.names[2]
    hurt = queue.check(queue.hurt({name: other.data[name]}))
    assert hurt is not None
    assert hurt.state.runs.get(7) is None
    assert any("another queue" in one["what"] for one in hurt.report["damage"])


def test_once_salvaged_a_queue_is_sound(queue: Queue) -> None:
    hurt = queue.check(queue.hurt({queue.names[1]: None}))
    assert hurt is not None
    again = salvage(hurt.disk, Q, WHO)
    assert again == {"queue": Q, "sound": True, "salvaged": False, "quarantine": None}
    assert fates(mended(hurt.disk).state) == fates(hurt.state)


def test_two_hurt_places(queue: Queue) -> None:
    first, second, _ = queue.names
    one = flipped(queue.data[first], queue.data[first].index(b"three") * 8)
    two = flipped(queue.data[second], queue.data[second].index(b"five") * 8)
    hurt = queue.check(queue.hurt({first: one, second: two}))
    assert hurt is not None
    assert hurt.suspect == {3, 5}


def attempts_of(hurt: Hurt, run: int) -> int:
    found = hurt.state.runs.get(run)
    assert found is not None
    return len(found.attempts or ())


def test_the_name_of_an_attempt_that_may_have_been_is_not_used_again(queue: Queue) -> None:
    data = queue.data[queue.names[1]]
    start = next(place for place in queue.places[queue.names[1]] if place[3] == 2)
    # the claim of run 2 has its frame alone left
    hurt = queue.check(
        queue.hurt(
            {
                queue.names[1]: data[: start[0] + 28]
                + bytes(start[1] - start[0] - 28)
                + data[start[1] :]
            }
        )
    )
    assert hurt is not None
    assert hurt.suspect == {2}
    assert attempts_of(hurt, 2) == 1
