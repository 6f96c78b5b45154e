"""A damaged archive as people meet it: the run that is hurt is named, all others are as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.test_fsck import jobd
from tests.support.fakehost import SMALL, FakeHost
from tests.support.waiting import until

RUNS, HURT, MARK = 12, 7, "mark-of-the-seventh"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> FakeHost:
    """One whose archive has a byte changed, in the record of run 7; and no index any more."""
    home = tmp_path_factory.mktemp("d") / "home"
    home.mkdir(mode=0o700)
    (home / "jobd.toml").write_text("[history]\nwindow = 0\n")
    one = FakeHost(home).start()
    with one.client() as client:
        client.register({"name": "j", "image": "img", "command": ["print=hi", "result=r"], **SMALL})
        client.pause("j")
        for run in range(1, RUNS + 1):
            client.queue("j", labels={"n": MARK if run == HURT else "other"})
        client.resume("j")
        client.wait(f"1-{RUNS}")
        until(lambda: client.status()["history"]["in_memory"] == 0)
    one.end()
    (file,) = [path for path in archive(home) if MARK.encode() in path.read_bytes()]
    data = bytearray(file.read_bytes())
    data[data.index(MARK.encode())] ^= 0x20
    file.write_bytes(bytes(data))
    return one


def archive(home: Path) -> list[Path]:
    return sorted((home / "state" / "archive").glob("*.arc"))


@pytest.mark.parametrize("indexed", [True, False])
def test_it_is_named_and_the_others_are_as_before(host: FakeHost, indexed: bool) -> None:
    if not indexed:
        for path in (host.home / "state").glob("history.sqlite*"):
            path.unlink()
    before = {path: path.read_bytes() for path in (host.home / "state").rglob("*.*")}
    done = jobd("fsck", "--home", str(host.home), "--json")
    assert done.returncode == 65
    found = json.loads(done.stdout)
    assert (found["sound"], found["starts"], found["archive"]["runs"]) == (False, True, RUNS - 1)
    (row,) = found["archive"]["damaged"]
    assert (row["run"], row["file"]) == (HURT, archive(host.home)[0].name)
    said = jobd("fsck", "--home", str(host.home))
    assert f"damaged: run {HURT}, in archive/{row['file']} at offset {row['offset']}" in said.stdout
    assert "all others are intact" in said.stdout
    mended = jobd("fsck", "--salvage", "--home", str(host.home))
    assert mended.returncode == 0, "of the queue itself nothing is damaged"
    assert f"damaged: run {HURT}" in mended.stdout
    assert {path: path.read_bytes() for path in (host.home / "state").rglob("*.*")} == before
    host.start()
    try:
        with host.client() as client:
            until(lambda: client.status()["history"]["ready"])
        shown = host.ctl("show", str(HURT))
        assert shown.status == 65
        assert f"run {HURT}: is damaged in the archive" in shown.err
        for words in (("retry", str(HURT)), ("show", f"{HURT - 1}-{HURT}"), ("logs", str(HURT))):
            assert host.ctl(*words).status == 65, words
        others = [run for run in range(RUNS, 0, -1) if run != HURT]
        listed = host.ctl("ls", "--all", "-o", "id")
        assert [int(word) for word in listed.out.split()] == others
        assert f"damaged in the archive: run {HURT}" in listed.err
        assert host.json("show", "last")["id"] == RUNS
        events = host.json("events", "--since", "1h")
        assert {event["run"] for event in events if event["run"]} == set(range(1, RUNS + 1))
        assert host.ctl("result", str(HURT + 1)).out == "r"
    finally:
        host.end()


def test_a_file_that_cannot_be_read_at_all_is_named(host: FakeHost) -> None:
    file = archive(host.home)[0]
    data = file.read_bytes()
    try:
        file.write_bytes(bytes(64) + data[64:])
        done = jobd("fsck", "--home", str(host.home))
        assert done.returncode == 65
        assert f"archive file {file}" in done.stdout
    finally:
        file.write_bytes(data)
