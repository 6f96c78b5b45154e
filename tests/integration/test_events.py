"""`jobctl events`: what happens, as it happens and as the queue tells it; and who asked for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import datetime, timedelta
from typing import Any

import pytest

from jobctl.client import Client
from jobd.server import events as rows_of
from tests.support.fakehost import ROOT, FakeHost

SPEC = {"name": "j", "image": "img", "command": ["print=hi"]}


def last(client: Client) -> int:
    """The number of the last event there is."""
    return max((event["seq"] for event in client.events()), default=0)


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


LIFE = ["run.queued", "attempt.claimed", "attempt.started", "attempt.ended", "run.finished"]


def test_a_life_in_order(host: FakeHost, client: Client) -> None:
    client.register(SPEC)
    start = last(client)
    run = client.queue("j", b"secret", labels={"a": "b"}, key="k")["runs"][0]["id"]
    client.wait(run)
    events = list(client.events(after=start))
    assert kinds(events) == LIFE
    assert {event["run"] for event in events} == {run}
    assert {event["job"] for event in events} == {"j"}
    seqs = [event["seq"] for event in events]
    assert seqs == sorted(set(seqs))
    queued, _, _, ended, finished = events
    me = client.ping()["user"]["uid"]
    assert (queued["by"]["uid"], queued["by"]["pid"]) == (me, os.getpid())
    assert (queued["payload_size"], queued["labels"], queued["key"]) == (6, {"a": "b"}, "k")
    assert "secret" not in json.dumps(events)
    assert (ended["attempt"], ended["exit_code"], ended["by"]) == (1, 0, None)
    assert (finished["outcome"], finished["at"][-1]) == ("succeeded", "Z")
    said = host.ctl("events", "--json")
    assert said.json[-5:] == events
    assert host.ctl("events", "-o", "jsonl").lines[-5:] == events
    assert f"run.finished       job j run {run} outcome=succeeded" in host.ctl("events").out


def test_the_same_after_a_restart(host: FakeHost, client: Client) -> None:
    client.register(SPEC)
    client.wait(client.queue("j")["runs"][0]["id"])
    before = list(client.events())
    host.restart()
    assert list(client.events()) == before
    middle = len(before) // 2
    assert list(client.events(after=before[middle]["seq"])) == before[middle + 1 :]
    at = datetime.fromisoformat(before[middle]["at"])
    since = list(client.events(since=at))
    assert since == [event for event in before if event["at"] >= before[middle]["at"]]
    assert list(client.events(since=at + timedelta(days=1))) == []
    assert host.ctl("events", "--since", "1d", "--json").json == before


def test_every_changing_request_is_in_the_audit(host: FakeHost, client: Client) -> None:
    start = last(client)
    client.register({**SPEC, "name": "audited", "command": ["hang"]})
    client.set("audited", {"timeout": "2h"})
    client.pause("audited")
    one, two = (run["id"] for run in client.queue("audited", count=2)["runs"])
    client.edit(one, priority=3)
    client.hold(two)
    client.release(two)
    client.edit(one, priority=0)
    client.next(one)
    client.cancel(two)
    client.resume("audited")
    client.wait(one, until="running")
    client.drain()
    client.undrain()
    client.cancel(one)
    client.wait(one)
    client.pause("audited")
    again = client.retry(one)["id"]
    client.cancel(again)
    client.queue("audited", count=9)
    client.cancel(job="audited")
    client.unregister("audited")
    events = list(client.events(after=start, audit=True))
    assert kinds(events) == [
        "job.registered", "job.registered", "job.paused", "run.queued", "run.queued", "run.edited",
        "run.held", "run.released", "run.edited", "run.moved-first", "run.finished", "job.resumed",
        "host.drain-started", "host.drain-ended", "attempt.stopping", "run.finished", "job.paused",
        "run.queued", "run.finished", *["run.queued"] * 9, "job.runs-cancelled", "job.removed",
    ]  # fmt: skip
    me = client.ping()["user"]["uid"]
    for event in events:
        assert (event["by"]["uid"], event["by"]["pid"]) == (me, os.getpid()), event
        assert event["by"]["user"]
        assert event["by"]["principal"] is None
    assert host.ctl("events", "--audit", "--json").json[-len(events) :] == events
    assert f"by {events[0]['by']['user']} (uid {me}, pid " in host.ctl("events", "--audit").out
    host.restart()
    assert list(client.events(after=start, audit=True)) == events


def test_following_from_now_on_and_over_a_kill(host: FakeHost, client: Client) -> None:
    client.register(SPEC)
    words = [sys.executable, "-m", "jobctl", "--home", str(host.home), "events", "-f"]
    process = subprocess.Popen(
        [*words, "-o", "jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        assert process.stdout is not None
        # a follower begins at a moment that only it knows: something happens until it is told
        seen = threading.Event()
        pauser = threading.Thread(target=pause_until, args=(host, seen))
        pauser.start()
        first = json.loads(process.stdout.readline())
        seen.set()
        pauser.join()
        assert first["event"] in ("job.paused", "job.resumed")
        host.restart()
        client.resume("j")
        run = client.queue("j")["runs"][0]["id"]
        client.wait(run)
        told: list[dict[str, Any]] = []
        while not told or told[-1]["event"] != "run.finished":
            told.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert kinds([event for event in told if event["run"] == run]) == LIFE
    # nothing twice, nothing left out, over the kill
    assert [first, *told] == list(client.events(after=first["seq"] - 1))[: len(told) + 1]


def pause_until(host: FakeHost, seen: threading.Event) -> None:
    with host.client() as one:
        while not seen.wait(0.05):
            one.pause("j")
            one.resume("j")
        one.pause("j")


def test_more_than_one_page(client: Client) -> None:
    client.register(SPEC)
    client.pause("j")
    start = last(client)
    runs = [run["id"] for run in client.queue("j", count=700)["runs"]]
    client.edit(f"{runs[0]}-{runs[-1]}", priority=1)
    events = list(client.events(after=start))
    assert kinds(events) == ["run.queued"] * 700 + ["run.edited"] * 700
    assert [event["run"] for event in events] == runs * 2
    client.cancel(job="j")
    client.resume("j")


def test_pages_from_the_files_alone(host: FakeHost, client: Client) -> None:
    everything = list(client.events())
    assert len(everything) > 2 * rows_of._PAGE
    host.restart()
    assert list(client.events()) == everything


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["events", "-f", "--json"], 2),
        (["events", "--since", "some day"], 2),
        (["events", "now"], 2),
    ],
)
def test_wrong_inputs(host: FakeHost, words: list[str], status: int) -> None:
    assert host.ctl(*words).status == status


def test_what_did_not_happen(host: FakeHost) -> None:
    said = host.ctl("events", "--since", "0s")
    assert (said.status, said.out) == (0, "")
    assert "nothing happened" in said.err
    assert host.ctl("events", "--since", "0s", "--json").json == []
