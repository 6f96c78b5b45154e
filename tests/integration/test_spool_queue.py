"""`jobctl queue --spool`: while jobd is down the request is a file, and a run once it is back."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from jobctl import spooling
from tests.support.dropped import Folder
from tests.support.fakehost import FakeHost
from tests.support.processes import open_folder
from tests.support.waiting import until


@pytest.fixture(scope="module")
def host() -> Iterator[FakeHost]:
    with open_folder() as path:
        one = FakeHost(path / "h").start()
        yield one
        one.end()


@pytest.fixture
def folder(host: FakeHost) -> Iterator[Folder]:
    """A job, whose daemon is down until the test ends."""
    with host.client() as client:
        made = Folder(host, client, access={"override": ["priority", "env", "args", "timeout"]})
        client.pause(made.name)
        yield made


def test_it_is_queued_when_jobd_is_back(host: FakeHost, folder: Folder) -> None:
    host.end()
    said = host.ctl(
        *("queue", folder.name, "-p", "über", "--spool", "--priority", "3", "--in", "1h"),
        *("--label", "a=b'\"\\ü", "--env", "X=1 2"),
        *("--timeout", "5m", "--key", "k", "--", "arg", "--more"),
    )
    assert (said.status, said.out) == (0, "")
    assert "jobd is down: dropped as " in said.err
    assert "it is queued when jobd is there again" in said.err
    assert len(folder.names()) == 2
    host.start()
    run = until(folder.runs)[0]
    assert folder.client.payload(run["id"]) == "über".encode()
    assert (run["priority"], run["labels"], run["key"]) == (3, {"a": "b'\"\\ü"}, "k")
    assert (run["status"], run["timeout_ms"]) == ("delayed", 300_000)
    assert folder.names() == set()


def test_with_jobd_up_it_is_queued_as_ever(host: FakeHost, folder: Folder) -> None:
    said = host.ctl("queue", folder.name, "-p", "x", "--spool")
    assert (said.status, said.err) == (0, "")
    assert [run["id"] for run in folder.runs()] == [int(said.out)]


def test_the_environment_may_want_it(
    host: FakeHost, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.end()
    assert host.ctl("queue", folder.name, "-p", "x").status == 69
    monkeypatch.setenv("JOBCTL_SPOOL", "1")
    said = host.ctl("queue", folder.name, "-p", "x", "--json")
    (path,) = said.json["spooled"]
    assert (said.status, said.json["runs"]) == (0, [])
    assert os.path.dirname(path) == str(folder.path)
    # who waits for the end has to be told that there is none
    assert host.ctl("queue", folder.name, "-p", "x", "--wait").status == 69
    host.start()
    assert until(folder.runs)


def test_the_same_again_is_the_same_run(host: FakeHost, folder: Folder) -> None:
    key = os.urandom(16).hex()
    one = host.ctl("queue", folder.name, "-p", "x", "--spool", "--request-key", key)
    host.end()
    for _ in range(2):
        assert (
            host.ctl("queue", folder.name, "-p", "x", "--spool", "--request-key", key).status == 0
        )
    assert host.ctl("queue", folder.name, "-p", "last", "--spool").status == 0
    host.start()
    runs = until(lambda: len(folder.runs()) == 2 and not folder.claimed() and folder.runs())
    assert runs[0]["id"] == int(one.out)
    assert folder.names() == set()


def test_many_at_once(host: FakeHost, folder: Folder) -> None:
    host.end()
    said = host.ctl("queue", folder.name, "--each-line", "-", "--spool", stdin=b"a\n\nb\nc\n")
    assert "dropped as 3 files" in said.err
    assert host.ctl("queue", folder.name, "--count", "2", "-p", "n", "--spool").status == 0
    host.start()
    runs = until(lambda: len(folder.runs()) == 5 and folder.runs())
    assert sorted(folder.client.payload(run["id"]) for run in runs) == [
        b"a",
        b"b",
        b"c",
        b"n",
        b"n",
    ]


def test_a_long_payload_comes_from_stdin(host: FakeHost, folder: Folder) -> None:
    host.end()
    data = os.urandom(3 << 20)
    assert host.ctl("queue", folder.name, "-f", "-", "--spool", stdin=data).status == 0
    host.start()
    run = until(folder.runs)[0]["id"]
    assert folder.client.payload(run) == data


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["no-such-job"], 69, "is job no-such-job registered?"),
        (["{job}", "--latest", "--key", "k"], 2, "--spool goes with none of"),
        (["{job}", "--wait"], 2, "--spool goes with none of"),
        (["{job}", "--key", "k", "--debounce", "5s"], 2, "--debounce cannot be dropped"),
    ],
)
def test_what_cannot_be_dropped(
    host: FakeHost, folder: Folder, words: list[str], status: int, text: str
) -> None:
    host.end()
    said = host.ctl("queue", *(word.format(job=folder.name) for word in words), "--spool")
    host.start()
    assert said.status == status
    assert text in said.err
    assert folder.names() == set()


def test_where_the_folders_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spooling.folder_for("/srv/h/run/jobd.sock", "j") == "/srv/h/spool/j"
    assert spooling.folder_for("/run/jobd/jobd.sock", "j") == "/var/spool/jobd/j"
    monkeypatch.setenv("XDG_STATE_HOME", "/home/ann/state")
    personal = "/run/user/1000/jobd/jobd.sock"
    assert spooling.folder_for(personal, "j") == "/home/ann/state/jobd/spool/j"
