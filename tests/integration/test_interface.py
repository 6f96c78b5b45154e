"""What INTERFACE says of output modes, selectors and dry runs, asked of a real daemon by hand."""

from __future__ import annotations

import pytest

from jobctl.client import Client
from jobd.errors import JobdError
from tests.support.fakehost import SMALL, FakeHost


def spec(name: str, *steps: str, **more: object) -> dict[str, object]:
    return {"name": name, "image": "img", "command": [*steps], **SMALL, **more}


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"timeout": 0}, 78),
        ({"expires": 200 * 365 * 86400}, 78),
        ({"priority": 1 << 40}, 78),
        ({"after": [999_999]}, 66),
        ({"count": 3}, 75),
        ({"key": "k", "count": 2}, 78),
    ],
    ids=str,
)
def test_a_dry_run_is_refused_as_the_real_one(
    host: FakeHost, client: Client, options: dict[str, object], status: int
) -> None:
    client.register(spec("tight", "exit=0", limits={"queue": 2}))
    said = []
    for dry in (True, False):
        with pytest.raises(JobdError) as caught:
            client.queue("tight", dry_run=dry, **options)  # type: ignore[arg-type]
        said.append((caught.value.status, str(caught.value)))
    assert said[0] == said[1]
    assert said[0][0] == status
    assert client.runs(job="tight") == []


def test_a_dry_run_tells_what_a_run_would_have(host: FakeHost, client: Client) -> None:
    client.register(spec("told", "exit=0", timeout="1h"))
    words = ("queue", "told", "--timeout", "90", "--expires", "2h30m", "--key", "k", "--dry-run")
    settings = host.json(*words)["settings"]
    assert (settings["timeout"], settings["expires"]) == ("1m30s", "2h30m")
    assert settings["key"] == "k"
    # more than one request takes: it is sent in several, and so would be the dry run
    assert host.json("queue", "told", "--count", "30000", "--dry-run")["settings"]["runs"] == 30_000
    assert client.runs(job="told") == []


def test_a_dry_run_leaves_no_payload_behind(host: FakeHost, client: Client) -> None:
    client.register(spec("dry", "exit=0"))
    before = sorted((host.home / "state" / "bodies").rglob("*"))
    client.queue("dry", b"x" * 100_000, count=200, dry_run=True)
    assert sorted((host.home / "state" / "bodies").rglob("*")) == before
    # asked again by its key it is found, whatever its payloads would take
    key = bytes(range(16))
    answers = []
    for _ in range(2):
        with host.client(request_key=key) as again:
            answers.append(again.queue("dry", b"x" * 100_000, count=200))
    assert answers[0] == answers[1]
    assert len(answers[0]["runs"]) == 200
    client.cancel(job="dry")


def test_quiet_is_silent_but_for_errors(host: FakeHost, client: Client) -> None:
    client.register(spec("soft", "exit=0"))
    client.pause("soft")
    loud = host.ctl("queue", "soft", "--key", "a", "--at", "tomorrow 08:00")
    assert "tomorrow 08:00: " in loud.err
    again = host.ctl("-q", "queue", "soft", "--key", "a", "--at", "tomorrow 08:00")
    assert (again.status, again.out, again.err) == (0, loud.out, "")
    wrong = host.ctl("queue", "none", "--quiet")
    assert wrong.status == 66
    assert wrong.err.startswith("jobctl: job none: ")


def test_who_waits_for_running_is_told_of_those_that_do_not(host: FakeHost, client: Client) -> None:
    client.register(spec("one", "sleep=60", limits={"concurrency": 1}))
    first, second = (client.queue("one")["runs"][0]["id"] for _ in range(2))
    client.wait(first, until="running")
    words = ("wait", str(first), str(second), "--for", "running", "--timeout", "0")
    said = host.ctl(*words)
    assert said.status == 124
    assert f"run {second} is queued" in said.err
    assert f"run {first} " not in said.err
    client.cancel(job="one")


def test_a_range_that_counts_down_is_a_slip(host: FakeHost) -> None:
    said = host.ctl("show", "5-3")
    assert said.status == 2
    assert "'5-3' is not a run" in said.err


def test_a_span_is_shown_with_its_unit_and_by_its_name(host: FakeHost, client: Client) -> None:
    client.register(spec("spans", "exit=0"))
    run = client.queue("spans", labels={"x_ms": "5"})["runs"][0]["id"]
    client.wait(run)
    shown = dict(line.split(None, 1) for line in host.ctl("show", str(run)).out.splitlines()[1:])
    assert shown["timeout"] == "1h"
    assert shown["labels.x_ms"] == "5"
