"""Policies as people meet them: jobctl against a whole daemon whose jobs are processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import open_folder
from tests.support.zygote import ForkedDaemon

CONFIG = """\
[engine]
socket = "unix:///nonexistent/docker.sock"
[process]
user = "nobody"
[groups]
gpu = { concurrency = 1 }
[maxima]
user_queue = 20
"""


class Host(ForkedDaemon):
    """A daemon with a group and a bound on what one user may have waiting."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, "")
        home.chmod(0o755)
        self.configure(CONFIG)

    def configure(self, text: str) -> None:
        """Write the configuration; it counts from the next start or reload."""
        (self.home / "jobd.toml").write_text(text)

    def process(self, name: str, script: str, *options: str) -> None:
        """Register a small shell script."""
        small = ("--cpus", "0.01", "--memory", "16M")
        words = ("--process", "--name", name, *small, *options, "sh", "-c", script)
        self.ctl("register", *words)

    def json(self, *arguments: str) -> Any:
        """What is answered in JSON."""
        return json.loads(self.ctl(*arguments, "--json").stdout)

    def queue(self, *arguments: str) -> str:
        """The id of a run that is queued."""
        return self.ctl("queue", *arguments).stdout.strip()

    def wait(self, *runs: str) -> list[str]:
        """The runs' words, once they are over."""
        self.ctl("wait", *runs, "--timeout", "60", check=False)
        return [self.json("show", run)["status"] for run in runs]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with open_folder() as folder:
        made = Host(folder / "h")
        made.start()
        made.ready()
        yield made
        if made.alive():
            made.ctl("cancel", "--job", "long", check=False)
            made.settled("--all")
        made.close()


LONG = "trap 'exit 3' TERM; while :; do sleep 0.05; done"


def constraint(host: Host, run: str, name: str) -> dict[str, Any]:
    rows = host.json("why", run)["constraints"]
    found = next(row for row in rows if row["name"] == name)
    assert isinstance(found, dict)
    return found


def test_a_group_and_a_key_are_shared_and_why_says_who_has_them(host: Host) -> None:
    host.process("long", LONG, "--group", "gpu")
    host.process("other", "true", "--group", "gpu")
    first = host.queue("long", "--mutex", "k")
    host.ctl("wait", first, "--for", "running", "--timeout", "60")
    second = host.queue("other")
    row = constraint(host, second, "group")
    assert (row["ok"], row["active"], row["limit"], row["held_by"]) == (False, 1, 1, [int(first)])
    assert host.json("show", second)["reason"] == {"code": "limits", "text": row["text"]}
    host.process("keyed", "true")
    third = host.queue("keyed", "--mutex", "k")
    assert constraint(host, third, "mutex")["held_by"] == [int(first)]
    host.ctl("cancel", first)
    assert host.wait(first, second, third) == ["cancelled", "succeeded", "succeeded"]


def test_a_group_that_goes_with_a_reload_lets_nothing_start(host: Host) -> None:
    host.process("other", "true", "--group", "gpu")
    wrong = host.ctl("set", "other", "limits.group=nope", check=False)
    assert wrong.returncode == 78
    assert "limits.group: no group 'nope' in jobd.toml ([groups]): known are gpu" in wrong.stderr


def test_a_queue_is_full_for_a_user_and_for_a_job(host: Host) -> None:
    host.process("full", "true", "--queue-limit", "3")
    host.ctl("pause", "full")
    host.ctl("queue", "full", "--count", "3")
    for arguments, text in (
        (("full",), "job full: its queue is full: 3 of 3 runs wait (limits.queue)"),
        (("other", "--count", "18"), "3 of 20 runs wait already (maxima.user_queue)"),
    ):
        done = host.ctl("queue", *arguments, check=False)
        assert done.returncode == 75
        assert text in done.stderr
    host.ctl("cancel", "--job", "full")


def test_overlap_and_the_latest_of_a_key(host: Host) -> None:
    host.process("once", "true", "--overlap", "skip")
    host.ctl("pause", "once")
    one, two = host.queue("once"), host.queue("once")
    row = host.json("show", two)
    assert (row["status"], row["reason"]["code"]) == ("skipped", "overlap")
    three = host.queue("other", "--key", "k", "--debounce", "1h")
    four = host.queue("other", "--key", "k", "--debounce", "100ms")
    host.ctl("resume", "once")
    assert host.wait(one, three, four) == ["succeeded", "skipped", "succeeded"]
    assert host.ctl("queue", "other", "--latest", check=False).returncode == 2


def test_a_breaker_opens_and_a_person_closes_it(host: Host) -> None:
    host.process("fragile", "exit $(cat $PAYLOAD_FILE)", "--breaker", "2")
    assert host.wait(host.queue("fragile", "-p", "4")) == ["failed"]
    assert host.wait(host.queue("fragile", "-p", "4")) == ["failed"]
    run = host.queue("fragile", "-p", "0")
    why = host.json("show", run)["reason"]
    assert why["code"] == "breaker"
    assert "2 attempts failed in a row, the last one of run" in why["text"]
    assert host.json("show", "fragile")["breaker"]["failures"] == 2
    host.ctl("resume", "fragile")
    assert host.wait(run) == ["succeeded"]
    assert host.json("show", "fragile")["breaker"] is None


def test_a_child_reads_what_its_parents_left(host: Host) -> None:
    host.process("parent", 'printf "$(cat $PAYLOAD_FILE)" >$RESULT_FILE')
    host.process("child", "cat $TASK_DIR/parents/*/result >$RESULT_FILE; ls $TASK_DIR/parents")
    parents = [host.queue("parent", "-p", text) for text in ("one ", "two")]
    child = host.queue("child", "--after", parents[0], "--after", parents[1])
    assert host.wait(child) == ["succeeded"]
    assert host.ctl("result", child).stdout == "one two"


def test_a_failed_parent_holds_its_child_where_that_was_asked(host: Host) -> None:
    host.process("fails", "exit 1")
    parent = host.queue("fails")
    child = host.queue("other", "--after", parent, "--unmet", "hold")
    assert host.wait(parent) == ["failed"]
    row = host.json("show", child)
    assert row["status"] == "held"
    assert row["reason"]["text"] == (
        f"run {parent} was to succeed and is failed; release or cancel it"
    )
    host.ctl("release", child)
    assert host.wait(child) == ["succeeded"]


def test_a_rate_holds_over_a_kill(host: Host) -> None:
    host.process("rated", "true", "--rate", "1/h")
    first, second = host.queue("rated"), host.queue("rated")
    assert host.wait(first) == ["succeeded"]
    host.kill()
    host.start()
    host.ready()
    row = host.json("show", second)
    assert (row["status"], row["reason"]["code"]) == ("queued", "rate")
    host.ctl("set", "rated", "--unset", "limits.rate")
    assert host.wait(second) == ["succeeded"]


def test_one_without_output_for_too_long_is_stopped(host: Host) -> None:
    host.process("quiet", "echo on; exec sleep 600", "--idle-timeout", "1s", "--stop-grace", "1s")
    host.process("chatty", "for i in 1 2 3 4; do echo $i; sleep 0.5; done", "--idle-timeout", "1s")
    quiet, chatty = host.queue("quiet"), host.queue("chatty")
    assert host.wait(quiet, chatty) == ["timed-out", "succeeded"]
    assert host.json("show", quiet)["reason"]["text"] == (
        "attempt 1 gave no output for 1s (idle_timeout)"
    )
