"""Recent events in memory, and older ones from the queue's files: the same, by the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobd.core import events as e
from jobd.daemon import past
from jobd.daemon.past import Past
from jobd.errors import QueueDamagedError
from jobd.journal import Journal, RecordIn
from jobd.server.events import name_of
from jobd.server.recent import Recent, place_of, seq_of


def finished(run: int, at: int = 0) -> e.Event:
    return e.RunFinished(run, at, "succeeded", "code", "text")


def record(event: e.Event) -> RecordIn:
    cls = type(event)
    return RecordIn(e.TYPE_OF[cls], e.KIND_OF[cls], event[0], 1, e.encode(event))


def test_a_number_is_a_batch_and_a_place() -> None:
    assert place_of(seq_of(7, 65_535)) == (7, 65_535)
    assert seq_of(7, 65_535) < seq_of(8, 0)


def test_what_is_behind_a_number() -> None:
    recent = Recent(4)
    assert recent.after(recent.last, 10) == ([], recent.last, False, None)
    recent.add(5, [finished(1), finished(2)], 10)
    recent.add(7, [finished(3)], 10)
    page = recent.after(seq_of(4, 0), 10)
    assert page is None, "what was before the start is in the files alone"
    page = recent.after(seq_of(5, 0) - 1, 10)
    assert page is not None
    assert [event.run for _, event in page.events] == [1, 2, 3]  # type: ignore[union-attr]
    assert (page.next, page.more) == (seq_of(7, 0), False)
    page = recent.after(seq_of(5, 0), 1)
    assert page is not None
    assert (page.events, page.next, page.more) == (
        [(seq_of(5, 1), finished(2))],
        seq_of(5, 1),
        True,
    )
    page = recent.after(seq_of(5, 1), 1)
    assert page is not None
    assert (page.next, page.more) == (seq_of(7, 0), False)


def test_old_batches_are_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    recent = Recent(0)
    for lsn in range(1, 20_001):
        recent.add(lsn, [finished(lsn)], 10)
    assert recent.after(seq_of(1, 0), 10) is None
    page = recent.after(seq_of(10_000, 0), 10)
    assert page is not None
    assert page.events[0] == (seq_of(10_001, 0), finished(10_001))
    recent.add(20_001, [finished(1)], 5 << 20)
    assert recent.after(seq_of(19_999, 0), 10) is None, "a large one takes the place of all others"
    assert recent.after(seq_of(20_000, 0), 10) is not None


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Batches of one to five records over several segments, each run's time its id."""
    run = 1
    for _ in range(3):
        journal = Journal.open(tmp_path, segment_bytes=1 << 16, reserve_bytes=0)
        for size in (1, 5, 2, 3):
            journal.write([record(finished(run + n, run + n)) for n in range(size)])
            run += size
        journal.idle()
        journal.close()
    return Journal.open(tmp_path, segment_bytes=1 << 16, reserve_bytes=0)


def pages(journal: Journal, most: int, since: int = 0) -> list[int]:
    """The runs of all events, page by page."""
    reader, after, runs = Past(journal), 0, []
    while True:
        page = reader.page(after, since, most)
        assert len(page.events) <= most
        runs += [event[0] for _, event in page.events]
        assert all(after < seq <= page.next for seq, _ in page.events)
        if not page.more:
            return runs
        assert page.next > after
        after = page.next


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("enough", [1, 200, 1 << 20])
def test_every_event_once_and_in_order(
    journal: Journal, most: int, enough: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "_BYTES", enough)
    assert pages(journal, most) == list(range(1, 34))
    assert pages(journal, most, since=20) == list(range(20, 34))
    journal.close()


def test_from_any_number_without_a_mark(journal: Journal) -> None:
    everything = Past(journal).page(0, 0, 100).events
    for index, (seq, _) in enumerate(everything):
        assert Past(journal).page(seq, 0, 100).events == everything[index + 1 :]
    journal.close()


def test_marks_are_not_kept_for_ever(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "_MARKS", 2)
    reader = Past(journal)
    everything = reader.page(0, 0, 100).events
    for seq, _ in everything:
        reader.page(seq, 0, 1)
    assert len(reader._marks) == 2
    assert reader.page(everything[0][0], 0, 100).events == everything[1:]
    journal.close()


def test_what_is_written_meanwhile_is_seen(journal: Journal) -> None:
    reader = Past(journal)
    end = reader.page(0, 0, 100).next
    journal.write([record(finished(99, 99))])
    assert [event[0] for _, event in reader.page(end, 0, 100).events] == [99]
    assert seq_of(journal.lsn, 0) == reader.page(end, 0, 100).next
    journal.close()


def test_damage_is_told(journal: Journal, tmp_path: Path) -> None:
    first = sorted(tmp_path.glob("seg-*"))[0]
    data = bytearray(first.read_bytes())
    data[4096 + 60] ^= 1
    first.write_bytes(bytes(data))
    with pytest.raises(QueueDamagedError, match=first.name):
        Past(journal).page(0, 0, 100)
    journal.close()


def test_the_names_of_events() -> None:
    names = [name_of(cls) for cls in e.BY_TYPE.values()]
    assert len(set(names)) == len(names)
    assert {"run.moved-first", "job.runs-cancelled", "attempt.claimed"} <= set(names)
    kinds = {"job", "schedule", "watch", "reaction", "join", "run", "attempt", "drop", "topic"}
    kinds |= {"alert", "alerts", "host"}
    assert {name.partition(".")[0] for name in names} == kinds
