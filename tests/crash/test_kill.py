"""`kill -9` and SIGTERM of jobd at random moments: no acknowledged run is lost, none runs twice."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from dataclasses import dataclass, field

import pytest

from jobctl.client import Client
from jobd.errors import JobdError, OutcomeUnknownError, UnreachableError
from tests.support.harness import IMAGE, Daemon, Events, Recorder

CYCLES = int(os.environ.get("JOBD_TEST_CYCLES") or 100)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@dataclass
class Submitter:
    """Queues runs one after the other, as a script does that will not give up.

    Each has a key of its own; one whose reply was lost is asked for again with the same key.
    """

    daemon: Daemon
    chance: random.Random
    acknowledged: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        number = 0
        while not self._end.is_set():
            number += 1
            self._queue(f"k{number}", self.chance.choice(["good", "good", "bad", "again"]))
            self._end.wait(self.chance.uniform(0.1, 0.9))

    def _queue(self, key: str, job: str) -> None:
        while True:
            try:
                with Client(home=str(self.daemon.home)) as client:
                    (run,) = client.queue(job, key.encode(), key=key)["runs"]
                self.acknowledged[key] = run["id"]
                return
            except (UnreachableError, OutcomeUnknownError):
                time.sleep(0.02)
            except JobdError as error:
                self.wrong.append(f"{key} of {job}: {error}")
                return

    def close(self) -> None:
        """Stop, after the run under way was acknowledged."""
        self._end.set()
        self._thread.join()


def register(daemon: Daemon, recorder: Recorder) -> None:
    """Three jobs: one that succeeds, one that fails for good, one that succeeds when tried again.

    Each program says when it begins and ends to a listener that jobd has no part in.
    """
    said = recorder.report + "cat $PAYLOAD_FILE; report begin; sleep 0.$(($RUN_ID % 9)); report end"
    common = ["--network", "host", "--memory", "32M", "--cpus", "0.1"]
    for name, attempts, last in (
        ("good", "1", "exit 0"),
        ("bad", "1", "exit 7"),
        ("again", "2", "[ $ATTEMPT = 2 ]"),
    ):
        options = ["--name", name, "--attempts", attempts, "--retry-delay", "200ms", *common]
        daemon.ctl("register", *options, IMAGE, "sh", "-c", f"{said}; {last}")


@pytest.mark.parametrize(("end", "cycles"), [("kill", CYCLES), ("terminate", max(CYCLES // 8, 1))])
def test_every_acknowledged_run_is_accounted_for_and_none_runs_twice(
    daemon: Daemon,
    events: Events,
    recorder: Recorder,
    chance: random.Random,
    end: str,
    cycles: int,
) -> None:
    daemon.start()
    daemon.ready()
    register(daemon, recorder)
    submitter = Submitter(daemon, random.Random(chance.random()))
    try:
        for _ in range(cycles):
            if chance.random() < 0.3:
                time.sleep(chance.uniform(0.0, 0.7))  # in the middle of its start
            else:
                daemon.ready()
                time.sleep(chance.uniform(0.0, 1.2))
            getattr(daemon, end)()
            daemon.start()
        daemon.ready()
    finally:
        # what it could not yet queue is acknowledged by the last daemon, so that all is known
        submitter.close()
    assert not submitter.wrong
    runs = {run["id"]: run for run in daemon.settled("--all", 300)}

    ids = submitter.acknowledged
    assert len(set(ids.values())) == len(ids), "two keys got one run"
    assert set(runs) == set(ids.values()), "runs were lost, or made up"
    heard = recorder.counted()
    wanted = 0
    for key, number in ids.items():
        run = runs[number]
        want = {"good": ("succeeded", 1), "bad": ("failed", 1), "again": ("succeeded", 2)}
        status, attempts = want[run["job"]]
        assert (run["status"], len(run["attempts"])) == (status, attempts), run
        assert run["key"] == key
        for attempt in range(1, attempts + 1):
            wanted += 1
            assert events.started[number, attempt] == 1, f"run {number}.{attempt}: containers"
            for word in ("begin", "end"):
                assert heard[f"{number} {attempt} {word}"] == 1, f"run {number}.{attempt}: {word}"
        assert daemon.ctl("logs", str(number)).stdout == key, "the log is not what was printed"
        with Client(home=str(daemon.home)) as client:
            assert client.payload(number) == key.encode()
    assert events.started.total() == wanted
    assert len(heard) == 2 * wanted
    assert len(ids) >= cycles // 2, "too few runs for the test to mean anything"
    events.removed()
    daemon.terminate()


def test_numbered_lines_are_logged_once_over_three_kills(
    daemon: Daemon, events: Events, chance: random.Random
) -> None:
    lines, rounds = 100_000, 100
    each = lines // rounds
    # about 10 s of output, in bursts; the last words have no newline
    program = (
        f"i=0; while [ $i -lt {rounds} ]; do seq $((i * {each} + 1)) $(((i + 1) * {each}));"
        " echo round $i >&2; i=$((i + 1)); sleep 0.1; done; printf end"
    )
    daemon.start()
    daemon.ready()
    options = ["--name", "lines", "--network", "none", "--memory", "32M", "--cpus", "0.5"]
    daemon.ctl("register", *options, IMAGE, "sh", "-c", program)
    number = daemon.ctl("queue", "lines").stdout.strip()
    daemon.ctl("wait", number, "--for", "running")
    for _ in range(3):
        time.sleep(chance.uniform(0.3, 2.0))
        assert daemon.json("show", number)["status"] == "running", "too slow to kill it in time"
        daemon.kill()
        time.sleep(chance.uniform(0.0, 0.5))
        daemon.start()
        daemon.ready()
    daemon.ctl("wait", number)
    run = daemon.json("show", number)
    assert [attempt["outcome"] for attempt in run["attempts"]] == ["succeeded"]
    assert events.started == {(int(number), 1): 1}
    out = daemon.ctl("logs", number, "--stdout").stdout
    assert out.split("\n") == [*map(str, range(1, lines + 1)), "end"]
    rows = [
        json.loads(row) for row in daemon.ctl("logs", number, "-o", "jsonl").stdout.splitlines()
    ]
    err = [row["text"] for row in rows if row["stream"] == "stderr"]
    assert err == [f"round {i}" for i in range(rounds)]
    notes = [row["text"].split(":")[0] for row in rows if row["stream"] == "jobd"]
    assert notes == ["adopted"] * 3, "a note of lost or cut lines, or of something else"
