"""An attempt's files on their way to runs: over a crash, a full disk, a flood of what is none."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest

from jobd.core.commands import Body
from jobd.daemon.control import ClosedError, Control
from jobd.daemon.inbox import TAKEN, Inbox, Letter
from jobd.daemon.inside import Inside, Insides
from jobd.daemon.patience import Timing
from jobd.errors import ForbiddenError, JobdError, RefusedError


class World:
    """Stands for the loop: what it was asked to queue, and what it says of it."""

    most = 100_000

    def __init__(self) -> None:
        self.asked: list[list[tuple[Letter, bytes | Body]]] = []
        self.says: list[JobdError | type[ClosedError] | None] = []
        self.bodies = self
        self.kept = 0
        self.shut_ = 0

    def put(self, data: bytes) -> Body:
        self.kept += 1
        return Body(f"b{self.kept}", len(data), 0)

    def queue(
        self,
        within: tuple[int, int],
        wanted: list[tuple[Letter, bytes | Body]],
        check: Callable[[], None],
    ) -> list[JobdError | None]:
        self.asked.append(wanted)
        said = self.says.pop(0) if self.says else None
        if said is ClosedError:
            raise ClosedError
        return [cast("JobdError | None", said) for _ in wanted]

    def listen(self, within: tuple[int, int], listening: socket.socket) -> None:
        listening.close()

    def opened(self, inside: Inside) -> None:
        """Nobody looks but the test."""

    def shut(self, inside: Inside) -> None:
        self.shut_ += 1

    def last_word(self, within: tuple[int, int]) -> None:
        return None


class Calm:
    """A driver's control that never waits."""

    def check_open(self) -> None: ...

    def pause(self, seconds: float) -> None: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("job/queue/child", "api", TAKEN):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def inside(world: World, folder: Path) -> Inside:
    return Inside(cast(Insides, world), (7, 1), Inbox(folder))


def closed(one: Inside, **timing: Any) -> list[str]:
    said: list[str] = []
    calm = cast(Control, Calm())
    return [*one.close(calm, said.append, Timing(**timing)), *said]


def test_a_file_whose_run_may_be_on_disk_is_asked_for_again_by_the_same_name(folder: Path) -> None:
    world = World()
    world.says = [ClosedError]
    (folder / "job/queue/child/one").write_text("x")
    with suppress(ClosedError):
        closed(inside(world, folder))
    assert closed(inside(world, folder)) == [], "the next daemon"
    (first,), (second,) = world.asked
    assert first[0].name == second[0].name
    assert first[1] == second[1] == b"x"
    assert list((folder / TAKEN).iterdir()) == []


def test_what_is_refused_for_now_is_asked_for_again(folder: Path) -> None:
    world = World()
    world.says = [RefusedError("queue full"), RefusedError("queue full"), None]
    (folder / "job/queue/child/one").write_bytes(b"x" * 50_000)
    said = closed(inside(world, folder))
    assert len(said) == 2
    assert "waiting to queue what it has left in queue/: queue full" in said
    assert len(world.asked) == 3
    assert world.kept == 1, "a large payload is kept once"


def test_what_never_fits_is_told_as_lost(folder: Path) -> None:
    world = World()
    world.says = [RefusedError("queue full")] * 2
    (folder / "job/queue/child/one").write_text("x")
    said = closed(inside(world, folder), result_patience=0.0)
    assert said == ["queue: files lost that it left: queue full"]


def test_what_is_refused_for_good_is_told_and_let_go_of(folder: Path) -> None:
    world = World()
    world.says = [ForbiddenError("run 7: no")]
    (folder / "job/queue/child/one").write_text("x")
    assert closed(inside(world, folder)) == ["queue/child/one: not queued: run 7: no"]
    assert list((folder / TAKEN).iterdir()) == []


def test_a_flood_of_what_is_none_comes_to_an_end(folder: Path) -> None:
    world = World()
    world.says = [ForbiddenError("no")] * 20
    for number in range(1400):
        (folder / f"job/queue/child/{number}").write_text("x")
    said = closed(inside(world, folder))
    assert len(world.asked) == 4, "256 each time, and 1000 are enough"
    assert len(said) <= 21


def test_once_shut_nothing_is_looked_at(folder: Path) -> None:
    world = World()
    one = inside(world, folder)
    one.open()
    (folder / "job/queue/child/one").write_text("x")
    one.shut()
    for _ in range(3):
        one.look(lambda: None)
    assert world.asked == []
    assert world.shut_ == 1
