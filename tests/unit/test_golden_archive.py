"""Archives of every version so far are read as they were written (fault matrix, row 28)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.golden_archive import listing, make
from tests.unit.test_golden_queues import DATA, missing, plain

GOLDEN = sorted(DATA.glob("archive-*"))


def test_there_is_one() -> None:
    assert GOLDEN


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_it_is_read_as_it_was_written(golden: Path, tmp_path: Path) -> None:
    copy = tmp_path / "archive"
    shutil.copytree(golden, copy)
    expected = json.loads((golden / "expected.json").read_text())
    assert len(expected["runs"]) == 10
    assert missing(expected, plain(listing(copy))) == []


def test_one_that_is_made_now_is_read(tmp_path: Path) -> None:
    make(tmp_path / "now")
    expected = json.loads((tmp_path / "now" / "expected.json").read_text())
    assert missing(expected, plain(listing(tmp_path / "now"))) == []
    assert [series for series, _ in expected["segments"].values()].count("dead") == 1
    expected["runs"]["1"]["payload"] = ""
    assert missing(expected, plain(listing(tmp_path / "now"))) != []
