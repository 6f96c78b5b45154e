"""`kill -9` of jobd with process attempts in flight: none is lost, none runs twice."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from jobctl.client import Client
from jobd.errors import JobdError
from tests.support.harness import Daemon
from tests.support.process_daemon import ProcessDaemon

CYCLES = int(
    os.environ.get("JOBD_TEST_CYCLES") or (40 if os.environ.get("JOBD_TEST_FAST") else 200)
)

pytestmark = pytest.mark.timeout(600)


@dataclass
class Submitter:
    """Queues runs one after the other over one client, and asks again by key for what it was not
    told."""

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
            key, job = f"k{number}", self.chance.choice(["good", "good", "bad", "again"])
            while key not in self.acknowledged:
                try:
                    with Client(home=str(self.daemon.home), request_timeout=5) as client:
                        answer = client.queue(job, key.encode(), key=key)
                    self.acknowledged[key] = answer["runs"][0]["id"]
                except JobdError as error:
                    if error.status != 69:
                        self.wrong.append(f"{key}: {error}")
                        return
                    if self._end.is_set() and not self.daemon.alive():
                        self.wrong.append(f"{key}: jobd is gone: {error}")
                        return
                    time.sleep(0.02)
            self._end.wait(self.chance.uniform(0.02, 0.3))

    def close(self) -> None:
        """Stop, after the run under way was acknowledged."""
        self._end.set()
        self._thread.join()


def register(daemon: ProcessDaemon) -> None:
    """Jobs that succeed, that fail for good, and that succeed when tried again."""
    word = f'echo "$RUN_ID $ATTEMPT $1" >>{daemon.said}/words || exit 99'
    body = "cat $PAYLOAD_FILE; say begin; sleep 0.$(($RUN_ID % 9)); echo $ATTEMPT >&2; say end"
    for name, attempts, last in (
        ("good", 1, "exit 0"),
        ("bad", 1, "exit 7"),
        ("again", 2, "[ $ATTEMPT = 2 ]"),
    ):
        with Client(home=str(daemon.home)) as client:
            client.register(
                {
                    "name": name,
                    "command": ["sh", "-c", f"say() {{ {word}; }}; {body}; {last}"],
                    "resources": {"cpus": 0.1, "memory": "32M"},
                    "retry": {"attempts": attempts, "delay": "100ms", "interrupted": "hold"},
                }
            )


def test_every_acknowledged_run_is_accounted_for_and_none_runs_twice(
    processes: ProcessDaemon, chance: random.Random
) -> None:
    processes.start()
    processes.ready()
    register(processes)
    submitter = Submitter(processes, random.Random(chance.random()))
    try:
        for _ in range(CYCLES):
            # from the middle of the start to well after the adoption
            time.sleep(chance.uniform(0.0, 0.6))
            processes.kill()
            processes.start()
        processes.ready()
    finally:
        submitter.close()
    assert not submitter.wrong
    runs = {run["id"]: run for run in processes.settled("--all", 120)}

    ids = submitter.acknowledged
    assert len(set(ids.values())) == len(ids), "two keys got one run"
    assert set(runs) == set(ids.values()), "runs were lost, or made up"
    said = processes.words()
    wanted: Counter[str] = Counter()
    want = {"good": ("succeeded", 1), "bad": ("failed", 1), "again": ("succeeded", 2)}
    with Client(home=str(processes.home)) as client:
        for key, number in ids.items():
            run = runs[number]
            assert (run["status"], len(run["attempts"])) == want[run["job"]], f"{run}"
            for attempt in run["attempts"]:
                assert attempt["exit_code"] == {"good": 0, "bad": 7}.get(
                    run["job"], 2 - attempt["number"]
                )
                wanted.update(f"{number} {attempt['number']} {word}" for word in ("begin", "end"))
            last = len(run["attempts"])
            lines = [(line["stream"], line["text"]) for line in client.logs(number, attempt=last)]
            found = sorted(line for line in lines if line[0] != "jobd")
            assert found == [("stderr", str(last)), ("stdout", key)], lines
    assert said == wanted, "a command ran twice, or not to its end"
    assert len(ids) >= CYCLES // 4, "too few runs for the test to mean anything"
    assert os.listdir(processes.home / "state" / "process") == [], "left behind"
    assert processes.terminate() == 0
