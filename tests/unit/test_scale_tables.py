"""The tables that a long queue is kept in, each by itself."""

from __future__ import annotations

import gc
import os

from jobd.core.requests import Requests
from jobd.core.runids import RunIds
from jobd.core.shards import SPLIT, Shards
from jobd.daemon.garbage import Garbage


def test_a_large_dict_is_in_parts() -> None:
    shards: Shards[str, int] = Shards()
    for number in range(SPLIT):
        shards[f"k{number}"] = number
    assert len(shards._parts) == 1
    for number in range(SPLIT, 3 * SPLIT):
        shards[f"k{number}"] = number
    assert len(shards) == 3 * SPLIT
    assert max(map(len, shards._parts)) < SPLIT // 20
    assert shards["k7"] == shards.get("k7") == 7
    assert "k7" in shards
    del shards["k7"]
    assert "k7" not in shards
    assert shards.get("k7") is None
    assert dict(shards)["k8"] == 8


def test_ids_of_runs_that_are_gone_go() -> None:
    ids = RunIds()
    for number in [*range(1, 5_001), 6_000, 5_500]:
        ids.add(number)
    there = set(ids.between(0, 10_000))
    for number in range(1, 4_000):
        there.remove(number)
        ids.gone(there.__contains__)
    assert len(ids) == len(there)
    assert len(ids.between(0, 10_000)) < 4_000
    assert list(ids.between(4_999, 5_999)) == [4_999, 5_000, 5_500]
    assert list(ids.below(5_500, 2)) == [4_999, 5_000]
    assert list(ids.below(None, 1)) == [6_000]


def test_request_keys_that_follow_each_other_lie_apart() -> None:
    requests = Requests()
    first = int.from_bytes(os.urandom(16), "big") & ~0xFFFFF
    for number in range(20_000):
        requests.add((first + number).to_bytes(16, "big"), number + 1, 0)
    assert max(map(len, requests._parts)) <= 24 * 12
    assert list(requests.find((first + 77).to_bytes(16, "big"))) == [78]
    assert [runs.start for _, runs in requests.oldest_first()] == list(range(1, 20_001))


def test_a_key_is_not_found_across_two_entries() -> None:
    requests = Requests()
    requests._parts = [bytes(range(48))] * len(requests._parts)
    assert not requests.find(bytes(range(8, 24)))
    requests._parts = [bytes(range(16)) * 3] * len(requests._parts)
    assert requests.find(bytes(range(16))), "also where it begins elsewhere too"


def test_a_key_that_was_used_again_means_the_newer_run() -> None:
    requests = Requests()
    requests.add(b"k" * 16, 1, 0)
    requests.add(b"k" * 16, 9, 0)
    requests.add(b"k" * 16, 10, 1)
    assert list(requests.find(b"k" * 16)) == [9, 10]


def test_requests_are_looked_through_a_few_at_a_time() -> None:
    requests, asked = Requests(), []
    for number in range(1, 2_001):
        requests.add(os.urandom(16), number, 0)

    def queued_at(run: int) -> int:
        asked.append(run)
        return run

    for _ in range(3 * 65_536 // (16 * 50)):
        before = len(asked)
        requests.expire(queued_at, 1_001, 50)
        assert len(asked) - before < 100
    assert [runs.start for _, runs in requests.oldest_first()] == list(range(1_001, 2_001))


def test_what_has_lived_is_not_looked_at_again() -> None:
    thresholds = gc.get_threshold()
    try:
        garbage = Garbage()
        garbage.loaded()
        frozen = gc.get_freeze_count()
        kept = [[] for _ in range(200_000)]  # type: ignore[var-annotated]
        assert gc.get_count()[2] >= 2
        garbage.look()
        assert gc.get_freeze_count() >= frozen + len(kept)
        assert gc.get_count()[2] == 0
        frozen = gc.get_freeze_count()
        garbage.look()
        garbage.rest(runs=1_000_000)
        assert gc.get_freeze_count() == frozen, "there is nothing new"
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
