"""What a run does from inside of its attempt, as its author meets it: jobctl by JOBD_SOCKET, files.

The attempts are processes that run as nobody. Whoever asks by an attempt's socket is that run: here
it is root who asks, which by the daemon's own socket may do everything.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobctl.client import Client
from jobd.errors import ConflictError, ForbiddenError, NotFoundError, UnreachableError
from tests.support.harness import ENVIRONMENT, JOBCTL
from tests.support.process_daemon import ProcessDaemon
from tests.support.processes import open_folder
from tests.support.waiting import until

#: runs until the test says that it may end
WAITS = 'while [ ! -e "$SAID/end.$RUN_ID" ]; do sleep 0.05; done\n'
#: seconds until a test gives up on something that has to come
PATIENCE = 60.0


class Host(ProcessDaemon):
    """A daemon with jobs: `parent` may queue `child` and `parent`, `other` is nobody's to queue."""

    def begin(self) -> Host:
        self.start()
        self.ready()
        self.register("child", 'cat "$PAYLOAD_FILE" >>"$SAID/words"')
        self.register("other", "true")
        self.register("parent", WAITS, api={"queue": ["child", "parent"], "children": 200})
        return self

    def client(self) -> Client:
        return Client(home=str(self.home))

    def parent(self, job: str = "parent") -> int:
        """A run of it that runs."""
        with self.client() as client:
            run: int = client.queue(job)["runs"][0]["id"]
            client.wait(run, until="running")
        return run

    def socket(self, run: int) -> str:
        return str(self.home / f"state/work/{run}.1/api/jobd.sock")

    def task(self, run: int) -> Path:
        return self.home / f"state/work/{run}.1/job"

    def inside(self, run: int) -> Client:
        """Whoever asks by the socket of the run's attempt."""
        return Client(socket=self.socket(run))

    def end(self, run: int) -> None:
        (self.said / f"end.{run}").touch()
        with self.client() as client:
            client.wait(run)

    def show(self, run: int) -> dict[str, Any]:
        with self.client() as client:
            row: dict[str, Any] = client.show(run)
            return row


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with open_folder() as folder:
        made = Host(folder / "h").begin()
        yield made
        made.end_attempts()
        made.close()


@pytest.fixture
def run(host: Host) -> Iterator[int]:
    number = host.parent()
    yield number
    host.end(number)


def jobctl(socket: str, *words: str) -> tuple[int, str, str]:
    """jobctl as it is in an attempt: nothing but the variable says where jobd is."""
    done = subprocess.run(
        [*JOBCTL, *words],
        env={**ENVIRONMENT, "JOBD_SOCKET": socket},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout, done.stderr


def test_jobctl_inside_of_an_attempt(host: Host, run: int) -> None:
    ask = host.socket(run)
    status, out, _ = jobctl(ask, "queue", "child", "-p", "by jobctl\n")
    assert status == 0
    child = int(out)
    assert jobctl(ask, "wait", str(child))[0] == 0
    assert host.words()["by jobctl"] == 1
    assert jobctl(ask, "progress", "40", "page", "17")[0] == 0
    assert host.show(run)["progress"] == {"percent": 40, "message": "page 17"}
    assert "40 % page 17" in host.ctl("ls", str(run)).stdout
    row = host.show(child)
    assert row["trigger"] == {"kind": "api", "name": str(run), "scheduled_at": None}
    assert row["made_by"] == run
    assert row["submitted_by"]["principal"] == f"run:{run}"
    assert host.show(run)["children"] == [child]
    listed = json.loads(jobctl(ask, "ls", "-o", "json")[1])
    assert [each["id"] for each in listed] == [run, child]
    assert jobctl(ask, "progress", "101")[0] == 2
    for words in (["drain"], ["status"], ["queue", "other"], ["queue", "nosuch"]):
        status, _, said = jobctl(ask, *words)
        assert status == 77, words
        assert f"run {run}" in said
    status, _, said = jobctl(host.socket(10**6), "queue", "child")
    assert status == 69
    assert "gone once that has ended" in said


REFUSED: dict[str, Callable[[Client], object]] = {
    "jobs": lambda c: c.jobs(),
    "job": lambda c: c.job("child"),
    "register": lambda c: c.register({"name": "x", "image": "i"}),
    "set": lambda c: c.set("parent", {"api": {"queue": ["*"]}}),
    "apply": lambda c: c.apply([{"name": "x", "image": "i"}]),
    "unregister": lambda c: c.unregister("other"),
    "pause": lambda c: c.pause("child"),
    "cancel": lambda c: c.cancel("last"),
    "cancel a job's": lambda c: c.cancel(job="child"),
    "retry": lambda c: c.retry("last"),
    "hold": lambda c: c.hold("last"),
    "edit": lambda c: c.edit("last", priority=5),
    "next": lambda c: c.next("last"),
    "drain": lambda c: c.drain(),
    "snapshot": lambda c: c.snapshot(),
    "doctor": lambda c: c.doctor(),
    "events": lambda c: list(c.events()),
    "schedule": lambda c: c.add_schedule("child", {"name": "s", "every": "1h"}),
    "schedules": lambda c: c.schedules(),
    "priority": lambda c: c.queue("child", priority=5),
    "env": lambda c: c.queue("child", env={"A": "b"}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_root_in_an_attempt_is_no_administrator(host: Host, run: int, what: str) -> None:
    assert os.getuid() == 0
    with host.inside(run) as inside:
        inside.queue("child")
        assert inside.ping()["user"]["admin"] is False
        with pytest.raises(ForbiddenError):
            REFUSED[what](inside)


def test_what_is_anothers_is_not_there(host: Host, run: int) -> None:
    second = host.parent()
    try:
        with host.inside(run) as one, host.inside(second) as two:
            mine = one.queue("child", b"mine\n")["runs"][0]["id"]
            theirs = two.queue("child", b"theirs\n")["runs"][0]["id"]
            one.wait(mine)
            assert one.payload(mine) == b"mine\n"
            assert [each["id"] for each in one.show(f"{run}-{theirs}")] == [run, mine]
            assert {each["id"] for each in one.runs(everything=True)} == {run, mine}
            assert one.show("last")["id"] == mine
            looks: tuple[Callable[[Client, int], object], ...] = (
                lambda c, n: c.show(n),
                lambda c, n: c.payload(n),
                lambda c, n: c.result(n),
                lambda c, n: c.wait(n),
                lambda c, n: c.why(n),
                lambda c, n: list(c.logs(n)),
                lambda c, n: c.queue("child", after=[n]),
            )
            for look in looks:
                for number in (theirs, second):
                    with pytest.raises(NotFoundError):
                        look(one, number)
            for job in ("other", "nosuch"):
                with pytest.raises(NotFoundError):
                    one.runs(job=job)
    finally:
        host.end(second)


def test_from_outside_nobody_says_how_far_it_is(host: Host) -> None:
    with host.client() as client, pytest.raises(ConflictError, match="from inside"):
        client.progress(5)


def test_a_shell_alone(host: Host) -> None:
    """No jobctl, no library: a line in one file, and a file for each run."""
    script = (
        'cd "$TASK_DIR"; echo "10 begun" >progress\n'
        "echo one >queue/child/1; echo two >queue/child/.2; mv queue/child/.2 queue/child/2\n"
        + WAITS
        + "ln -s /etc/passwd queue/child/link; mkfifo queue/child/pipe; echo x >queue/other\n"
        "truncate -s 100G queue/child/huge; mkdir queue/nosuch; echo x >queue/nosuch/1\n"
        'echo no >queue/child/kept.tmp; echo three >queue/child/3; echo "90 ending" >progress\n'
    )
    host.register("shell", script, api={"queue": ["child", "gone"]})
    run = host.parent("shell")
    until(lambda: host.words()["one"] and host.words()["two"])
    assert host.show(run)["progress"] == {"percent": 10, "message": "begun"}
    host.end(run)
    until(lambda: host.words()["three"])
    row = host.show(run)
    assert row["progress"] == {"percent": 90, "message": "ending"}
    assert row["finished_at"] is not None
    assert len(row["children"]) == 3
    assert {host.show(child)["made_by"] for child in row["children"]} == {run}
    log = host.ctl("logs", str(run)).stderr
    for said in (
        "queue/child/link: is no regular file",
        "queue/child/pipe: is no regular file",
        "queue/other: is no folder of a job",
        "queue/child/huge: not queued: 107374182400 bytes: 16777216 at most",
        "queue/nosuch/1: not queued: run",
    ):
        assert said in log
    assert host.words()["no"] == 0


def test_large_payloads_both_ways(host: Host, run: int) -> None:
    with host.inside(run) as inside:
        inside.queue("child", b"large socket\n" * 100_000)
    (host.task(run) / "queue/child/large").write_bytes(b"large file\n" * 100_000)
    until(lambda: host.words()["large file"] == 100_000)
    until(lambda: host.words()["large socket"] == 100_000)


def test_so_many_children_and_no_more(host: Host) -> None:
    host.register("few", WAITS, api={"queue": ["child"], "children": 2})
    run = host.parent("few")
    with host.inside(run) as inside:
        with pytest.raises(ConflictError, match="2 at most"):
            inside.queue("child", count=3)
        inside.queue("child", count=2)
        with pytest.raises(ConflictError):
            inside.queue("child")
    (host.task(run) / "queue/child/more").write_text("too many\n")
    host.end(run)
    assert "not queued: run" in host.ctl("logs", str(run)).stderr
    assert len(host.show(run)["children"]) == 2


def test_it_is_heard_again_after_jobd_was_killed(host: Host, run: int) -> None:
    with host.inside(run) as inside:
        inside.queue("child", b"before\n")
        inside.progress(20)
        host.kill()
        (host.task(run) / "queue/child/down").write_text("down\n")
        (host.task(run) / "progress").write_text("60 by file\n")
        host.start()
        host.ready()
        until(lambda: Path(host.socket(run)).exists())
        inside.queue("child", b"after\n")
    until(lambda: host.words()["down"])
    until(lambda: (host.show(run)["progress"] or {}).get("percent") == 60)
    words = host.words()
    assert [words[word] for word in ("before", "down", "after")] == [1, 1, 1]


def test_a_file_that_a_crash_has_left_makes_no_second_run(host: Host, run: int) -> None:
    """As if jobd had died when the run was on disk, and the file not yet let go of."""
    (host.task(run) / "queue/child/one").write_text("left\n")
    until(lambda: host.words()["left"])
    (child,) = host.show(run)["children"]
    key = host.show(child)["key"]
    host.kill()
    left = host.task(run).parent / "taken" / f"{key.partition('/')[2]}.child"
    left.write_text("left\n")
    host.start()
    host.ready()
    until(lambda: not left.exists())
    assert host.show(run)["children"] == [child]
    assert host.words()["left"] == 1


def test_its_socket_is_gone_with_it(host: Host) -> None:
    run = host.parent()
    with host.inside(run) as inside:
        inside.ping()
        host.end(run)
        with pytest.raises(UnreachableError):
            inside.ping()
    until(lambda: not host.task(run).parent.exists())


def test_each_file_is_one_run_however_often_jobd_is_killed(host: Host) -> None:
    script = (
        'cd "$TASK_DIR/queue/child"; n=0; while [ $n -lt 120 ]; do n=$((n+1)); '
        'echo "k$n" >.$n; mv .$n $n; sleep 0.03; done\n' + WAITS
    )
    host.register("busy", script, api={"queue": ["child"]})
    run = host.parent("busy")
    for pause in (0.7, 0.9, 0.6, 0.8, 0.65):
        time.sleep(pause)
        host.kill()
        host.start()
        host.ready()
    host.end(run)
    rows = [row for row in host.settled() if row["made_by"] == run]
    words = host.words()
    assert [words[f"k{n}"] for n in range(1, 121)] == [1] * 120
    assert len(rows) == 120
