"""Who has much waiting is passed by everybody else, each time."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.server.rota import Lanes, Rota


def drained(rota: Rota[str]) -> list[str]:
    found = []
    while (entry := rota.next()) is not None:
        found.append(entry)
    return found


def test_users_take_turns_and_each_ones_connections_do() -> None:
    rota: Rota[str] = Rota()
    for number in range(3):
        rota.put(7, number, f"7.{number}")
    rota.put(8, 9, "8.9")
    rota.put(7, 0, "7.0")  # waits already: no second turn
    assert drained(rota) == ["7.0", "8.9", "7.1", "7.2"]
    assert not rota


def test_who_is_gone_has_no_turn() -> None:
    rota: Rota[str] = Rota()
    rota.put(7, 1, "a")
    rota.put(7, 2, "b")
    rota.drop(7, 1)
    rota.drop(7, 5)
    rota.drop(8, 1)
    assert drained(rota) == ["b"]
    rota.put(7, 1, "a")
    rota.drop(7, 1)
    assert not rota


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=60))
def test_nobody_waits_for_more_than_one_of_each_other(asked: list[tuple[int, int]]) -> None:
    """Requests of a connection keep their order; between two of a user are one of each other."""
    lanes: Lanes[tuple[int, int, int]] = Lanes()
    for place, (uid, number) in enumerate(asked):
        lanes.put(uid, uid * 10 + number, (uid, number, place))
    found = []
    while (entry := lanes.next(lambda one: one[0])) is not None:
        found.append(entry)
    assert sorted(found) == sorted((*pair, place) for place, pair in enumerate(asked))
    for pair in set(asked):
        places = [place for uid, number, place in found if (uid, number) == pair]
        assert places == sorted(places)
    for uid in {uid for uid, _ in asked}:
        mine = [at for at, one in enumerate(found) if one[0] == uid]
        for before, after in itertools.pairwise(mine):
            between = [one[0] for one in found[before + 1 : after]]
            assert len(between) == len(set(between))
