"""Text for people: tables that fit, ages, sizes, and nothing that a terminal would obey."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobctl import render
from jobctl.logtext import Entry, Shower, entries
from jobctl.shape import FINAL, exit_status, exit_status_of, shaped
from jobd.core import states

COLUMNS: list[render.Column] = [
    ("ID", lambda row: str(row["id"]), False),
    ("KEY", lambda row: row.get("key", ""), True),
    ("WHY", lambda row: row.get("why", ""), True),
]


def test_a_column_that_no_row_uses_is_left_out() -> None:
    assert render.table([{"id": 1}], COLUMNS, None) == ["ID", "1"]


def test_piped_tables_are_never_cut() -> None:
    lines = render.table([{"id": 1, "why": "x" * 500}], COLUMNS, None)
    assert "x" * 500 in lines[1]


def test_a_table_fits_the_terminal() -> None:
    rows = [{"id": n, "key": "k" * 30, "why": "w" * 300} for n in (1, 22)]
    for room in (20, 40, 80, 200):
        lines = render.table(rows, COLUMNS, room)
        assert max(map(render.width, lines)) <= max(room, 24)
        assert lines[1].startswith("1   k")


def test_runs_fit_a_terminal_whatever_they_have() -> None:
    from jobctl.commands.ls import COLUMNS as RUNS

    row = {
        "id": 12345678,
        "job": "j" * 63,
        "status": "oom-killed",
        "priority": -1000,
        "key": "k" * 99,
    }
    row |= {"queued_at": "2026-01-01T00:00:00.000Z", "started_at": "2026-01-01T00:00:00.000Z"}
    row |= {"labels": {"team": "x" * 90}, "attempts": [{"number": 17}]}
    row |= {"reason": {"code": "oom-killed", "text": "w" * 200}}
    for room in (80, 100, 160):
        heading, line = render.table([row], RUNS, room)
        assert max(render.width(heading), render.width(line)) <= room
        assert "ID" in heading
        assert heading.endswith("REASON")
    assert "w" * 200 in render.table([row], RUNS, None)[1]


def test_wide_characters_keep_columns_straight() -> None:
    lines = render.table(
        [{"id": 1, "key": "日本", "why": "a"}, {"id": 2, "why": "b"}], COLUMNS, None
    )
    places = [render.width(lines[n][: lines[n].index(c)]) for n, c in ((1, "a"), (2, "b"))]
    assert places[0] == places[1]


@given(st.text(max_size=60))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = render.escape(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in shown)
    assert not any(unicodedata.bidirectional(c) in render_bidi for c in shown)
    shown.encode("utf-8")


render_bidi = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


def test_escapes_read_well() -> None:
    assert render.escape("a\x1b[31m\r\n\x9b\u202e") == "a\\x1b[31m\\r\\n\\x9b\\u202e"
    assert render.escape("a\tb", tabs=True) == "a\tb"
    assert render.escape("grün") == "grün"
    assert render.escape("\udc80") == "\\udc80"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0ms"),
        (999, "999ms"),
        (1400, "1.4s"),
        (9940, "9.9s"),
        (9960, "10s"),
        (61000, "1m1s"),
        (600000, "10m"),
        (9000000, "2h30m"),
        (86400000, "1d"),
        (11 * 86400000, "11d"),
    ],
)
def test_spans(ms: int, text: str) -> None:
    assert render.span(ms) == text


def test_ages() -> None:
    now = 1_700_000_000_000
    assert render.age(None, now) == ""
    assert render.age(now - 5_000, now) == "5s"
    assert render.age(now - 90_000, now) == "1m"
    assert render.age(now - 3 * 86_400_000, now) == "3d"
    assert render.age(now + 600_000, now) == "in 10m"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1K"),
        (1536, "1.5K"),
        (128 << 20, "128M"),
        (int(1.5 * (1 << 30)), "1.5G"),
        (5 << 40, "5120G"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert render.size(count) == text


def test_times_become_iso_at_any_depth_and_labels_stay() -> None:
    run = {
        "queued_at": 1_700_000_000_123,
        "finished_at": None,
        "trigger": {"kind": "cli", "scheduled_at": 0},
        "attempts": [{"started_at": 1_700_000_000_000, "run_ms": 5}],
        "labels": {"queued_at": "yes"},
        "submitted_by": {"user": b"\xff"},
    }
    assert shaped(run) == {
        "queued_at": "2023-11-14T22:13:20.123Z",
        "finished_at": None,
        "trigger": {"kind": "cli", "scheduled_at": "1970-01-01T00:00:00.000Z"},
        "attempts": [{"started_at": "2023-11-14T22:13:20.000Z", "run_ms": 5}],
        "labels": {"queued_at": "yes"},
        "submitted_by": {"user": "\ufffd"},
    }


def test_the_words_for_an_end_are_the_cores() -> None:
    assert {str(word) for word in states.FINAL} == FINAL


@pytest.mark.parametrize(
    ("run", "status"),
    [
        ({"status": "succeeded", "exit_code": 0}, 0),
        ({"status": "failed", "exit_code": 3}, 3),
        ({"status": "failed", "exit_code": 143}, 143),
        ({"status": "failed", "exit_code": -9}, 137),
        ({"status": "failed", "exit_code": None}, 1),
        ({"status": "failed", "exit_code": 256}, 1),
        ({"status": "timed-out", "exit_code": 137}, 1),
        ({"status": "oom-killed", "exit_code": 137}, 1),
        ({"status": "cancelled", "exit_code": None}, 1),
        ({"status": "lost", "exit_code": None}, 1),
    ],
)
def test_exit_statuses(run: dict[str, object], status: int) -> None:
    assert exit_status(run) == status
    assert exit_status_of([run], single=True) == status
    assert exit_status_of([run, run], single=False) == (1 if status else 0)


LOG = (
    b"2026-01-01T00:00:00.123456789Z stdout P ab\n"
    b"2026-01-01T00:00:00.123456790Z stderr F warn\xff\x1b[31m\n"
    b"2026-01-01T00:00:01.000000000Z stdout F  c d\r\n"
    b"2026-01-01T00:00:02.000000000Z jobd F 5 lines are missing\n"
    b"2026-01-01T00:00:03.000000000Z stdout F \n"
)


def test_log_lines_are_read_and_joined_byte_for_byte() -> None:
    read = entries(LOG, 1)
    assert [e.stream for e in read] == ["stdout", "stderr", "stdout", "jobd", "stdout"]
    raw = Shower(terminal=False)
    shown = b"".join(raw.show(e) for e in read if e.stream == "stdout")
    assert shown == b"ab c d\r\n\n"
    assert read[1].data == b"warn\xff\x1b[31m"
    assert read[0].shape() == {
        "time": "2026-01-01T00:00:00.123Z",
        "stream": "stdout",
        "text": "ab",
        "partial": True,
        "attempt": 1,
    }


def test_a_terminal_gets_escapes_and_whole_characters() -> None:
    shower = Shower(terminal=True, stamps=True)
    first = Entry("T1", "stdout", False, "ü".encode()[:1], 1)
    second = Entry("T2", "stdout", True, "ü".encode()[1:] + b"\x1b]0;x\x07\t\xff\r", 1)
    assert (shower.show(first) + shower.show(second)).decode() == "T1 ü\\x1b]0;x\\x07\t\\xff\n"


def test_a_last_line_without_end_is_ended_on_a_terminal_alone() -> None:
    for terminal, end in ((True, b"\n"), (False, b"")):
        shower = Shower(terminal=terminal)
        shower.show(Entry("T", "stdout", False, b"x", 1))
        assert shower.finish() == end


def test_what_is_no_log_line_is_still_shown() -> None:
    assert [(e.stream, e.data) for e in entries(b"garbage\n\n", 1)] == [("jobd", b"garbage")]


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_pass_to_a_pipe_unchanged(data: bytes, full: bool) -> None:
    data = data.replace(b"\n", b"")
    line = b"2026-01-01T00:00:00.000000000Z stdout " + (b"F " if full else b"P ") + data + b"\n"
    (entry,) = entries(line, 1)
    assert Shower(terminal=False).show(entry) == data + (b"\n" if full else b"")
