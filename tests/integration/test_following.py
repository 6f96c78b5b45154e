"""Runs that follow from others and from notifications, through jobctl and a whole daemon."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobctl.client import Client
from tests.support.faked import Faked
from tests.support.fakehost import SMALL, FakeHost, queue
from tests.support.people import People, is_root
from tests.support.waiting import until


def spec(name: str, *steps: str, on: list[dict[str, Any]] | None = None, **keys: Any) -> Any:
    made = {"name": name, "image": "img", "command": list(steps) or ["print=x"], **SMALL, **keys}
    return {**made, "on": on or []}


def made_by(client: Client, job: str) -> Counter[int]:
    """How many runs of a job each other run has made."""
    rows = client.runs(job=job, everything=True)
    return Counter(row["trigger"]["run"] for row in rows)


def test_a_chain_from_job_files(host: FakeHost, client: Client, tmp_path: Path) -> None:
    files = {
        "etl": 'image = "img"\ncommand = ["result=rows"]\n',
        "load": 'image = "img"\ncommand = ["env=TRIGGER_RUN", "env=TRIGGER_OUTCOME", "payload"]\n'
        '[[on]]\nrun = "etl"\n',
        "alarm": 'image = "img"\n[[on]]\nrun = "etl"\noutcome = "failed"\n',
    }
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text)
    assert host.ctl("apply", "-f", str(tmp_path)).status == 0
    run = host.json("queue", "etl", "--label", "day=mon")["runs"][0]["id"]
    (row,) = until(lambda: client.runs(job="load"))
    client.wait(row["id"])
    assert host.ctl("logs", str(row["id"])).out.split() == [str(run), "succeeded", "rows"]
    shown = host.json("show", str(row["id"]))
    assert shown["trigger"] == {
        "kind": "run", "name": "etl", "scheduled_at": None,
        "run": run, "outcome": "succeeded", "depth": 1, "root": run,
    }  # fmt: skip
    assert shown["labels"] == {"day": "mon"}
    lines = [line.split() for line in host.ctl("show", str(row["id"])).out.splitlines()]
    assert ["trigger.run", str(run)] in lines
    assert client.runs(job="alarm") == []


def test_a_loop_is_refused_with_its_way(host: FakeHost, client: Client) -> None:
    client.register(spec("l1"))
    client.register(spec("l2", on=[{"run": "l1"}]))
    said = host.ctl("set", "l1", 'on=[{"run": "l2"}]')
    assert said.status == 78
    assert "a loop: l1 -> l2 -> l1" in said.err
    assert "there is no job l9 yet" in host.ctl("set", "l1", 'on=[{"run": "l9"}]').err
    assert "on[0].rnu: unknown key" in host.ctl("set", "l1", 'on=[{"run": "l2", "rnu": 1}]').err


def test_a_fan_in_finds_the_results(host: FakeHost, client: Client) -> None:
    client.register(spec("parts"))
    client.register(spec("left", "result=l", on=[{"run": "parts"}]))
    client.register(spec("right", "fail-until=2", on=[{"run": "parts"}]))
    client.register(spec("both", "payload", on=[{"run": ["left", "right"]}]))
    first = queue(client, "parts")[0]
    until(lambda: client.job("both")["reactions"]["joins"])
    (join,) = client.job("both")["reactions"]["joins"]
    assert (join["root"], join["missing"]) == (first, ["right"])
    (right,) = until(lambda: client.runs(job="right", status=["failed"]))
    host.restart()
    with host.client() as again:
        again.register(spec("right", on=[{"run": "parts"}]))
        again.retry(right["id"])
        (both,) = until(lambda: again.runs(job="both"))
        again.wait(both["id"])
        told = json.loads(host.ctl("logs", str(both["id"])).out)
        assert told["right"]["outcome"] == "succeeded"
        assert [p["run"] for p in again.show(both["id"])["after"]] == [
            told["left"]["run"], told["right"]["run"],
        ]  # fmt: skip
        assert again.job("both")["reactions"]["joins"] == []


def test_each_end_makes_one_run_whatever_crashes(host: FakeHost) -> None:
    # the fake engine's attempts die with the daemon: then they are lost, and that is an end
    ends = {"retry": {"interrupted": "dead"}}
    follows = {"outcome": "any"}
    with host.client() as client:
        client.register(spec("from", "sleep=0.02", **ends))
        client.register(spec("to", "sleep=0.02", on=[{"run": "from", **follows}], **ends))
        client.register(spec("third", on=[{"run": "to", **follows}], **ends))
        runs = queue(client, "from", 60)
    for _ in range(4):
        host.restart()
    with host.client() as client:
        client.wait(*runs, timeout=60)
        assert made_by(client, "to") == Counter(runs)
        ids = [row["id"] for row in client.runs(job="to", everything=True)]
        client.wait(*ids, timeout=60)
        assert made_by(client, "third") == Counter(ids)


# -- topics ------------------------------------------------------------------------------------


def test_emit(host: FakeHost, client: Client) -> None:
    assert host.json("emit", "orders") == {
        "topic": "orders", "listening": 0, "count": 0, "runs": [], "refused": [],
        "forbidden": [],
    }  # fmt: skip
    said = host.ctl("emit", "orders")
    assert (said.status, said.out) == (0, "")
    assert "orders: nobody listens: nothing was queued" in said.err
    client.register(spec("mail", "payload", on=[{"topic": "orders"}]))
    client.register(spec("book", on=[{"topic": "orders", "payload": {"kind": "new"}}]))
    client.register(spec("eu", on=[{"topic": "orders", "labels": {"region": ["eu"]}}]))
    said = host.ctl("emit", "orders", "-p", '{"kind": "new"}', "--label", "region=us")
    ids = said.out.split()
    rows = client.show(*map(int, ids))
    assert [row["job"] for row in rows] == ["mail", "book"]
    assert rows[0]["trigger"]["kind"] == "topic"
    assert rows[0]["trigger"]["name"] == "orders"
    assert rows[0]["labels"] == {"region": "us"}
    client.wait(*map(int, ids))
    assert host.ctl("logs", ids[0]).out == '{"kind": "new"}'
    host.ctl("set", "mail", "on=[]")
    said = host.ctl("emit", "orders", "-p", "x")
    assert "2 jobs listen, but not for these labels and this payload" in said.err
    assert host.ctl("emit", "no good").status == 78
    assert "topic.emitted" in host.ctl("events").out


def test_a_large_notification_is_one_file_for_all(host: FakeHost, client: Client) -> None:
    for number in range(3):
        client.register(spec(f"large-{number}", "digest=x", on=[{"topic": "large"}]))
        client.pause(f"large-{number}")
    data = bytes(3 << 20)
    kept = host.home / "state" / "bodies"
    bodies = {path for path in kept.rglob("*") if path.is_file()}
    answer = client.emit("large", data)
    assert answer["count"] == 3
    assert len({path for path in kept.rglob("*") if path.is_file()} - bodies) == 1
    for one in answer["runs"]:
        assert client.payload(one["id"]) == data


def test_one_that_takes_nothing_is_named(host: FakeHost, client: Client) -> None:
    client.register(spec("full", on=[{"topic": "busy"}], limits={"queue": 1}))
    client.register(spec("free", on=[{"topic": "busy"}]))
    client.pause("full")
    queue(client, "full")
    said = host.ctl("emit", "busy", "--json")
    assert said.status == 1
    assert [run["job"] for run in said.json["runs"]] == ["free"]
    assert said.json["refused"][0]["job"] == "full"
    assert "job full got no run: job full: its queue is full" in said.err
    refused = client.job("full")["reactions"]["refused"]
    assert (refused["trigger"], refused["name"], refused["times"]) == ("topic", "busy", 1)
    assert "reaction.refused" in host.ctl("events").out


# -- who may -----------------------------------------------------------------------------------

CONFIG = """
[access]
submit = ["backup"]
socket_mode = "0666"
[maxima]
chain = 2
"""


@pytest.fixture
def people() -> Iterator[People]:
    daemon = Faked(CONFIG)
    daemon.start()
    them = People(daemon.home)
    yield them
    them.close()
    daemon.close()


@pytest.mark.skipif(not is_root(), reason="needs root, to become other users")
def test_who_may_emit_and_whose_the_runs_are(people: People, tmp_path: Path) -> None:
    tables = {
        "open": '[[on]]\ntopic = "t"\n',
        "his": '[[on]]\ntopic = "t"\n[access]\nsubmit = ["games"]\n',
        "next": '[[on]]\nrun = "his"\n[access]\nsubmit = []\nread = []\n',
    }
    folder = tmp_path / "jobs"
    folder.mkdir()
    for name, table in tables.items():
        head = 'image = "img"\ncommand = ["print=x"]\n'
        (folder / f"{name}.toml").write_text(head + table)
    assert people.say("root", "apply", "-f", str(folder)).status == 0
    assert people.say("nobody", "emit", "t").status == 77
    said = people.say("games", "emit", "t", "--json")
    assert [run["job"] for run in json.loads(said.out)["runs"]] == ["his"]
    run = str(json.loads(said.out)["runs"][0]["id"])
    assert "topic.emitted" not in people.say("games", "events").out
    assert "topic.emitted" in people.say("root", "events").out
    assert people.say("games", "wait", run).status == 0
    shown = json.loads(people.say("games", "show", run, "--json").out)
    assert shown["submitted_by"]["user"] == "games"
    # what follows is of who registered it: its logs are no affair of who began
    made = json.loads(people.say("root", "show", "last:next", "--json").out)
    assert made["submitted_by"]["user"] == "root"
    assert people.say("games", "show", str(made["id"])).status == 66
    said = people.say("backup", "emit", "t", "--json")
    assert [run["job"] for run in json.loads(said.out)["runs"]] == ["open"]
