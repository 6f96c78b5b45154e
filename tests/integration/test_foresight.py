"""`jobctl forecast` and `jobctl suggest`, GPUs in `why`: as their user meets them."""

from __future__ import annotations

import pytest

from jobctl.client import Client
from tests.support.faked import Faked
from tests.support.fakehost import FakeHost, queue
from tests.support.people import People, is_root
from tests.support.waiting import until


def test_two_schedules_that_meet(host: FakeHost, client: Client) -> None:
    half = client.status()["capacity"]["cpus"] * 0.6
    for name in ("meets1", "meets2"):
        spec = {"name": name, "image": "img", "command": ["sleep=1.5"]}
        spec |= {"resources": {"cpus": half, "memory": "8M"}}
        client.register(spec)
        client.wait(*queue(client, name))
        client.add_schedule(name, {"name": "s", "every": "1h", "anchor": "2026-01-01T00:00:00Z"})
    found = client.forecast(hours=30)
    (late,) = (one for one in found["collisions"] if one["job"].startswith("meets"))
    assert (late["name"], late["fires"], late["late"]) == ("s", 30, 30)
    assert late["reason"]["code"] == "capacity"
    assert late["beside"][0].startswith("meets")
    assert late["longest_ms"] >= 1_000
    text = host.ctl("forecast").out
    assert f"{late['job']}/s  24     24" in text
    assert "60%" not in text, "runs of seconds reserve little of an hour"
    assert host.json("forecast", "--hours", "2")["ends_at"] > found["at"]
    assert host.ctl("forecast", "-o", "id").out.split() == [f"{late['job']}/s"]
    for name in ("meets1", "meets2"):
        client.remove_schedule(name, "s")
    assert "every run of a schedule starts when it should" in host.ctl("forecast").out


@pytest.mark.parametrize("hours", ["0", "745", "x", "-3"])
def test_hours_that_are_none(host: FakeHost, hours: str) -> None:
    assert host.ctl("forecast", "--hours", hours).status == 2


def test_limits_from_what_was_used(host: FakeHost, client: Client) -> None:
    spec = {"name": "advised", "image": "img", "command": ["exit=0"]}
    client.register({**spec, "resources": {"cpus": 0.5, "memory": "64M"}})
    assert "nothing is known" in host.ctl("suggest", "advised").out
    client.wait(*queue(client, "advised", runs=2))
    found = client.suggest("advised")
    assert (found["attempts"], found["few"], found["origin"]) == (2, True, "")
    assert [one["key"] for one in found["proposals"]][-1] == "timeout"
    said = host.ctl("suggest", "advised")
    assert 'timeout = "1m"' in said.out
    assert "from 2 attempts only" in said.err
    (line,) = (line for line in said.out.splitlines() if line.startswith("jobctl set"))
    assert host.ctl(*line.split()[1:]).status == 0
    assert "nothing to change" in host.ctl("suggest", "advised").out
    assert host.ctl("suggest", "nosuch").status == 66


@pytest.mark.skipif(not is_root(), reason="needs root, to become another user")
def test_what_one_may_not_see_is_in_no_forecast() -> None:
    daemon = Faked('[access]\nsocket_mode = "0666"\n')
    try:
        daemon.start()
        people = People(daemon.home)
        for name, user in (("hidden", ""), ("shown", "nobody")):
            options = ["--name", name, "--access-submit", user]
            assert people.say("root", "register", *options, "img").status == 0
            assert people.say("root", "schedule", "add", name, "--every", "1h").status == 0
            assert people.say("root", "pause", name).status == 0
        for user, seen in (("root", True), ("nobody", False)):
            said = people.say(user, "forecast", "--json")
            assert ("hidden" in said.out, "shown" in said.out) == (seen, True)
            assert said.json["runs"]["queued"] == 48, "figures are everybody's"
        assert people.say("nobody", "suggest", "hidden").status == 66
        assert people.say("nobody", "suggest", "shown").status == 0
        people.close()
    finally:
        daemon.close()


def test_a_host_without_gpus_says_so(host: FakeHost) -> None:
    said = host.ctl("register", "--name", "carded", "--gpus", "1", "img")
    assert said.status == 78
    assert "resources.gpus 1: this host lets a run have 0 at most" in said.err


def test_who_holds_the_gpus(tmp_path) -> None:
    home = tmp_path / "h"
    home.mkdir(mode=0o700)
    (home / "jobd.toml").write_text("[capacity]\ngpus = 2\n")
    host = FakeHost(home).start()
    try:
        with host.client() as client:
            spec = {"name": "carded", "image": "img", "command": ["hang"]}
            client.register({**spec, "resources": {"gpus": 2, "cpus": 0.01, "memory": "8M"}})
            first, second = queue(client, "carded", runs=2)
            told = until(lambda: gpus(client, second))
            assert told == {
                "name": "gpus",
                "ok": False,
                "text": f"needs 2: 0 of 2 free, held by run {first}",
                "needed": 2,
                "free": 0,
                "held_by": [first],
            }
            assert client.show(second)["reason"]["text"] == "needs 2 gpus: 0 of 2 free"
            assert "gpus      2 of 2 held by runs" in host.ctl("status").out
            assert client.show(first)["attempts"][0]["gpus"] == [0, 1]
            host.restart()
        with host.client() as client:
            assert gpus(client, second) == told, "also after a kill"
            client.cancel(first)
            until(lambda: client.show(second)["status"] == "running")
            client.cancel(second)
    finally:
        host.end()


def gpus(client: Client, run: int) -> object:
    rows = client.why(run)["constraints"]
    return next((row for row in rows if row["name"] == "gpus" and not row["ok"]), None)
