"""A disk that is really full (fault matrix, rows 16 to 19): nothing that was promised is lost."""

from __future__ import annotations

import pytest

from jobctl.client import Client
from jobd.errors import RefusedError
from tests.faults.conftest import MakeDaemon, MakeDisk
from tests.support.process_daemon import ProcessDaemon
from tests.support.waiting import until

MB = 1 << 20
#: waits for the test's word, then says much, and last something that is known
TALKS = (
    "while [ ! -e $SAID/go ]; do sleep 0.05; done; "
    'i=0; while [ $i -lt 400 ]; do echo "line $i of what it said before it ended"; i=$((i+1)); '
    "done; echo the very last words; exit 3"
)


def client(daemon: ProcessDaemon) -> Client:
    return Client(home=str(daemon.home), request_timeout=20)


def fill_queue(daemon: ProcessDaemon, job: str) -> RefusedError:
    """Queue until the smallest payload is refused; the last refusal."""
    refused: RefusedError | None = None
    with client(daemon) as one:
        # larger ones are files of their own
        for size, count in ((4000, 100), (4000, 1), (1, 1)):
            for _ in range(2000):
                try:
                    one.queue(job, b"x" * size, count=count)
                except RefusedError as error:
                    refused = error
                    break
    assert refused is not None, "the disk is not full"
    return refused


def is_taken(daemon: ProcessDaemon, job: str) -> bool:
    with client(daemon) as one:
        try:
            one.queue(job, b"again")
        except RefusedError:
            return False
        return True


def begin(daemon: ProcessDaemon) -> dict[str, int]:
    """Runs in every state, by name."""
    daemon.start()
    daemon.ready()
    daemon.register("talks", TALKS)
    daemon.register("hangs", "sleep 1000")
    daemon.register("waits", "true")
    # thousands of its runs fill the queue: they are never started
    daemon.register("fills", "true")
    with client(daemon) as one:
        one.pause("fills")
        one.pause("waits")
        ids = {job: one.queue(job)["runs"][0]["id"] for job in ("talks", "hangs", "waits")}
        ids["other"] = one.queue("waits")["runs"][0]["id"]
    for name in ("talks", "hangs"):
        until(lambda name=name: daemon.status(ids[name]) == "running")
    return ids


@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_a_full_disk_refuses_new_things_and_loses_nothing(
    make_disk: MakeDisk, make_daemon: MakeDaemon, kind: str
) -> None:
    disk = make_disk(kind, 48 * MB)
    # a tenth of so small a disk may not be free even where the queue has room; not the matter here
    daemon = make_daemon(disk.path / "h", "[admission]", 'disk_free = "off"')
    ids = begin(daemon)
    pid = daemon.pid_now
    disk.fill()
    refused = fill_queue(daemon, "fills")
    assert str(daemon.home / "state") in str(refused)
    assert "bytes are missing" in str(refused)
    assert daemon.ctl("queue", "fills", check=False).returncode == 75
    with client(daemon) as one, pytest.raises(RefusedError, match=r"state/bodies is full: [0-9]+ "):
        one.queue("fills", b"x" * 100_000)

    # what was taken on ends as it should, and people can put an end to it
    daemon.ctl("cancel", str(ids["hangs"]))
    daemon.ctl("cancel", str(ids["other"]))
    daemon.ctl("drain")
    (daemon.said / "go").touch()
    until(lambda: daemon.status(ids["talks"]) == "failed")
    until(lambda: daemon.status(ids["hangs"]) == "cancelled")
    found = daemon.json("show", str(ids["talks"]))
    assert found["attempts"][0]["exit_code"] == 3
    assert daemon.ctl("logs", str(ids["talks"])).stdout.endswith("the very last words\n")
    daemon.ctl("undrain")

    disk.empty()
    until(lambda: is_taken(daemon, "fills"))
    daemon.ctl("resume", "waits")
    until(lambda: daemon.status(ids["waits"]) == "succeeded")
    assert daemon.pid_now == pid, "it was the same daemon all the time"
    assert daemon.terminate() == 0
    daemon.start()
    daemon.ready()
    assert daemon.status(ids["talks"]) == "failed"
    assert daemon.status(ids["other"]) == "cancelled"
    assert daemon.ctl("logs", str(ids["talks"])).stdout.endswith("the very last words\n")


@pytest.mark.parametrize(
    ("kind", "how"), [("ext4", "killed"), ("ext4", "stopped"), ("tmpfs", "stopped")]
)
def test_a_full_disk_at_the_start(
    make_disk: MakeDisk, make_daemon: MakeDaemon, kind: str, how: str
) -> None:
    # so large that the filler is what fills it: a segment and the reserve take 80 MiB
    disk = make_disk(kind, 160 * MB)
    # a tenth of so small a disk is not free even where the queue has room enough; not the matter
    daemon = make_daemon(disk.path / "h", "[admission]", 'disk_free = "off"')
    ids = begin(daemon)
    if how == "killed":
        daemon.kill()
    else:
        assert daemon.terminate() == 0
    disk.fill()
    daemon.start()
    daemon.ready()
    if how == "stopped":
        assert not (daemon.home / "state" / "reserve").exists(), "it was given back for this"
    # what a kill left reserved was given back: somebody else takes it
    disk.fill()
    daemon.ctl("drain")
    daemon.ctl("cancel", str(ids["other"]))
    daemon.ctl("cancel", str(ids["hangs"]))
    (daemon.said / "go").touch()
    until(lambda: daemon.status(ids["talks"]) == "failed")
    until(lambda: daemon.status(ids["hangs"]) == "cancelled")
    assert daemon.ctl("logs", str(ids["talks"])).stdout.endswith("the very last words\n")
    fill_queue(daemon, "fills")
    last = daemon.json("show", "last:fills")["id"]
    daemon.ctl("cancel", str(last))
    disk.empty()
    daemon.ctl("undrain")
    daemon.ctl("resume", "waits")
    until(lambda: daemon.status(ids["waits"]) == "succeeded")
    until(lambda: is_taken(daemon, "fills"))
    assert daemon.status(last) == "cancelled"
    assert daemon.terminate() == 0


def test_a_disk_that_the_queue_itself_has_filled(
    make_disk: MakeDisk, make_daemon: MakeDaemon
) -> None:
    """What waits can be cancelled in the last bytes, and that gives space back by itself."""
    disk = make_disk("ext4", 48 * MB)
    daemon = make_daemon(disk.path / "h", "[admission]", 'disk_free = "off"')
    ids = begin(daemon)
    fill_queue(daemon, "fills")
    daemon.ctl("cancel", str(ids["hangs"]))
    until(lambda: daemon.status(ids["hangs"]) == "cancelled")
    daemon.ctl("cancel", "--job", "fills")
    until(lambda: is_taken(daemon, "fills"))
    daemon.ctl("resume", "waits")
    until(lambda: daemon.status(ids["waits"]) == "succeeded")
    assert daemon.terminate() == 0


@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_no_inode_is_left(make_disk: MakeDisk, make_daemon: MakeDaemon, kind: str) -> None:
    disk = make_disk(kind, 256 * MB, 300)
    daemon = make_daemon(disk.path / "h")
    ids = begin(daemon)
    disk.use_up_inodes()
    # the queue's own files are there; an attempt needs some of its own, and waits for them
    daemon.ctl("resume", "waits")
    until(lambda: "disk" in str(daemon.json("show", str(ids["waits"]))["reason"]))
    (daemon.said / "go").touch()
    until(lambda: daemon.status(ids["talks"]) == "failed")
    daemon.ctl("cancel", str(ids["hangs"]))
    until(lambda: daemon.status(ids["hangs"]) == "cancelled")
    disk.empty()
    until(lambda: daemon.status(ids["waits"]) == "succeeded")
    assert daemon.terminate() == 0


def test_a_full_log_folder_costs_output_alone(make_disk: MakeDisk, make_daemon: MakeDaemon) -> None:
    logs = make_disk("ext4", 2 * MB)
    home = logs.path.parent / "h"
    daemon = make_daemon(home)
    (home / "log").symlink_to(logs.path)
    daemon.start()
    daemon.ready()
    daemon.register("floods", "seq 1 400000; echo the very last words; exit 4")
    with client(daemon) as one:
        run = one.queue("floods")["runs"][0]["id"]
    until(lambda: daemon.status(run) == "failed")
    attempt = daemon.json("show", str(run))["attempts"][0]
    assert (attempt["exit_code"], attempt["log_truncated"]) == (4, True)
    assert daemon.ctl("logs", str(run)).stdout.endswith("the very last words\n")
    assert daemon.terminate() == 0
