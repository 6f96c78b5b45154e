"""Image collection removes what jobd pulled and nobody needs, least recently used first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobd.core.commands import CancelRun
from jobd.daemon import imagegc
from jobd.daemon.imagegc import ImageCollector, Keep, needs
from jobd.daemon.imagetable import ImageTable
from tests.support.core import Bench

MB = 1 << 20


class Store:
    """Images of a host: names to ids, sizes of ids, and who has containers."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self.used_ids: set[str] = set()

    def add(self, name: str, image_id: str, size: int = 10 * MB) -> None:
        self.names[name] = image_id
        self.sizes[image_id] = size

    def image_id(self, name: str) -> str | None:
        return name if name in self.sizes else self.names.get(name)

    def size(self, name: str) -> int | None:
        return self.sizes.get(name)

    def tags(self, image_id: str) -> list[str]:
        return [name for name, its in self.names.items() if its == image_id]

    def used(self) -> set[str]:
        return self.used_ids

    def remove(self, name: str) -> bool:
        image_id = self.image_id(name)
        if image_id in self.used_ids:
            return False
        self.names.pop(name, None)
        if image_id is not None and not self.tags(image_id):
            del self.sizes[image_id]
        return True


class Rig:
    def __init__(self, path: Path) -> None:
        self.store = Store()
        self.path = path / "images.json"
        self.table = ImageTable(self.path)
        self.needed: set[str] | None = set()
        self.now = 1000.0

    def pull(self, name: str, image_id: str, at: float, size: int = 10 * MB) -> None:
        before = self.store.image_id(name)
        self.store.add(name, image_id, size)
        self.table.pulled(name, image_id, before, at)

    def collect(self, age: float | None = None, size: int | None = None) -> list[str]:
        collector = ImageCollector(
            self.store,  # type: ignore[arg-type]
            self.table,
            Keep(age, size),
            lambda: self.needed,
            lambda: self.now,
        )
        return collector.collect()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_what_was_not_used_for_long_goes(rig: Rig) -> None:
    rig.pull("old", "sha256:1", 100)
    rig.pull("used", "sha256:2", 100)
    rig.pull("new", "sha256:3", 950)
    rig.table.used("sha256:2", 990)
    assert rig.collect(age=100) == ["old"]
    assert set(rig.store.names) == {"used", "new"}


def test_the_least_recently_used_go_until_the_rest_fits(rig: Rig) -> None:
    for number, at in enumerate((300, 100, 200, 400)):
        rig.pull(f"i{number}", f"sha256:{number}", at)
    assert rig.collect(size=25 * MB) == ["i1", "i2"]


def test_what_others_pulled_is_not_touched(rig: Rig) -> None:
    rig.store.add("theirs", "sha256:9", 1000 * MB)
    rig.pull("ours", "sha256:1", 1)
    assert rig.collect(age=1, size=0) == ["ours"]
    assert rig.store.names == {"theirs": "sha256:9"}


def test_what_is_needed_or_in_use_stays(rig: Rig) -> None:
    rig.pull("job", "sha256:1", 1)
    rig.pull("by-id", "sha256:2", 1)
    rig.pull("other-name-of-it", "sha256:1", 1)
    rig.pull("container", "sha256:3", 1)
    rig.needed = {"job", "sha256:2"}
    rig.store.used_ids = {"sha256:3"}
    assert rig.collect(age=1, size=0) == []
    rig.needed = None
    rig.store.used_ids = set()
    assert rig.collect(age=1, size=0) == [], "the daemon is going down: nobody knows what is needed"


def test_a_name_that_somebody_gave_to_another_image_is_theirs_now(rig: Rig) -> None:
    rig.pull("name", "sha256:1", 1)
    rig.store.add("name", "sha256:2")
    assert rig.collect(age=1) == []
    assert rig.table.rows() == []


def test_an_image_whose_name_went_to_a_newer_one_goes_by_its_id(rig: Rig) -> None:
    rig.pull("name", "sha256:1", 1)
    rig.pull("name", "sha256:2", 999)
    rig.store.sizes["sha256:1"] = MB
    assert rig.collect(age=100) == ["sha256:1"]
    rig.pull("name", "sha256:3", 999)
    rig.store.add("kept-by-somebody", "sha256:2")
    rig.now = 5000
    assert rig.collect(age=100) == ["name"], "the one that has another name is left"


def test_the_table_outlives_the_daemon(rig: Rig) -> None:
    rig.pull("a", "sha256:1", 1)
    rig.table.used("sha256:1", 500)
    rig.table.save()
    assert ImageTable(rig.path).rows() == rig.table.rows()
    assert rig.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version": 2, "images": []}', '{"version": 1, "images": [{"name": 1}]}',
     '{"version": 1, "images": [{"name": "a", "image_id": "b", "pulled_at": "x", "used_at": 1}]}'],
)  # fmt: skip
def test_a_damaged_table_is_begun_anew_so_nothing_is_removed(rig: Rig, text: str) -> None:
    rig.pull("a", "sha256:1", 1)
    rig.path.write_text(text)
    rig.table = ImageTable(rig.path)
    assert rig.collect(age=1, size=0) == []
    rig.pull("b", "sha256:2", 1)
    assert len(json.loads(rig.path.read_text())["images"]) == 1


def test_a_disk_that_is_full_costs_the_table_alone(rig: Rig) -> None:
    rig.path.parent.joinpath(".images.json.new").mkdir()
    rig.pull("a", "sha256:1", 1)
    assert not rig.path.exists()
    rig.path.parent.joinpath(".images.json.new").rmdir()
    rig.table.save()
    assert rig.path.exists()


def test_jobs_and_runs_that_are_not_over_need_their_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imagegc, "_SCAN", 2)
    bench = Bench()
    bench.register("job", image="old:1")
    waiting, over = bench.queue("job"), bench.queue("job")
    bench.register("job", image="new:1")
    later = [bench.queue("job") for _ in range(5)]
    bench.do(CancelRun(over.id))
    bench.register("idle", image="idle:1")
    needed = needs(bench.state, lambda work: work())
    assert needed() == {"old:1", "new:1", "idle:1"}
    for run in (waiting, *later):
        bench.do(CancelRun(run.id))
    assert needed() == {"new:1", "idle:1"}
