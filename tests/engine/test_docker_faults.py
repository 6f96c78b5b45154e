"""The engine stopped, frozen, killed or gone: each is told apart from what happened to attempts."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest

from jobd.engine.base import EngineUnreachableError, Phase
from jobd.engine.docker import DockerEngine
from tests.support.engine_support import contrib_engine, ended, make_order, silent


@pytest.fixture
def folder():
    """A private engine that a test may harm, with the image in it."""
    made = Path(tempfile.mkdtemp(prefix="jobd-harmed-"))
    contrib_engine("start", made)
    contrib_engine("image", made)
    yield made
    contrib_engine("stop", made)


@pytest.fixture
def harmed(folder):
    """An engine object on it that is quick to lose patience."""
    made = DockerEngine(f"unix://{folder}/docker.sock", os.urandom(16), request_s=1, start_s=2)
    made.connect()
    yield made
    made.close()


def process_of(folder: Path) -> int:
    return int((folder / "docker.pid").read_text())


def end_of(pid: int) -> None:
    """Wait until a process is gone (its parent may not have asked for it yet)."""
    give_up = time.monotonic() + 40
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        assert time.monotonic() < give_up, f"{pid} does not end"
        time.sleep(0.05)


def every_call(engine, order):
    yield engine.connect
    yield lambda: engine.start(order, silent)
    yield lambda: engine.phase(order.ref)
    yield lambda: engine.ending(order.ref)
    yield lambda: engine.signal(order.ref, "SIGTERM")
    yield lambda: engine.discard(order.ref)
    yield lambda: list(engine.output(order.ref, 0))
    yield engine.found


def test_stopped_is_unreachable_for_every_call_and_heals(folder, harmed, tmp_path):
    one = make_order(harmed, tmp_path, ("sh", "-c", "echo up; sleep 60"))
    harmed.start(one, silent)
    stream = harmed.output(one.ref, 0)
    assert next(stream)[0].data == b"up"
    pid = process_of(folder)
    os.kill(pid, signal.SIGTERM)
    with pytest.raises(EngineUnreachableError):
        list(stream)
    end_of(pid)
    for call in every_call(harmed, one):
        with pytest.raises(EngineUnreachableError, match=r"no engine answers at unix://"):
            call()
    contrib_engine("start", folder)
    harmed.connect()
    # the engine killed it when it stopped: ended, with the status that DURABILITY warns of
    assert harmed.phase(one.ref) is Phase.EXITED
    assert ended(harmed, one.ref).exit_code in (137, 143)
    harmed.discard(one.ref)
    assert harmed.found() == []


def test_frozen_says_that_the_outcome_is_unknown_and_a_repeat_finds_it(folder, harmed, tmp_path):
    one = make_order(harmed, tmp_path, ("sleep", "60"))
    pid = process_of(folder)
    os.kill(pid, signal.SIGSTOP)
    # a thread that has not stopped yet may still answer
    while not all(b") T" in stat.read_bytes() for stat in Path(f"/proc/{pid}/task").glob("*/stat")):
        time.sleep(0.01)
    try:
        with pytest.raises(EngineUnreachableError, match="whether it acted is unknown"):
            harmed.phase(one.ref)
        # the create goes into the frozen engine's queue and is carried out when it thaws
        with pytest.raises(EngineUnreachableError):
            harmed._api.create(one.ref, {"Image": one.image, "Labels": dict(one.labels)})
    finally:
        os.kill(pid, signal.SIGCONT)
    patient = DockerEngine(f"unix://{folder}/docker.sock", bytes.fromhex(harmed.store))
    give_up = time.monotonic() + 20
    while not patient.found():
        assert time.monotonic() < give_up, "the create was not carried out"
        time.sleep(0.05)
    patient.start(one, silent)
    assert len(patient.found()) == 1
    patient.close()


def test_killed_engine_breaks_the_stream_and_loses_no_status(folder, harmed, tmp_path):
    one = make_order(harmed, tmp_path, ("sh", "-c", "echo up; sleep 1; exit 7"))
    harmed.start(one, silent)
    stream = harmed.output(one.ref, 0)
    assert next(stream)[0].data == b"up"
    pid, inner = process_of(folder), harmed._ours(one.ref)["State"]["Pid"]
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EngineUnreachableError):
        list(stream)
    end_of(pid)
    # one that still ran when the engine comes back would be killed by it (no live-restore)
    end_of(inner)
    contrib_engine("start", folder)
    harmed.connect()
    assert ended(harmed, one.ref).exit_code == 7


def test_close_ends_a_stream_that_another_thread_reads(engine, order, url):
    other = DockerEngine(url, bytes.fromhex(engine.store), idle_s=0.2)
    one = order("sleep", "30")
    other.start(one, silent)
    silences = []
    reader = threading.Thread(target=lambda: silences.extend(other.output(one.ref, 0)))
    reader.start()
    time.sleep(0.3)
    other.close()
    reader.join(timeout=20)
    assert not reader.is_alive()
    assert engine.phase(one.ref) is Phase.RUNNING
