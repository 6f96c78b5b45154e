"""The verbs that change runs, jobs and the host, as their user meets them."""

from __future__ import annotations

import signal
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobctl.client import Client
from jobd.errors import ConflictError, InvalidError, TimeOverError, UsageError
from tests.support.fakehost import SMALL, FakeHost, constraints, queue, started

# -- retry ---------------------------------------------------------------------------------


def test_retry(host: FakeHost, client: Client, job: str) -> None:
    client.resume(job)
    one, two = queue(client, job, payload=b"old", labels={"a": "b"}, runs=2)
    client.wait(one, two)
    said = host.ctl("retry", str(one))
    again = int(said.out)
    assert client.wait(again)["status"] == "succeeded"
    row = client.show(again)
    assert (row["retry_of"], row["trigger"]["kind"]) == (one, "retry")
    assert (row["labels"], client.payload(again)) == ({"a": "b"}, b"old")
    made = host.json("retry", str(one), "-f", "-", str(two))
    assert [row["retry_of"] for row in made] == [one, two]
    assert host.json("retry", str(one))["retry_of"] == one
    assert host.ctl("retry", f"{one},{two}", "-o", "id").status == 0


def test_retry_with_another_payload(host: FakeHost, client: Client, job: str) -> None:
    (old,) = queue(client, job, payload=b"old")
    client.cancel(old)
    new = int(host.ctl("retry", str(old), "-f", "-", stdin=b"new").out)
    assert client.payload(new) == b"new"
    big = bytes(1_500_000)
    assert client.payload(client.retry(old, payload=big)["id"]) == big
    client.cancel(job=job)
    assert client.payload(client.retry(f"last:{job}", payload=b"")["id"]) == b""


def test_what_cannot_be_retried(host: FakeHost, client: Client, job: str) -> None:
    waiting, cancelled = queue(client, job, runs=2)
    client.cancel(cancelled)
    assert host.ctl("retry", str(waiting)).status == 73
    assert host.ctl("retry", "999999").status == 66
    assert host.ctl("retry", "x").status == 2
    assert host.ctl("retry", str(cancelled), "-f", "/no/such").status == 2
    rows = client.retry(f"{waiting}-{cancelled}")
    assert [row["retry_of"] for row in rows] == [cancelled]
    with pytest.raises(ConflictError, match="none of them has ended"):
        client.retry(f"{waiting}-{waiting}")


def test_the_same_request_retries_once(host: FakeHost, client: Client, job: str) -> None:
    (old,) = queue(client, job)
    client.cancel(old)
    words = ("retry", str(old), "--request-key", "0" * 30 + "77")
    first = host.ctl(*words)
    assert first.status == 0
    host.restart()
    assert host.ctl(*words).out == first.out


# -- hold, release, next, edit ---------------------------------------------------------------


def test_hold_and_release(host: FakeHost, client: Client, job: str) -> None:
    runs = queue(client, job, runs=3)
    assert host.json("hold", str(runs[0])) == {"id": runs[0], "status": "held"}
    rows = host.json("hold", f"{runs[0]}-{runs[2]}")
    assert rows == [{"id": run, "status": "held"} for run in runs]
    assert "held by" in client.show(runs[1])["reason"]["text"]
    assert [row["id"] for row in client.runs(job=job, status=["held"])] == runs[::-1]
    assert host.ctl("release", str(runs[1])).out == f"{runs[1]} queued\n"
    assert host.ctl("release", str(runs[1])).status == 73
    client.release(*runs)
    client.resume(job)
    assert started(client, runs) == [runs[0], runs[2], runs[1]]
    assert host.ctl("hold", str(runs[0])).status == 73
    assert "none of 3" in host.ctl("release", f"{runs[0]}-{runs[2]}").err


def test_next(host: FakeHost, client: Client, job: str) -> None:
    runs = queue(client, job, runs=5)
    assert host.json("next", f"{runs[3]},{runs[4]}") == [
        {"id": runs[3], "status": "queued"},
        {"id": runs[4], "status": "queued"},
    ]
    assert client.why(runs[3])["place"] == {
        "in_job": 1,
        "of_job": 5,
        "ahead": 0,
        "more": False,
    }
    host.restart()
    client.set(job, {"limits.concurrency": 1})
    client.resume(job)
    assert started(client, runs) == [runs[3], runs[4], *runs[:3]]
    assert host.ctl("next", str(runs[0])).status == 73


def test_edit(host: FakeHost, client: Client, job: str) -> None:
    runs = queue(client, job, runs=3)
    said = host.ctl("edit", str(runs[2]), "--priority", "7", "--label", "a=b", "--timeout", "5s")
    assert (said.status, said.out) == (0, f"{runs[2]} queued\n")
    row = client.show(runs[2])
    assert (row["priority"], row["labels"], row["timeout_ms"]) == (7, {"a": "b"}, 5_000)
    assert host.json("edit", str(runs[0]), "--at", "1h") == {"id": runs[0], "status": "delayed"}
    said = host.ctl("edit", str(runs[0]), "--at", "tomorrow 08:00")
    assert "tomorrow 08:00: " in said.err
    assert host.ctl("edit", str(runs[0]), "--at", "now").out == f"{runs[0]} queued\n"
    rows = host.json("edit", str(runs[0]), "--label", "c=d", str(runs[1]))
    assert [row["id"] for row in rows] == runs[:2]
    at = datetime.now(UTC) + timedelta(days=2)
    client.edit(runs[1], at=at)
    assert client.show(runs[1])["not_before"][:19] == at.isoformat()[:19]
    host.restart()
    assert client.show(runs[2])["priority"] == 7
    assert client.show(runs[1])["status"] == "delayed"
    for words, status in (
        (["edit", str(runs[0])], 2),
        (["edit", str(runs[0]), "--at", "some day"], 2),
        (["edit", str(runs[0]), "--priority", "5000"], 78),
        (["edit", "999999", "--priority", "5"], 66),
    ):
        assert host.ctl(*words).status == status
    client.cancel(runs[0])
    assert host.ctl("edit", str(runs[0]), "--priority", "1").status == 73
    with pytest.raises(UsageError, match="nothing to change"):
        client.edit(runs[1])


# -- cancel --job --------------------------------------------------------------------------


def test_a_whole_queue_is_cancelled_by_one_record(host: FakeHost, client: Client, job: str) -> None:
    runs = queue(client, job, runs=500)
    waiter = threading.Thread(target=client_wait, args=(host, runs[250]))
    waiter.start()
    (held,) = queue(client, job)
    client.hold(held)
    assert len(client.cancel(job=job, status=["queued"])) == 500
    waiter.join(15)
    assert not waiter.is_alive(), "who waits for one of them is told"
    events = [e for e in client.events(audit=True) if e["job"] == job]
    assert events[-1]["event"] == "job.runs-cancelled"
    assert events[-1]["ranges"] == [[runs[0], runs[-1]]]
    assert client.show(held)["status"] == "held"
    host.restart()
    counts = client.job(job)["counts"]
    assert counts == {"held": 1, "cancelled": 500}
    assert client.show(runs[7])["reason"]["text"].startswith("was cancelled by ")
    assert host.json("cancel", "--job", job) == [{"id": held, "status": "cancelled"}]


def client_wait(host: FakeHost, run: int) -> None:
    with host.client() as one:
        assert one.wait(run)["status"] == "cancelled"


# -- drain -----------------------------------------------------------------------------------


def test_drain(host: FakeHost, client: Client) -> None:
    client.register({"name": "drained", "image": "img", "command": ["hang"], **SMALL})
    assert host.json("drain") == {"draining": True, "changed": True, "active": 0}
    try:
        (run,) = queue(client, "drained")
        host.restart()
        status = client.status()
        assert status["draining"] is True
        assert status["drain"]["by"]
        row = client.show(run)
        assert (row["status"], row["reason"]["code"]) == ("queued", "draining")
        assert constraints(client.why(run))["draining"] is False
        assert "!! DRAINING" in host.ctl("status").out
        assert "(as it was)" in host.ctl("drain").out
        assert host.ctl("drain", "--wait").status == 0
    finally:
        assert host.json("undrain") == {"draining": False, "changed": True, "active": 0}
    client.wait(run, until="running")
    assert client.status()["drain"] is None
    try:
        assert host.ctl("drain", "--wait", "--timeout", "100ms").status == 124
        with pytest.raises(TimeOverError, match=f"run {run}"):
            client.drain(wait=True, timeout=0.1)
        done: list[int] = []
        waiter = threading.Thread(target=drained, args=(host, done))
        waiter.start()
        client.cancel(run)
        waiter.join(60)
        assert done == [0]
        assert host.ctl("drain", "--timeout", "1s").status == 2
    finally:
        assert "not draining" in host.ctl("undrain").out


def drained(host: FakeHost, done: list[int]) -> None:
    with host.client() as one:
        done.append(one.drain(wait=True)["active"])


# -- set, history ------------------------------------------------------------------------------


def test_set_and_history(host: FakeHost, client: Client, job: str) -> None:
    (old,) = queue(client, job)
    said = host.ctl(
        "set", job, "timeout=10m", "limits.concurrency=3", "--unset", "env.X", "env.A=1"
    )
    assert said.status == 0, said.err
    assert "timeout: 1h -> 10m" in said.out
    assert client.show(old)["revision"] == 1, "what is queued keeps its revision"
    answer = host.json("set", job, "timeout=10m")
    assert (answer["revision"], answer["changed"], answer["changes"]) == (2, False, [])
    client.set(job, {"env.A": None, "timeout": 90})
    host.restart()
    rows = host.json("history", job)
    assert [row["revision"] for row in rows] == [3, 2, 1]
    assert rows[0]["changes"] == [
        {"key": "env.A", "before": "1", "after": None},
        {"key": "timeout", "before": "10m", "after": "1m30s"},
    ] or rows[0]["changes"][::-1] == [
        {"key": "env.A", "before": "1", "after": None},
        {"key": "timeout", "before": "10m", "after": "1m30s"},
    ]
    assert (rows[2]["changes"], rows[2]["by"]["uid"]) == ([], client.ping()["user"]["uid"])
    assert "revision 2, " in host.ctl("history", job).out
    for words, status in (
        (["set", job], 2),
        (["set", job, "timeout"], 2),
        (["set", job, "timeout=never"], 78),
        (["set", job, "tiemout=1h"], 78),
        (["set", "nosuch", "timeout=1h"], 66),
        (["history", "nosuch"], 66),
    ):
        assert host.ctl(*words).status == status, words
    with pytest.raises(InvalidError, match=r"resources\.memory"):
        client.set(job, {"resources.memory": "much"})


# -- ls --------------------------------------------------------------------------------------


def test_the_dead_are_listed(client: Client, job: str) -> None:
    client.set(job, {"command": ["exit=1"]})
    client.resume(job)
    (dead,) = queue(client, job)
    client.wait(dead)
    client.pause(job)
    (cancelled,) = queue(client, job)
    client.cancel(cancelled)
    assert [row["id"] for row in client.runs(job=job, status=["dead"])] == [dead]
    assert client.show(dead)["dead"] is True


def test_a_killed_daemon_keeps_what_it_acknowledged(
    host: FakeHost, client: Client, job: str
) -> None:
    runs = queue(client, job, runs=4)
    client.hold(runs[0])
    client.edit(runs[1], priority=3)
    client.next(runs[3])
    child = client.queue(job, after=[runs[0]])["runs"][0]["id"]
    before = client.show(*runs, child)
    host.restart(signal.SIGKILL)
    assert client.show(*runs, child) == before


def test_a_home_without_a_daemon(tmp_path: Path) -> None:
    one = FakeHost(tmp_path)
    for words in (["retry", "1"], ["drain"], ["why", "1"], ["events"], ["history", "j"]):
        assert one.ctl(*words).status == 69
