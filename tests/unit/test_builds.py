"""Builds: one for each request, read at any pace, their end told after all that they said."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobd.core.commands import Body
from jobd.daemon import builds
from jobd.daemon.builds import Builds
from jobd.engine.base import EngineUnreachableError
from jobd.engine.imagestore import BuildFailedError, BuildOrder, Built, repository_of, shown
from jobd.errors import ConflictError, InvalidError, RefusedError
from jobd.journal.bodies import Bodies
from jobd.server.kernel import BuildView
from tests.support.attempt_rig import until

PLAIN: dict[str, Any] = {"dockerfile": "Dockerfile", "args": {}, "network": None, "target": None}


class Store:
    """Says what the test lets it say."""

    def __init__(self) -> None:
        self.words: queue.SimpleQueue[str | Exception | None] = queue.SimpleQueue()
        self.orders: list[BuildOrder] = []

    def build(self, order: BuildOrder, out: Callable[[str], None]) -> Built:
        self.orders.append(order)
        assert order.context.read_bytes() == b"context"
        while (word := self.words.get(timeout=30)) is not None:
            if isinstance(word, Exception):
                raise word
            out(word)
        return Built(f"{order.repository}:0123", "sha256:0123")


class Bench:
    def __init__(self, path: Path) -> None:
        self.store = Store()
        self.bodies = Bodies(path)
        self.fatal: list[Exception] = []
        self.builds = Builds(self.store, self.bodies, 1 << 20, self.fatal.append)  # type: ignore[arg-type]
        self.told: list[int] = []
        self.builds.changed = self.told.append
        self.contexts: list[Body] = []

    def context(self) -> Body:
        self.contexts.append(self.bodies.put(b"context"))
        return self.contexts[-1]

    def begin(self, key: bytes | None = None) -> int:
        return self.builds.begin(key, self.context, "My.Job", PLAIN)

    def view(self, number: int, offset: int = 0, size: int = 1 << 20) -> BuildView:
        view = self.builds.view(number, offset, size)
        assert view is not None
        return view


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("build")])
    bench.bodies.close()
    assert not bench.fatal


def test_it_is_told_as_it_goes_and_its_end_after_all(bench: Bench) -> None:
    number = bench.begin()
    bench.store.words.put("one\n")
    until(lambda: bench.view(number).data == b"one\n")
    assert not bench.view(number).over
    assert bench.told == [number]
    bench.store.words.put("two\n")
    bench.store.words.put(None)
    until(lambda: bench.view(number).over)
    assert bench.view(number, 0, 5) == BuildView(b"one\nt", 5, False, None, None, None)
    view = bench.view(number, 5)
    assert (view.data, view.offset, view.over) == (b"wo\n", 8, True)
    assert (view.image, view.image_id) == ("jobd/my-job:0123", "sha256:0123")
    assert not bench.bodies.path(bench.contexts[0]).exists()


def test_the_same_request_begins_it_once(bench: Bench) -> None:
    assert bench.begin(b"key") == bench.begin(b"key")
    assert len(bench.contexts) == 1
    bench.store.words.put(None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [(BuildFailedError("no"), InvalidError), (EngineUnreachableError("away"), RefusedError)],
)
def test_a_failure_is_told_behind_the_output(
    bench: Bench, error: Exception, kind: type[Exception]
) -> None:
    number = bench.begin()
    bench.store.words.put("oops\n")
    bench.store.words.put(error)
    until(lambda: bench.view(number).over)
    assert bench.view(number, 0, 2).error is None
    assert isinstance(bench.view(number, 2).error, kind)


def test_only_so_many_at_once(bench: Bench) -> None:
    for _ in range(builds.AT_ONCE):
        bench.begin()
    with pytest.raises(RefusedError, match="under way"):
        bench.begin()
    for _ in range(builds.AT_ONCE):
        bench.store.words.put(None)


def test_a_reader_that_is_slow_finds_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "KEEP", 100)
    number = bench.begin()
    for index in range(100):
        bench.store.words.put(f"line {index:4}\n")
    bench.store.words.put(None)
    until(lambda: bench.view(number, 1000).over)
    read, offset = b"", 0
    while not (view := bench.view(number, offset, 64)).over:
        read, offset = read + view.data, view.offset
    read += view.data
    assert read.startswith(b"[")
    assert b"bytes of output were not kept]\n" in read
    assert read.endswith(b"line   99\n")


def test_old_ones_are_forgotten(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "REMEMBERED", 1)
    numbers = []
    for index in range(4):
        number = bench.begin(b"%d" % index)
        bench.store.words.put(None)
        until(lambda: bench.view(number).over)  # noqa: B023
        numbers.append(number)
    assert bench.builds.view(numbers[0], 0, 1) is None
    assert bench.builds.view(numbers[-1], 0, 1) is not None


def test_without_images_nothing_is_built(tmp_path: Path) -> None:
    made = Builds(None, Bodies(tmp_path), 1, lambda error: None)
    with pytest.raises(ConflictError):
        made.begin(None, lambda: Body("", 0, 0), "job", PLAIN)


@pytest.mark.parametrize(
    ("job", "repository"),
    [("hello", "jobd/hello"), ("My.Job_2", "jobd/my-job-2"), ("a--b.", "jobd/a-b")],
)
def test_a_jobs_repository_is_in_the_engines_grammar(job: str, repository: str) -> None:
    assert repository_of(job) == repository


def test_what_is_shown_of_a_message() -> None:
    assert shown({"stream": "Step 1/2\n"}) == "Step 1/2\n"
    assert shown({"status": "Pulling fs layer", "id": "abc", "progressDetail": {}}) == (
        "abc: Pulling fs layer\n"
    )
    assert shown({"status": "Downloading", "id": "abc", "progressDetail": {"current": 1}}) == ""
    assert shown({"aux": {"ID": "sha256:1"}}) == ""
