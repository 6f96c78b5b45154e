"""References are taken apart right, one pull serves all who wait, progress is one short line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobd.engine.base import (
    CalledOffError,
    EngineUnreachableError,
    PullFailedError,
    StartRefusedError,
)
from jobd.engine.images import (
    Images,
    Reference,
    check_reference,
    is_image_id,
    parse_reference,
)
from jobd.engine.pulls import Present, _Pull

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "repository", "tag", "digest"),
    [
        ("busybox", "busybox", "latest", None),
        ("busybox:1", "busybox", "1", None),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a", "latest", None),
        ("127.0.0.1:5000/a/b:0.0.1", "127.0.0.1:5000/a/b", "0.0.1", None),
        (f"a@{DIGEST}", "a", None, DIGEST),
        (f"host:80/a:1@{DIGEST}", "host:80/a", "1", DIGEST),
    ],
)
def test_references(text, repository, tag, digest):
    check_reference(text)
    parts = parse_reference(text)
    assert parts == Reference(repository, tag, digest)
    assert parts.version == (digest or tag)


@pytest.mark.parametrize(
    "text", ["", "A", "a b", "a:", "a:b:c", "-a", "a/", "/a", "a@sha256:12", "a\n", "x" * 600, "http://a/b"]
)  # fmt: skip
def test_no_references(text):
    with pytest.raises(StartRefusedError, match="not an image's name"):
        check_reference(text)


def test_ids():
    assert is_image_id(DIGEST)
    assert is_image_id("a" * 64)
    assert not is_image_id("a" * 12)


class Registry:
    """An engine's API with images in it; a pull runs `during` and then has what `gives` says."""

    def __init__(self, gives: Callable[[], Iterator[dict[str, object]]]) -> None:
        self.here: dict[str, str] = {}
        self.gives = gives
        self.pulls: list[tuple[str, str]] = []

    def image_id(self, reference: str) -> str | None:
        return self.here.get(reference)

    def pull(self, repository: str, version: str) -> Iterator[dict[str, object]]:
        self.pulls.append((repository, version))
        yield from self.gives()
        self.here[f"{repository}:{version}"] = DIGEST


def nothing() -> Iterator[dict[str, object]]:
    yield {"status": "Status: Image is up to date"}


def silent(text: str) -> None:
    pass


def test_policies():
    registry = Registry(nothing)
    images = Images(registry)
    with pytest.raises(StartRefusedError, match="never"):
        images.ensure("a:1", "never", None, silent)
    assert registry.pulls == []
    assert images.ensure("a:1", "missing", None, silent).image_id == DIGEST
    assert images.ensure("a:1", "missing", None, silent) == Present(DIGEST, 0)
    assert images.ensure("a:1", "never", None, silent) == Present(DIGEST, 0)
    assert registry.pulls == [("a", "1")]
    images.ensure("a:1", "always", None, silent)
    assert registry.pulls == [("a", "1")] * 2


def test_a_pin_that_is_here_wins_and_one_that_is_not_falls_back():
    registry = Registry(nothing)
    registry.here = {"sha256:pin": "sha256:pin"}
    images = Images(registry)
    assert images.ensure("a:1", "always", "sha256:pin", silent) == Present("sha256:pin", 0)
    assert images.ensure("a:1", "missing", "sha256:gone", silent).image_id == DIGEST


def test_an_id_is_never_pulled():
    registry = Registry(nothing)
    with pytest.raises(StartRefusedError, match="by its id"):
        Images(registry).ensure(DIGEST, "always", None, silent)
    registry.here = {DIGEST: DIGEST}
    assert Images(registry).ensure(DIGEST, "always", None, silent).image_id == DIGEST
    assert registry.pulls == []


def test_one_pull_for_many_and_each_hears_of_it():
    may_end, begun = threading.Event(), threading.Event()

    def gives() -> Iterator[dict[str, object]]:
        yield {"id": "l1", "status": "Pulling fs layer"}
        begun.set()
        assert may_end.wait(20)
        yield {"id": "l1", "status": "Pull complete"}

    registry = Registry(gives)
    images = Images(registry)
    heard: list[list[str]] = [[] for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(images.ensure, "a:1", "missing", None, heard[0].append)
        assert begun.wait(20)
        others = [
            pool.submit(images.ensure, "a:1", "missing", None, heard[number].append)
            for number in (1, 2, 3)
        ]
        while not all(heard):
            threading.Event().wait(0.01)
        may_end.set()
        results = [future.result(20).image_id for future in (first, *others)]
    assert results == [DIGEST] * 4
    assert registry.pulls == [("a", "1")]
    assert not images.pulls._under_way


@pytest.mark.parametrize(
    ("text", "kind"),
    [("manifest unknown", StartRefusedError), ("connection refused", PullFailedError)],
)
def test_an_error_in_the_stream_reaches_all_who_wait(text, kind):
    begun, may_fail = threading.Event(), threading.Event()

    def gives() -> Iterator[dict[str, object]]:
        begun.set()
        assert may_fail.wait(20)
        yield {"error": text}

    images = Images(Registry(gives))
    joined = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(images.ensure, "a:1", "missing", None, silent)
        assert begun.wait(20)
        second = pool.submit(images.ensure, "a:1", "missing", None, lambda _: joined.set())
        assert joined.wait(20)
        may_fail.set()
        for future in (first, second):
            with pytest.raises(kind, match=text):
                future.result(20)
    assert not images.pulls._under_way


def test_an_engine_that_goes_away_in_mid_pull_is_unreachable():
    def gives() -> Iterator[dict[str, object]]:
        yield {"id": "l1", "status": "Downloading", "progressDetail": {"current": 1, "total": 2}}
        raise EngineUnreachableError("gone")

    with pytest.raises(EngineUnreachableError, match="gone"):
        Images(Registry(gives)).ensure("a:1", "missing", None, silent)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_pull_does_not_leave_anybody_waiting():
    begun, may_fail, joined = threading.Event(), threading.Event(), threading.Event()

    def gives() -> Iterator[dict[str, object]]:
        begun.set()
        assert may_fail.wait(20)
        raise KeyError("bug")
        yield {}

    images = Images(Registry(gives))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(images.ensure, "a:1", "missing", None, silent)
        assert begun.wait(20)
        second = pool.submit(images.ensure, "a:1", "missing", None, lambda _: joined.set())
        assert joined.wait(20)
        may_fail.set()
        for future in (first, second):
            with pytest.raises(RuntimeError, match="thread died"):
                future.result(20)
    for thread in threading.enumerate():
        if thread.name == "pull a:1":
            thread.join(20)


def test_progress_is_folded_into_one_line():
    pull = _Pull("busybox:1")
    pull.note({"id": "1", "status": "Pulling from library/busybox"})
    assert pull.text == "pulling busybox:1"
    for layer in ("a", "b", "c"):
        pull.note({"id": layer, "status": "Pulling fs layer", "progressDetail": {}})
    assert pull.text == "pulling busybox:1: 0 of 3 layers"
    for layer, current in (("a", 10_000_000), ("b", 2_300_000)):
        pull.note(
            {
                "id": layer,
                "status": "Downloading",
                "progressDetail": {"current": current, "total": 20_050_000},
            }
        )
    assert pull.text == "pulling busybox:1: 0 of 3 layers, 12.3 MB of 40.1 MB"
    pull.note({"id": "b", "status": "Download complete"})
    pull.note({"id": "c", "status": "Already exists"})
    pull.note({"id": "a", "status": "Pull complete"})
    pull.note({"status": "Digest: sha256:1"})
    pull.note({"id": 5, "status": None})
    assert pull.text == "pulling busybox:1: 2 of 3 layers, 40.1 MB of 40.1 MB"


def test_who_stops_waiting_leaves_the_others_and_the_last_one_ends_the_pull():
    begun, more, given_up = threading.Event(), threading.Event(), threading.Event()

    def gives() -> Iterator[dict[str, object]]:
        try:
            begun.set()
            while True:
                assert more.wait(20)
                yield {"id": "l1", "status": "Downloading"}
        finally:
            given_up.set()

    leaves = [threading.Event(), threading.Event()]

    def until(number: int) -> Callable[[str], None]:
        def progress(text: str) -> None:
            if leaves[number].is_set():
                raise CalledOffError("enough")

        return progress

    images = Images(Registry(gives))
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(images.ensure, "a:1", "missing", None, until(n)) for n in (0, 1)]
        assert begun.wait(20)
        # the engine says nothing at all, and the one who leaves leaves all the same
        leaves[0].set()
        with pytest.raises(CalledOffError):
            waiting[0].result(20)
        more.set()
        assert not given_up.wait(0.5)
        leaves[1].set()
        with pytest.raises(CalledOffError):
            waiting[1].result(20)
    assert given_up.wait(20)
    assert not images.pulls._under_way
