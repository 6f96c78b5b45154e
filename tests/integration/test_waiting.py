"""`jobctl why`, and runs that wait for others, as their user meets them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from jobctl.client import Client
from jobd.errors import NotFoundError
from tests.support.fakehost import SMALL, FakeHost, constraints, queue
from tests.support.waiting import until

# -- why -------------------------------------------------------------------------------------


def test_why_a_run_waits(host: FakeHost, client: Client, job: str) -> None:
    runs = queue(client, job, runs=3)
    told = host.json("why", str(runs[1]))
    found = constraints(told)
    # of the host as it is now: pressure, and one for each file system of jobd's
    live = {name: ok for name, ok in found.items() if name.startswith(("pressure-", "disk-free "))}
    assert live
    assert all(live.values())
    assert {name: ok for name, ok in found.items() if name not in live} == {
        "held": True, "due": True, "paused": False, "concurrency": True, "draining": True,
        "engine": True, "cpu": True, "memory": True, "memory-now": True, "order": False,
    }  # fmt: skip
    assert told["place"] == {"in_job": 2, "of_job": 3, "ahead": 1, "more": False}
    assert (told["estimated_start"], told["estimate"]) == (
        None,
        "not while it is held up by: paused",
    )
    assert [row["id"] for row in host.json("why", f"{runs[0]}-{runs[2]}")] == runs
    cpu = next(row for row in told["constraints"] if row["name"] == "cpu")
    assert (cpu["needed"], cpu["total"] >= cpu["free"] > 0) == (0.01, True)
    text = host.ctl("why", str(runs[1])).out
    assert "--  paused" in text
    assert "2 of 3 in its job" in text
    assert host.ctl("why", "999999").status == 66


def test_why_with_limits_and_an_estimate(client: Client, job: str) -> None:
    client.set(job, {"limits.concurrency": 1, "command": ["sleep=0.2"]})
    client.resume(job)
    client.wait(*queue(client, job))
    client.set(job, {"command": ["hang"]})
    runs = queue(client, job, runs=4)
    client.wait(runs[0], until="running")
    told = until(lambda: limited(client.why(runs[3])))
    limit = next(row for row in told["constraints"] if row["name"] == "concurrency")
    assert (limit["active"], limit["limit"], limit["ok"]) == (1, 1, False)
    assert told["place"] == {"in_job": 3, "of_job": 3, "ahead": 2, "more": False}
    earliest, latest = (
        datetime.fromisoformat(told[name]) for name in ("estimated_earliest", "estimated_latest")
    )
    assert datetime.fromisoformat(client.show(runs[3])["queued_at"]) <= earliest <= latest
    # of one attempt alone little can be said
    assert told["estimate"].startswith(("if attempts take", "it depends on others; in "))
    assert client.why(runs[0])["constraints"] == []
    client.cancel(job=job)
    client.wait(*runs)


def limited(told: dict[str, Any]) -> dict[str, Any] | None:
    return told if told["reason"]["code"] == "limits" else None


def test_why_delayed_and_held(client: Client, job: str) -> None:
    (late,) = queue(client, job, delay=3600, expires=60)
    client.resume(job)
    told = client.why(late)
    assert (constraints(told)["due"], told["place"], told["estimate"]) == (
        False,
        None,
        "when it is due",
    )
    assert told["estimated_start"] == client.show(late)["not_before"]
    client.hold(late)
    told = client.why(late)
    assert (constraints(told)["held"], told["estimated_start"]) == (False, None)
    client.cancel(late)
    assert client.why(late)["reason"]["code"] == "cancelled"


# -- after -----------------------------------------------------------------------------------


def test_after(host: FakeHost, client: Client, job: str) -> None:
    client.register({"name": "fails", "image": "img", "command": ["exit=1"], **SMALL})
    client.pause("fails")
    (good,) = queue(client, job)
    (bad,) = queue(client, "fails")
    words = ("queue", job, "--after", str(good), "--after", f"{bad}:fail")
    both = int(host.ctl(*words).out)
    ok = int(host.ctl("queue", job, "--after", str(bad)).out)
    any_ = int(host.ctl("queue", job, "--after", f"{good}-{bad}:any").out)
    down = client.queue(job, after=[ok])["runs"][0]["id"]
    rows = client.runs(job=job, status=["blocked"])
    assert [row["id"] for row in rows] == [down, any_, ok, both]
    assert client.show(both)["after"] == [
        {"run": good, "condition": "ok", "pending": True},
        {"run": bad, "condition": "fail", "pending": True},
    ]
    assert rows[-1]["reason"]["text"] == f"waits for run {good} to succeed, and for 1 more"
    assert client.job(job)["counts"] == {"queued": 1, "blocked": 4}
    assert constraints(client.why(both))["parents"] is False
    host.restart()
    client.resume("fails")
    client.resume(job)
    ended = {row["id"]: row["status"] for row in client.wait(both, ok, any_, down)}
    assert ended == {both: "succeeded", any_: "succeeded", ok: "skipped", down: "skipped"}
    assert client.show(down)["reason"] == {
        "code": "parent", "text": f"run {ok} was to succeed and is skipped",
    }  # fmt: skip
    # what has ended already is seen at once
    late = client.queue(job, after=[f"{bad}:ok"])["runs"][0]["id"]
    assert client.show(late)["status"] == "skipped"
    assert host.ctl("wait", str(late)).status == 1


def test_parents_that_are_refused(host: FakeHost, client: Client, job: str) -> None:
    assert host.ctl("queue", job, "--after", "999999").status == 66
    assert host.ctl("queue", job, "--after", "5:never").status == 2
    assert host.ctl("queue", job, "--after", "job").status == 2
    with pytest.raises(NotFoundError):
        client.queue(job, after=["last:nosuch"])
    (parent,) = queue(client, job)
    settings = host.json("queue", job, "--after", f"last:{job}:any", "--dry-run")["settings"]
    assert settings["after"] == [[parent, "any"]]
