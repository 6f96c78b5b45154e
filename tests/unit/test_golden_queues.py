"""Queues of every version so far are read as they were written (fault matrix, row 28)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobd.core import events, statements
from jobd.journal import Fs, Journal
from jobd.journal.snapshot import statements_in, survey
from tests.support.golden_queue import copied, listing, make

DATA = Path(__file__).parent.parent / "data"
GOLDEN = sorted(DATA.glob("queue-*"))


def missing(expected: Any, found: Any, place: str = "") -> list[str]:
    """What of `expected` is not in `found`: a later version may say more of everything."""
    if isinstance(expected, dict) and isinstance(found, dict):
        lines = [f"{place}/{key}: gone" for key in expected.keys() - found.keys()]
        for key in expected.keys() & found.keys():
            lines += missing(expected[key], found[key], f"{place}/{key}")
        return lines
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = zip(expected, found, strict=True)
        return [line for n, pair in enumerate(pairs) for line in missing(*pair, f"{place}/{n}")]
    return [] if expected == found else [f"{place}: {expected!r} is now {found!r}"]


def plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def test_there_is_one() -> None:
    assert GOLDEN


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
@pytest.mark.parametrize("way", ["as it is", "newest snapshot damaged", "newest snapshot missing"])
def test_it_is_read_as_it_was_written(golden: Path, way: str, tmp_path: Path) -> None:
    folder = copied(golden, tmp_path)
    expected = json.loads((golden / "expected.json").read_text())
    newest = sorted(folder.glob("snap-*.snap"))[-1]
    if way.endswith("damaged"):
        data = bytearray(newest.read_bytes())
        data[len(data) // 2] ^= 1
        newest.write_bytes(data)
    elif way.endswith("missing"):
        newest.unlink()
    assert missing(expected, plain(listing(folder))) == []


def types_in(golden: Path, place: Path) -> set[int]:
    """The types of the records in a golden queue, in its snapshots and its segments."""
    copy = copied(golden, place)
    stated = {
        one.type
        for path in copy.glob("snap-*.snap")
        for one in statements_in(Fs(), survey(Fs(), str(path)), None)
    }
    journal = Journal.open(copy, reserve_bytes=0, segment_bytes=1 << 16)
    written = {entry.type for batch in journal.batches_after(0) for entry in batch.entries}
    journal.close()
    return stated | written


def test_every_event_and_statement_is_in_some(tmp_path: Path) -> None:
    found = set().union(*(types_in(golden, tmp_path) for golden in GOLDEN))
    known = {**events.BY_TYPE, **statements.BY_TYPE}
    lacking = [known[number].__name__ for number in known.keys() - found]
    assert not lacking, (
        f"{lacking}: put them into tests/support/golden_queue.py and make one more golden queue: "
        f"python -m tests.support.golden_queue tests/data/queue-{len(GOLDEN) + 1}"
    )


def test_one_that_is_made_now_is_read(tmp_path: Path) -> None:
    now = tmp_path / "queue-now"
    make(now)
    names = sorted(path.name.split("-")[0] for path in now.iterdir())
    assert names == ["expected.json", "seg", "seg", "snap", "snap"]
    (tmp_path / "copy").mkdir()
    found = listing(copied(now, tmp_path / "copy"))
    assert missing(json.loads((now / "expected.json").read_text()), plain(found)) == []
    found["runs"]["1"]["payload"] = ""
    found["jobs"]["1"]["more"] = "than there was"
    assert missing(json.loads((now / "expected.json").read_text()), plain(found)) != []
