"""Runs that have left memory, as people meet them: by every verb, as if they were still there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobctl.client import Client
from jobd.errors import ConflictError, NotFoundError, UsageError
from tests.integration.test_fsck import jobd
from tests.support.fakehost import SMALL, FakeHost
from tests.support.waiting import until

#: nothing that is over stays in memory
CONFIG = "[history]\nwindow = 0\n"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHost]:
    home = tmp_path_factory.mktemp("h") / "home"
    home.mkdir(mode=0o700)
    (home / "jobd.toml").write_text(CONFIG)
    one = FakeHost(home).start()
    yield one
    one.end()


def register(client: Client, name: str, *command: str) -> None:
    client.register({"name": name, "image": "img", "command": list(command), **SMALL})


def gone(client: Client) -> None:
    """Returns once nothing that is over is in memory."""
    until(lambda: client.status()["history"]["in_memory"] == 0)


def archived(client: Client, job: str, count: int = 1, **more: object) -> list[int]:
    """Runs of the job that are over and have left."""
    made = client.queue(job, count=count, **more)  # type: ignore[arg-type]
    runs = [run["id"] for run in made["runs"]]
    client.wait(*runs)
    gone(client)
    return runs


def test_every_verb_that_looks(host: FakeHost, client: Client) -> None:
    register(client, "look", "print=hello", "result=the result")
    (run,) = archived(client, "look", payload=b"pay", labels={"a": "b"})
    row = client.show(run)
    assert (row["status"], row["archived"], row["labels"]) == ("succeeded", True, {"a": "b"})
    assert (row["exit_code"], len(row["attempts"]), row["payload_size"]) == (0, 1, 3)
    assert row["submitted_by"]["uid"] == client.ping()["user"]["uid"]
    assert client.payload(run) == b"pay"
    assert client.result(run) == b"the result"
    assert "hello" in host.ctl("logs", str(run)).out
    assert host.json("why", str(run))["status"] == "succeeded"
    assert client.wait(run)["status"] == "succeeded"
    assert host.ctl("wait", str(run)).status == 0
    assert client.show(f"{run}-{run}")[0]["id"] == run
    assert client.show("last:look")["id"] == run
    assert host.json("show", "last")["id"] == run
    kinds = [each["event"] for each in client.events() if each["run"] == run]
    assert kinds[0] == "run.queued"
    assert kinds[-1] == "run.finished"
    assert host.ctl("history", "look").status == 0


def test_lists(host: FakeHost, client: Client) -> None:
    register(client, "list", "print=hi")
    register(client, "bad", "exit=3")
    old = archived(client, "list", 3, labels={"n": "1"})
    (bad,) = archived(client, "bad")
    client.pause("list")
    (live,) = [run["id"] for run in client.queue("list")["runs"]]
    mine = {"list", "bad"}
    rows = [row["id"] for row in client.runs() if row["job"] in mine]
    assert rows == [live, bad, *reversed(old)]
    assert [row["id"] for row in client.runs(job="list")] == [live, *reversed(old)]
    assert [row["id"] for row in client.runs(job="list", limit=2)] == [live, old[2]]
    assert [row["id"] for row in client.runs(job="bad", status=["dead"])] == [bad]
    assert client.runs(job="list", status=["queued"])[0]["id"] == live
    assert len(client.runs(job="list", labels={"n": "1"})) == 3
    assert client.runs(job="list", labels={"n": "2"}) == []
    assert len(host.json("ls", "--job", "list", "--since", "1h")) == 4
    ahead = datetime.now(UTC) + timedelta(hours=1)
    assert [row["id"] for row in client.runs(job="list", since=ahead)] == []
    assert [row["id"] for row in host.json("ls", "--job", "bad", "--until", "0s")] == [bad]
    assert host.json("ls", "--job", "bad", "--until", "1h") == []
    assert [row["id"] for row in host.json("ls", f"{old[0]},{live}")] == [old[0], live]
    client.cancel(live)


def test_long_lists_are_whole_and_in_order(host: FakeHost, client: Client) -> None:
    register(client, "long", "print=hi")
    client.pause("long")
    client.queue("long", count=450)
    client.cancel(job="long")
    gone(client)
    rows = [row["id"] for row in client.runs(job="long", everything=True)]
    assert len(rows) == 450
    assert rows == sorted(rows, reverse=True)
    assert [row["id"] for row in client.runs(job="long", limit=120)] == rows[:120]
    assert host.ctl("ls", "--job", "long").err.count("50 are shown") == 1


def test_what_changes_nothing_any_more(host: FakeHost, client: Client) -> None:
    register(client, "done", "print=hi")
    (run,) = archived(client, "done")
    for verb in ("cancel", "hold", "release", "next"):
        said = host.ctl(verb, str(run))
        assert said.status == 73, verb
        assert "jobctl retry" in said.err
    assert host.ctl("edit", str(run), "--priority", "3").status == 73
    assert host.ctl("show", "999999").status == 66
    with pytest.raises(NotFoundError):
        client.result(run)
    with pytest.raises(ConflictError):
        client.cancel(run)
    with pytest.raises(UsageError):
        client.show("1-999999999x")


def test_retry(host: FakeHost, client: Client) -> None:
    register(client, "again", "exit=1", "payload")
    small = archived(client, "again", payload=b"small", labels={"x": "y"})
    large = archived(client, "again", payload=bytes(1_500_000))
    for old, payload in ((small[0], b"small"), (large[0], bytes(1_500_000))):
        new = client.retry(old)["id"]
        assert client.wait(new)["retry_of"] == old
        assert client.payload(new) == payload
    rows = client.retry(f"{small[0]},{large[0]}")
    assert [row["retry_of"] for row in rows] == [small[0], large[0]]
    other = client.retry(small[0], payload=b"other")["id"]
    assert client.payload(other) == b"other"
    assert client.show(other)["labels"] == {"x": "y"}


def test_keys(host: FakeHost, client: Client) -> None:
    register(client, "keyed", "print=hi")
    (run,) = archived(client, "keyed", key="once", payload=b"x")
    again = client.queue("keyed", b"x", key="once")
    assert again["runs"] == [{"id": run, "existing": True}]
    said = host.ctl("queue", "keyed", "--key", "once", "-p", "y")
    assert said.out.strip() == str(run)
    assert "another payload" in said.err
    assert client.queue("keyed", b"x", key="twice")["runs"][0]["existing"] is False


def test_behind_archived_runs(host: FakeHost, client: Client) -> None:
    register(client, "parent", "print=hi")
    register(client, "child", "print=hi")
    (run,) = archived(client, "parent")
    ok = int(host.ctl("queue", "child", "--after", f"{run}:ok").out)
    assert client.wait(ok)["status"] == "succeeded"
    fail = int(host.ctl("queue", "child", "--after", f"{run}:fail").out)
    row = client.wait(fail)
    assert (row["status"], row["reason"]["code"]) == ("skipped", "parent")
    client.pause("child")
    waits = int(host.ctl("queue", "child", "--after", f"{run}:any").out)
    host.restart()
    client.resume("child")
    assert client.wait(waits)["status"] == "succeeded"


def test_a_child_reads_the_result_of_a_parent_that_has_left(host: FakeHost, client: Client) -> None:
    register(client, "giver", "result=gift")
    register(client, "taker", "print=hi")
    (parent,) = archived(client, "giver")
    client.pause("taker")
    child = int(host.ctl("queue", "taker", "--after", f"{parent}:ok").out)
    client.register(
        {"name": "taker", "image": "img", "command": ["hang"], **SMALL, "timeout": "1m"}
    )
    again = int(host.ctl("queue", "taker", "--after", f"{parent}:ok").out)
    client.resume("taker")
    client.wait(child)
    until(lambda: client.show(again)["status"] == "running")
    work = host.home / "state" / "work" / f"{again}.1"
    assert [path.read_bytes() for path in work.rglob(f"parents/{parent}/result")] == [b"gift"]
    client.cancel(again)
    client.wait(again)


def test_a_wait_that_is_under_way(host: FakeHost, client: Client) -> None:
    """Its run leaves between two questions."""
    register(client, "slow", "sleep=1.5")
    run = client.queue("slow")["runs"][0]["id"]
    assert client.wait(run)["status"] == "succeeded"
    done = host.ctl("run", "slow")
    assert done.status == 0


def test_kills_and_a_lost_index(host: FakeHost, client: Client) -> None:
    register(client, "kill", "print=hi", "result=r")
    client.pause("kill")
    runs = [run["id"] for run in client.queue("kill", count=900)["runs"]]
    client.cancel(job="kill")
    (last,) = [run["id"] for run in client.queue("kill")["runs"]]
    for kill in range(3):
        host.restart()
        if kill == 1:
            for path in (host.home / "state").glob("history.sqlite*"):
                path.unlink()
    with host.client() as client:
        client.resume("kill")
        client.wait(last)
        gone(client)
        until(lambda: client.status()["history"]["ready"])
        rows = client.runs(job="kill", everything=True)
        assert [row["id"] for row in rows] == [last, *reversed(runs)]
        assert {row["status"] for row in rows[1:]} == {"cancelled"}
        assert client.result(last) == b"r"
    with sqlite3.connect(host.home / "state" / "history.sqlite") as index:
        ids = [row[0] for row in index.execute("SELECT id FROM runs")]
    index.close()
    assert set(runs) <= set(ids)


def test_a_copy_has_them_too(host: FakeHost, client: Client, tmp_path: Path) -> None:
    register(client, "copied", "print=hi", "payload")
    (run,) = archived(client, "copied", payload=bytes(1_500_000))
    made = jobd("backup", "--home", str(host.home), str(tmp_path / "copy"), "--json")
    assert made.returncode == 0, made.stderr
    copy = FakeHost(tmp_path / "copy").start()
    try:
        with copy.client() as other:
            until(lambda: other.status()["history"]["ready"])
            assert other.show(run)["status"] == "succeeded"
            assert other.payload(run) == bytes(1_500_000)
            assert len(other.runs(job="copied")) == 1
    finally:
        copy.end()


def test_retention_by_reload(host: FakeHost, client: Client) -> None:
    register(client, "old", "print=hi", "result=" + "r" * 9_000)
    (run,) = archived(client, "old", payload=bytes(1_500_000))
    logs = host.home / "log" / "old"
    bodies = host.home / "state" / "bodies"
    assert list(logs.glob(f"{run}.*"))
    before = files(bodies)
    assert len(before) >= 2
    (host.home / "jobd.toml").write_text(CONFIG + "runs = 0\n")
    host.end()
    host.start()
    with host.client() as client:
        until(lambda: client.status()["history"]["segments"] == 0)
        assert host.ctl("show", str(run)).status == 66
        assert host.ctl("retry", str(run)).status == 66
        assert client.runs(everything=True) == []
        events = [each for each in client.events() if each["run"] == run]
        assert events, "an administrator is still told what happened"
        assert json.dumps(events)
    assert not logs.exists()
    assert not files(bodies) & before
    (host.home / "jobd.toml").write_text(CONFIG)


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}
