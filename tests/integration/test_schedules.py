"""Schedules through jobctl and a real daemon, over `kill -9`."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from jobctl.client import Client
from tests.support.fakehost import SMALL, FakeHost
from tests.support.waiting import until


@pytest.fixture
def job(client: Client) -> str:
    client.register({"name": "ticks", "image": "img", "command": ["payload"], **SMALL})
    return "ticks"


def nominal(client: Client, job: str) -> list[str]:
    runs = client.runs(job=job, everything=True)
    return sorted(str(run["trigger"]["scheduled_at"]) for run in runs)


def test_seconds_go_on_over_kills_each_once(host: FakeHost, client: Client, job: str) -> None:
    said = host.ctl(
        "schedule", "add", job, "--cron", "* * * * * *", "--catchup", "all", "--name", "s"
    )
    assert said.status == 0, said.err
    assert said.out.startswith("ticks/s: next ")
    for _ in range(3):
        seen = len(nominal(client, job))
        until(lambda seen=seen: len(nominal(client, job)) > seen)  # type: ignore[misc]
        host.restart()
    until(lambda: len(nominal(client, job)) > 4)
    assert host.ctl("schedule", "rm", "ticks/s").status == 0
    made = nominal(client, job)
    assert made == sorted(set(made))
    # none is left out either: each is a second behind the one before it
    seconds = [int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19]) for text in made]
    assert [b - a for a, b in pairwise(seconds)] == [1] * (len(made) - 1)


def test_an_attempt_is_told_its_time(host: FakeHost, client: Client) -> None:
    client.register(
        {"name": "told", "image": "img", "command": ["env=SCHEDULED_AT", "env=TRIGGER"], **SMALL}
    )
    client.add_schedule("told", {"every": "1s", "times": 1})
    run = until(lambda: client.runs(job="told", status=["succeeded"]))[0]
    lines = [line["text"] for line in client.logs(run["id"])]
    assert lines[0] == run["trigger"]["scheduled_at"].replace(".000Z", "Z")[:19] + "Z"
    assert lines[1] == "schedule"
    time.sleep(1.2)
    assert len(client.runs(job="told")) == 1
    (row,) = client.schedules("told")
    assert (row["fired"], row["next_at"], row["last_run"]) == (1, None, run["id"])


def test_listing_and_changing(host: FakeHost, client: Client, job: str) -> None:
    assert (
        host.ctl("schedule", "add", job, "--cron", "0 8 * * mon", "--tz", "Asia/Tokyo").status == 0
    )
    listed = host.ctl("schedule", "ls")
    assert "ticks/cron" in listed.out
    assert "Asia/Tokyo" in listed.out
    assert host.ctl("schedule", "pause", "ticks/cron").status == 0
    assert "paused" in host.ctl("schedule", "ls", job).out
    assert host.ctl("schedule", "resume", "ticks/cron").status == 0
    run = host.ctl("schedule", "fire", "ticks/cron").out.strip()
    assert client.show(run)["trigger"]["name"] == "cron"
    assert host.ctl("schedule", "rm", "ticks/cron").status == 0
    assert host.ctl("schedule", "rm", "ticks/cron").status == 66
    assert host.ctl("schedule", "rm", "ticks").status == 2
    assert host.ctl("schedule", "add", job, "--cron", "0 0 31 2 *").status == 78
    assert host.ctl("schedule", "add", job, "--every", "1s", "--at", "10m").status == 2
    warned = host.ctl("schedule", "add", job, "--cron", "30 2 * * *", "--tz", "Europe/Berlin")
    assert "clocks go back" in warned.err
    host.ctl("schedule", "rm", "ticks/cron")


def test_next_marks_the_changes_of_the_clock(host: FakeHost) -> None:
    words = ("30 2 * * *", "--tz", "Europe/Berlin", "--from", "2026-10-24T12:00", "-n", "2")
    rows = host.json("schedule", "next", *words)
    assert [row["at"] for row in rows] == ["2026-10-25T00:30:00.000Z", "2026-10-26T01:30:00.000Z"]
    assert [row["local"] for row in rows] == ["2026-10-25T02:30:00", "2026-10-26T02:30:00"]
    assert "comes twice" in rows[0]["note"]
    assert rows[1]["note"] is None


def test_a_job_file_brings_its_schedule(host: FakeHost, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "filed.toml"
    text = 'image = "img"\ncommand = ["exit=0"]\n[[schedule]]\nname = "d"\ncron = "0 8 * * *"\n'
    file.write_text(text)
    assert host.ctl("apply", "-f", str(file)).status == 0
    (row,) = client.schedules("filed")
    assert (row["name"], row["from_file"]) == ("d", True)
    assert host.ctl("schedule", "rm", "filed/d").status == 73
    file.write_text(text.replace("0 8", "61 8"))
    said = host.ctl("apply", "-f", str(file))
    assert said.status == 78
    assert "schedule[0].cron" in said.err
    file.write_text(text.partition("[[")[0])
    assert host.ctl("apply", "-f", str(file)).status == 0
    assert client.schedules("filed") == []


def test_a_crontab_becomes_job_files(host: FakeHost, tmp_path: Path) -> None:
    table = tmp_path / "crontab"
    table.write_text(
        "# mine\nMAILTO=me@example.com\nLANG=C\nCRON_TZ=Europe/Paris\n"
        "*/5 * * * * /usr/local/bin/poll.sh --all >/dev/null\n"
        "@daily echo 100\\% | cat\n0 4 * * 1 cat%line one%line two\nnonsense\n"
    )
    out = tmp_path / "jobs"
    said = host.ctl("schedule", "import", str(table), "--image", "debian:12", "--out", str(out))
    assert said.status == 1  # some lines are for a person
    assert "MAILTO" in said.err
    assert "nonsense" in said.err
    assert sorted(path.name for path in out.iterdir()) == ["cat.toml", "echo.toml", "poll.toml"]
    assert host.ctl("apply", "-f", str(out)).status == 0
    rows = {row["job"]: row for row in host.json("schedule", "ls")}
    assert rows["poll"]["cron"] == "*/5 * * * *"
    assert rows["poll"]["timezone"] == "Europe/Paris"
    assert rows["cat"]["payload"] == "line one\nline two"
    job = host.json("show", "echo")
    assert job["command"] == ["/bin/sh", "-c", "echo 100% | cat"]
    assert job["env"] == {"LANG": "C"}
