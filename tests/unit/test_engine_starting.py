"""A start decides right on answers that a healthy engine gives too rarely to test with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from jobd.engine.base import (
    EngineUnreachableError,
    ForeignError,
    GoneError,
    Order,
    StartRefusedError,
)
from jobd.engine.container import Settings
from jobd.engine.images import Images
from jobd.engine.refusals import AnswerError
from jobd.engine.starting import NAME_PATIENCE_S, Starter, milliseconds

REF = "jobd-00000000-1-1"
LABELS = {"jobd.store": "0" * 32, "jobd.run": "1", "jobd.attempt": "1"}
ORDER = Order(
    ref=REF, labels=LABELS, run=1, attempt=1, job="j", image="image:1", image_id=None,
    pull="missing", command=None, env={}, user=None, network="none", mounts=(), cpus=1,
    memory=1 << 26, pids=10, stop_signal="SIGTERM", task_dir=Path("/srv/t"), log_bytes=1 << 20,
)  # fmt: skip


class Script:
    """An engine that answers creates and starts by a list: an error is raised, None is success."""

    def __init__(
        self, creates: list[Exception | None] | None = None, start: Exception | None = None
    ) -> None:
        self.creates = creates or [None]
        self.start_error = start
        self.there: dict[str, Any] | None = None
        self.calls: list[str] = []
        self.on_create: Callable[[], None] = lambda: None

    def bear(
        self, labels: Mapping[str, str] = LABELS, started: str = "0001-01-01T00:00:00Z"
    ) -> None:
        self.there = {
            "Id": "id", "Name": "/" + REF, "Image": "sha256:i", "Config": {"Labels": dict(labels)},
            "State": {"Status": "created", "StartedAt": started, "ExitCode": 127},
        }  # fmt: skip

    def inspect(self, name: str) -> dict[str, Any] | None:
        self.calls.append("inspect")
        return self.there

    def create(self, name: str, body: Mapping[str, object]) -> str:
        self.calls.append("create")
        error = self.creates.pop(0) if len(self.creates) > 1 else self.creates[0]
        self.on_create()
        if error is not None:
            raise error
        self.bear()
        return "id"

    def start(self, engine_id: str) -> None:
        self.calls.append("start")
        if self.start_error is not None:
            raise self.start_error
        assert self.there is not None
        self.there["State"]["StartedAt"] = "2026-11-24T04:46:31.123456789Z"

    def image_id(self, reference: str) -> str | None:
        return "sha256:i"

    def pull(self, repository: str, version: str):
        raise AssertionError("nothing is to be pulled")


def start(engine: Script, slept: list[float] | None = None):
    starter = Starter(engine, Images(engine), 2, (slept if slept is not None else []).append)
    return starter.start(ORDER, Settings(), lambda _: None)


TAKEN = AnswerError(409, f'Conflict. The container name "/{REF}" is already in use', REF)


def test_plain():
    engine = Script()
    assert start(engine).at == 1_795_495_591_123
    assert engine.calls == ["inspect", "create", "start", "inspect"]


def test_a_create_that_timed_out_is_found_by_the_next_call():
    engine = Script([EngineUnreachableError("timed out")])
    engine.on_create = engine.bear
    with pytest.raises(EngineUnreachableError):
        start(engine)
    started = start(engine)
    assert started.engine_id == "id"
    assert engine.calls.count("create") == 1


def test_the_name_was_taken_by_our_own_earlier_request():
    engine = Script([TAKEN])
    engine.on_create = engine.bear
    assert start(engine).engine_id == "id"
    assert engine.calls.count("create") == 1


def test_the_name_was_taken_by_somebody_else():
    engine = Script([TAKEN])
    engine.on_create = lambda: engine.bear({**LABELS, "jobd.store": "f" * 32})
    with pytest.raises(ForeignError, match=REF):
        start(engine)
    assert "start" not in engine.calls


def test_a_reserved_name_that_nobody_bears_is_waited_for():
    # spiceai 13647 and others: 409 while inspect says 404
    engine, slept = Script([TAKEN, TAKEN, TAKEN, None]), list[float]()
    assert start(engine, slept).engine_id == "id"
    assert slept == [0.1, 0.2, 0.4]


def test_and_not_for_ever():
    engine, slept = Script([TAKEN]), list[float]()
    with pytest.raises(EngineUnreachableError, match="nobody who bears it"):
        start(engine, slept)
    assert NAME_PATIENCE_S <= sum(slept) <= NAME_PATIENCE_S + 3


def test_a_missing_image_is_asked_for_once_and_then_refused():
    engine = Script([AnswerError(404, "No such image: image:1", REF)])
    with pytest.raises(StartRefusedError, match="No such image"):
        start(engine)
    assert engine.calls.count("create") == 2


def test_trouble_of_the_host_on_start_is_not_the_jobs():
    engine = Script(start=AnswerError(500, "write /x: no space left on device", REF))
    with pytest.raises(EngineUnreachableError, match="no space left"):
        start(engine)


def test_a_program_that_the_engine_cannot_execute_is_refused_with_its_status():
    engine = Script(start=AnswerError(400, 'exec: "nope": executable file not found', REF))
    with pytest.raises(StartRefusedError) as caught:
        start(engine)
    assert caught.value.exit_code == 127


def test_removed_before_and_right_after_the_start():
    engine = Script(start=AnswerError(404, "No such container: id", REF))
    with pytest.raises(GoneError):
        start(engine)
    engine = Script()

    def start_and_vanish(engine_id: str) -> None:
        engine.there = None

    engine.start = start_and_vanish  # type: ignore[method-assign]
    with pytest.raises(GoneError):
        start(engine)


def test_marked_for_removal_is_looked_at_again_later():
    engine = Script(start=AnswerError(409, "container is marked for removal", REF))
    with pytest.raises(EngineUnreachableError):
        start(engine)


def test_an_id_that_begins_with_the_name_is_not_it():
    engine = Script()
    engine.bear()
    assert engine.there is not None
    engine.there["Name"] = "/other"
    start(engine)
    assert "create" in engine.calls


def test_never_is_zero():
    assert milliseconds("0001-01-01T00:00:00Z") == 0
    assert milliseconds("2026-11-24T04:46:31.999999999Z") == 1_795_495_591_999
