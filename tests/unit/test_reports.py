"""What running attempts say of themselves is kept, and told a few times a second."""

from __future__ import annotations

from jobd.daemon.reports import Reports


def test_what_is_said_often_is_told_a_few_times_a_second() -> None:
    told: list[int] = []
    live = {(1, 1), (2, 1)}
    reports = Reports(told.append, lambda run, attempt: (run, attempt) in live)
    for number in range(100):
        reports.take((1, 1), number, "", 1_000 + number)
    reports.take((2, 1), None, "x\n\x1b[31my", 1_050)
    assert told == [1, 2]
    assert reports.of(1) == (99, "")
    assert reports.of(2) == (None, "x [31my")
    assert reports.late == {1}, "the last word is told, too"
    reports.catch_up(1_500)
    assert told == [1, 2, 1]
    assert not reports.late
    reports.take((1, 1), 99, "", 2_000)
    assert told == [1, 2, 1], "nothing new"
    live.add((1, 2))
    reports.take((1, 3), 5, "", 3_000)
    assert reports.of(1) == (99, ""), "an attempt that is over says nothing more"
    assert reports.last(1, 2) is None
    assert reports.last(1, 1) == (99, "")
    reports.forget(1, 2)
    assert reports.of(1) is not None
    reports.forget(1, 1)
    assert reports.of(1) is None


def test_a_long_word_is_cut() -> None:
    reports = Reports(lambda run: None, lambda run, attempt: True)
    reports.take((1, 1), None, "x" * 100_000, 0)
    assert reports.of(1) == (None, "x" * 200)
