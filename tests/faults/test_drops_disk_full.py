"""Dropped files on a disk that is really full: they wait, each is one run, each end is told."""

from __future__ import annotations

import os

from jobctl.client import Client
from tests.faults.conftest import MakeDaemon, MakeDisk
from tests.faults.test_disk_full import fill_queue
from tests.support.waiting import until

MB = 1 << 20
FILES = 40


def test_they_wait_for_room(make_disk: MakeDisk, make_daemon: MakeDaemon) -> None:
    # large enough for what the queue takes of it once there is room, the attempts beside it
    disk = make_disk("ext4", 320 * MB)
    daemon = make_daemon(disk.path / "h", "[admission]", 'disk_free = "off"')
    daemon.start()
    daemon.ready()
    daemon.register("copies", 'cp "$PAYLOAD_FILE" "$RESULT_FILE"')
    daemon.register("fills", "true")
    # what an attempt itself could not write is another matter
    daemon.ctl("pause", "copies")
    daemon.ctl("pause", "fills")
    folder, outside = daemon.home / "spool" / "copies", daemon.home / "outside"
    outside.mkdir()
    for number in range(FILES):
        # small ones go into the queue, the others into files of their own
        (outside / f"f{number}").write_bytes(b"%d " % number + b"x" * (number % 2) * 9000)
    # and one that is refused, for which the reason has to be written
    (outside / "link").symlink_to("f0")
    disk.fill()
    fill_queue(daemon, "fills")
    for path in outside.iterdir():
        path.rename(folder / path.name)

    def is_claimed() -> bool:
        own = {"done", "failed", "rejected", ".claimed"}
        return not set(os.listdir(folder)) - own or bool(os.listdir(folder / ".claimed"))

    until(is_claimed)
    # the daemon goes on, and a kill in the middle of it changes nothing
    daemon.kill()
    daemon.start()
    daemon.ready()
    daemon.ctl("cancel", "--job", "fills")
    disk.empty()
    daemon.ctl("resume", "copies")

    def told() -> int:
        found = [*os.listdir(folder / "done"), *os.listdir(folder / "failed")]
        return len([name for name in found if not name.startswith(".")])

    until(lambda: told() == FILES)
    until(lambda: not os.listdir(folder / ".claimed"))
    assert not os.listdir(folder / "failed"), [p.read_text() for p in (folder / "failed").iterdir()]
    assert {os.fsdecode(n).partition(".")[0] for n in os.listdir(folder / "done")} == {
        f"f{number}" for number in range(FILES)
    }
    for name in os.listdir(folder / "done"):
        number = int(name.partition(".")[0].removeprefix("f"))
        assert (folder / "done" / name).read_bytes().startswith(b"%d " % number)
    assert "is a symbolic link" in (folder / "rejected" / "link.reason").read_text()
    with Client(home=str(daemon.home)) as client:
        assert len(client.runs(job="copies", limit=1000)) == FILES
    assert daemon.terminate() == 0
