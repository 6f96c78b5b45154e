"""GPUs: counted like processors and memory, handed out one by one, each to one run at a time."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from jobd.capacity import probe
from jobd.capacity.ledger import Host, Ledger
from jobd.core import events as e
from jobd.core import gpus
from jobd.core.commands import RegisterJob
from jobd.core.dispatch import picks
from jobd.core.entities import Run
from jobd.core.model import Needs
from jobd.core.policy import Rules
from jobd.core.state import State
from jobd.core.states import Kind
from jobd.daemon import config, orders
from jobd.errors import InvalidError
from tests.support.core import Bench, problems
from tests.support.situations import event_for
from tests.support.stating import Kept, told

HOST = Host(64.0, 1 << 40, gpus=4)


def ledger(host: Host = HOST) -> Ledger:
    made = Ledger(host)
    made.engines = dict.fromkeys(Kind)
    return made


def claim(bench: Bench, host: Host = HOST) -> list[Run]:
    claimed = []
    for run in picks(bench.state, ledger(host), bench.now):
        bench.apply(gpus.claim(bench.state, run, bench.now.wall, host.gpus))
        claimed.append(run)
    return claimed


def end(bench: Bench, run: Run) -> None:
    bench.apply(event_for(bench, run.id, e.AttemptEnded), event_for(bench, run.id, e.RunFinished))


def test_each_has_its_own_and_the_next_has_what_is_given_back() -> None:
    bench = Bench()
    bench.register("two", resources={"gpus": 2})
    bench.register("one", resources={"gpus": 1})
    first, second = bench.queue("two"), bench.queue("one")
    bench.later(1_000)
    third = bench.queue("two")
    assert claim(bench) == [first, second]
    assert (gpus.of(first), gpus.of(second)) == ((0, 1), (2,))
    assert third.job.reason == ("capacity", "needs 2 gpus: 1 of 4 free")
    end(bench, first)
    assert claim(bench) == [third]
    assert gpus.of(third) == (0, 1)
    assert gpus.held(bench.state) == {2: second.id, 0: third.id, 1: third.id}


def test_who_wants_none_passes() -> None:
    bench = Bench()
    bench.register("every", resources={"gpus": 4})
    bench.register("plain")
    bench.queue("every")
    claim(bench)
    waiting, plain = bench.queue("every"), bench.queue("plain")
    assert claim(bench) == [plain]
    assert gpus.of(plain) == ()
    assert not waiting.attempts


def test_room_is_kept_for_who_waits_long() -> None:
    bench = Bench()
    bench.register("one", resources={"gpus": 1})
    bench.register("four", resources={"gpus": 4})
    first = bench.queue("one")
    claim(bench)
    four = bench.queue("four")
    bench.later(120_000)
    small = bench.queue("one", priority=-1)
    assert claim(bench) == []
    assert "is kept for run" in str(small.job.reason)
    end(bench, first)
    assert claim(bench) == [four]


@pytest.mark.parametrize("seed", range(20))
def test_no_two_ever_share_one(seed: int) -> None:
    rng, bench = Random(seed), Bench()
    for number in range(5):
        bench.register(f"j{number}", resources={"gpus": number % 5, "cpus": 0.1})
    active: list[Run] = []
    for _ in range(40):
        bench.queue(f"j{rng.randrange(5)}")
        active += claim(bench)
        given = [gpu for run in active for gpu in gpus.of(run)]
        assert len(set(given)) == len(given) <= 4
        assert all(len(gpus.of(run)) == run.spec.gpus for run in active)
        assert not list(problems(bench.state))
        if active and rng.random() < 0.6:
            end(bench, active.pop(rng.randrange(len(active))))
    kept, state = Kept(), State()
    kept.apply(state, bench.events)
    restored, _ = kept.through(state)
    assert gpus.held(restored) == gpus.held(bench.state)
    assert restored.reserved == bench.state.reserved
    assert told(restored) == told(state)


def test_never_more_than_the_host_has() -> None:
    assert ledger().never(Needs(1, 1, 4)) is None
    assert ledger().never(Needs(1, 1, 5)) == ("capacity", "needs 5 gpus, this host has 4")


def test_the_host_had_more_once() -> None:
    bench = Bench()
    bench.register("one", resources={"gpus": 1})
    runs = [bench.queue("one") for _ in range(4)]
    claim(bench)
    end(bench, runs[0])
    end(bench, runs[1])
    bench.queue("one")
    # two of them are in use, which it has no more: nothing is given out that may be missing
    assert claim(bench, Host(64.0, 1 << 40, gpus=2)) == []


@pytest.mark.parametrize(
    ("rules", "resources", "word"),
    [
        (Rules(max_gpus=1), {"gpus": 2}, "resources.gpus 2: this host lets a run have 1 at most"),
        (Rules(max_pids=10), {"pids": 11}, r"resources.pids 11: 10 at most here \(maxima.pids"),
        (Rules(max_shm=1 << 20), {"shm": "2M"}, r"resources.shm 2M: 1M at most here"),
        (
            Rules(max_ulimits={"nofile": 64}),
            {"ulimits": {"nofile": 65, "stack": 1 << 40}},
            "resources.ulimits.nofile 65: 64 at most here",
        ),
    ],
)
def test_maxima(rules: Rules, resources: dict[str, Any], word: str) -> None:
    bench = Bench(rules)
    with pytest.raises(InvalidError, match=word):
        bench.do(RegisterJob({"name": "j", "image": "i", "resources": resources}))


def test_defaults_and_maxima_of_jobd_toml() -> None:
    read = config.read(
        {
            "capacity": {"gpus": 3},
            "maxima": {"gpus": 8, "pids": 600, "shm": "1G", "ulimits": {"nofile": 4096}},
            "defaults": {"resources": {"shm": "128M", "pids": 100, "ulimits": {"nofile": 1024}}},
        }
    )
    assert read.host.gpus == 3
    rules = read.rules
    assert (rules.max_gpus, rules.max_pids, rules.max_shm) == (3, 600, 1 << 30)
    bench = Bench(rules)
    bench.register("j", resources={"gpus": 1})
    spec = bench.state.jobs["j"].spec
    assert (spec.gpus, spec.shm, spec.pids, spec.ulimits) == (1, 128 << 20, 100, {"nofile": 1024})


def test_they_are_found(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert probe.host_gpus(str(tmp_path)) == 2
    assert probe.host_gpus(str(tmp_path / "none")) == 0


@pytest.mark.parametrize("image", ["busybox", None])
def test_the_order_names_them(image: str | None, tmp_path: Path) -> None:
    bench = Bench()
    bench.register("one", image=image, command=["true"], resources={"gpus": 1})
    bench.queue("one")
    run = bench.queue("one")
    claim(bench)
    attempt = run.attempt
    assert attempt is not None
    order = orders.build(bytes(16), run, attempt, tmp_path, 1 << 20)
    assert order.gpus == (1,)
    # a container has no others to see, and counts its own from 0
    assert order.env.get("CUDA_VISIBLE_DEVICES") == (None if image else "1")


@pytest.mark.parametrize(
    ("resources", "word"),
    [
        ({"gpus": 1.5}, "resources.gpus: "),
        ({"ulimits": {"core": 1}}, "resources.ulimits: 'core': expected one of fsize, "),
        ({"ulimits": {"nofile": 0}}, "resources.ulimits.nofile: 0"),
        ({"ulimits": {"nofile": True}}, "resources.ulimits.nofile: True"),
    ],
)
def test_what_is_refused(resources: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidError, match=word):
        Bench().register("j", resources=resources)
