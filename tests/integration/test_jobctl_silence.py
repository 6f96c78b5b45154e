"""What jobctl says and does when the daemon is dead, hung, starting, or goes away meanwhile."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from jobctl.client import Client
from jobctl.steps import drive
from jobd.errors import OutcomeUnknownError, UnreachableError, VersionError
from jobd.wire import envelope
from tests.support.scripted import Part, Raw, Scripted

ROOT = Path(__file__).resolve().parent.parent.parent
NO_RUNS = [Part({"runs": []}), {"count": 0, "more": False}]


def jobctl(
    *words: str | Path, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """`jobctl WORDS`, as it is typed."""
    return subprocess.run(
        [sys.executable, "-m", "jobctl", *map(str, words)],
        input=stdin,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        timeout=60,
        check=False,
    )


def test_no_daemon_is_told_at_once_with_how_to_start_it(tmp_path: Path) -> None:
    done = jobctl("ls", "--home", tmp_path)
    assert done.returncode == 69
    assert b"not running: no socket at" in done.stderr
    assert f"jobd run --home {tmp_path}".encode() in done.stderr
    assert done.stdout == b""


def test_a_socket_that_was_left_over_is_no_daemon(tmp_path: Path) -> None:
    with Scripted(tmp_path):
        pass
    done = jobctl("status", "--home", tmp_path, "--json")
    assert done.returncode == 69
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "unreachable"
    assert "nobody listens" in error["message"]
    assert done.stderr == b""


#: says it once as root, so that all is loaded: nobody else can read a clone below /root
AS_NOBODY = """
import os, sys
from jobctl.cli import main
assert main(["--socket", "/nonexistent/jobd.sock", "ls"]) == 69
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody else")
def test_a_socket_that_is_not_ours_to_use(tmp_path: Path) -> None:
    path = tmp_path / "jobd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o600)
        for folder in (tmp_path, *tmp_path.parents):
            if folder.owner() == "root" and not folder.stat().st_mode & 0o001:
                folder.chmod(0o711)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, "--socket", str(path), "ls"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 77, done.stderr
    assert b"permission denied" in done.stderr


def test_a_hung_loop_is_told_from_a_dead_daemon(tmp_path: Path) -> None:
    health = {"pid": 811, "phase": "running", "loop_age_ms": 2900, "doing": "syncing"}
    with Scripted(tmp_path, health=health) as peer:
        peer.on("run.list", [])
        done = jobctl("ls", "--home", tmp_path, "--request-timeout", "3s")
    assert done.returncode == 69
    said = done.stderr.decode().splitlines()
    assert "jobd (pid 811) is running and has not answered for" in said[0]
    assert "has been syncing the queue for 2.9 s" in said[0]
    assert len(said) == 2


def test_a_stopped_process_is_told_by_its_state(tmp_path: Path) -> None:
    """The whole process sleeps, its health thread too: the kernel still knows the pid."""
    script = (
        "import sys, time; from pathlib import Path; from tests.support.scripted import Scripted\n"
        "peer = Scripted(Path(sys.argv[1])); peer.start(); print('up', flush=True)\n"
        "sys.stdin.read(); peer.stop()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGSTOP)
        done = jobctl("status", "--home", tmp_path, "--request-timeout", "1")
    finally:
        process.send_signal(signal.SIGCONT)
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
    assert done.returncode == 69
    assert f"(pid {process.pid})".encode() in done.stderr
    assert b"was stopped by a signal" in done.stderr


def test_starting_is_waited_for(tmp_path: Path) -> None:
    notes: list[str] = []
    peer = Scripted(tmp_path, health={"pid": 5, "phase": "starting", "loop_age_ms": 0})
    peer.on("run.list", NO_RUNS)
    peer.start(router=False)
    try:
        timer = threading.Timer(0.5, peer.start)
        timer.start()
        with Client(home=str(tmp_path), note=notes.append) as client:
            assert client.runs() == []
        timer.join()
    finally:
        peer.stop()
    assert len(notes) == 1
    assert "is starting: it reads the queue; waiting" in notes[0]


def test_starting_for_too_long_is_an_error(tmp_path: Path) -> None:
    peer = Scripted(tmp_path, health={"pid": 5, "phase": "starting", "loop_age_ms": 0})
    peer.start(router=False)
    try:
        with (
            Client(home=str(tmp_path), request_timeout=0.3) as client,
            pytest.raises(UnreachableError, match="still reads the queue"),
        ):
            client.runs()
    finally:
        peer.stop()


def killed_by(peer: Scripted, *, back: float | None) -> Any:
    """An answer to a request: the daemon dies instead, and is back after `back` seconds."""

    def answer(arguments: dict[str, Any]) -> list[Any]:
        def act() -> None:
            peer.stop()
            if back is not None:
                time.sleep(back)
                peer.start()

        peer.killer = threading.Thread(target=act)  # type: ignore[attr-defined]
        peer.killer.start()  # type: ignore[attr-defined]
        return []

    return answer


@pytest.mark.parametrize("health", [True, False])
def test_a_lost_reply_is_asked_for_again_with_the_same_key(tmp_path: Path, health: bool) -> None:
    with Scripted(tmp_path, health=health) as peer:
        dies = killed_by(peer, back=0.5)
        peer.on(
            "run.queue",
            lambda a: dies(a) if len(peer.asked) == 1 else [{"runs": [[7, False]], "warnings": []}],
        )
        with Client(home=str(tmp_path)) as client:
            assert client.queue("j", b"x")["runs"] == [{"id": 7, "existing": False}]
        peer.killer.join()  # type: ignore[attr-defined]
        assert len(peer.asked) == 2
        assert peer.asked[0] == peer.asked[1]


def test_a_daemon_that_stays_away_leaves_an_unknown_outcome_and_its_key(tmp_path: Path) -> None:
    peer = Scripted(tmp_path)
    peer.on("run.queue", killed_by(peer, back=None))
    peer.start()
    with Client(home=str(tmp_path)) as client, pytest.raises(OutcomeUnknownError) as caught:
        client.queue("j", b"x")
    peer.killer.join()  # type: ignore[attr-defined]
    key = peer.asked[0][2]
    assert key is not None
    assert f"--request-key {key.hex()}" in str(caught.value)
    # as the message says: the same command with the key asks again
    peer.on("run.queue", [{"runs": [[7, False]], "warnings": []}])
    peer.start()
    try:
        done = jobctl("queue", "j", "-p", "x", "--home", tmp_path, "--request-key", key.hex())
    finally:
        peer.stop()
    assert (done.returncode, done.stdout) == (0, b"7\n")
    assert peer.asked[1] == peer.asked[0]


def test_a_hung_daemon_leaves_an_unknown_outcome(tmp_path: Path) -> None:
    with Scripted(tmp_path) as peer:
        peer.on("job.pause", [])
        done = jobctl("pause", "j", "--home", tmp_path, "--json", "--request-timeout", "500ms")
    assert done.returncode == 69
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "outcome-unknown"
    assert error["details"]["request_key"] in error["message"]


def test_a_question_to_a_daemon_that_dies_is_unreachable(tmp_path: Path) -> None:
    peer = Scripted(tmp_path)
    peer.on("run.list", killed_by(peer, back=None))
    peer.start()
    with Client(home=str(tmp_path)) as client, pytest.raises(UnreachableError, match="stopped"):
        client.runs()
    peer.killer.join()  # type: ignore[attr-defined]


PEER = """
import os, sys
from pathlib import Path
from tests.support.scripted import Scripted
peer = Scripted(Path(sys.argv[1]))
if sys.argv[2] == "dies":
    peer.on("run.queue", lambda a: os._exit(9))
else:
    peer.on("run.queue", [{"runs": [[7, False]], "warnings": []}])
peer.start()
print("up", flush=True)
sys.stdin.read()
peer.stop()
"""


def test_a_restart_quicker_than_the_watch_is_noticed_by_the_pid(tmp_path: Path) -> None:
    def peer(how: str) -> subprocess.Popen[bytes]:
        started = subprocess.Popen(
            [sys.executable, "-c", PEER, str(tmp_path), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert started.stdout is not None
        assert started.stdout.readline() == b"up\n"
        return started

    # both are up before; the second has taken the paths over when the first dies with the request
    first = peer("dies")
    with Client(home=str(tmp_path)) as client:
        drive(client._channel._open())  # connected to the first
        client._channel._socket.poll(50)  # type: ignore[union-attr]
        second = peer("answers")
        try:
            assert client.queue("j")["runs"] == [{"id": 7, "existing": False}]
        finally:
            second.communicate(b"", timeout=10)
            first.communicate(b"", timeout=10)
    assert first.returncode == 9


def test_half_a_list_is_not_given_twice(tmp_path: Path) -> None:
    with Scripted(tmp_path) as peer:
        dies = killed_by(peer, back=0.6)
        peer.on("run.list", lambda a: [Part({"runs": [{"id": 1}]}), *dies(a)])
        with Client(home=str(tmp_path)) as client, pytest.raises(UnreachableError):
            client.runs()
        peer.killer.join()  # type: ignore[attr-defined]
        assert len(peer.asked) == 1


def test_a_long_wait_goes_on_when_the_daemon_is_back(tmp_path: Path) -> None:
    notes: list[str] = []
    ended = {"ready": True, "single": True, "runs": [{"id": 7, "status": "succeeded"}]}
    with Scripted(tmp_path) as peer:
        dies = killed_by(peer, back=1.0)
        peer.on("run.wait", lambda a: dies(a) if len(peer.asked) == 1 else [ended])
        with Client(home=str(tmp_path), note=notes.append) as client:
            assert client.wait(7)["status"] == "succeeded"
        peer.killer.join()  # type: ignore[attr-defined]
    assert notes == ["jobd stopped; waiting for it to come back (30 s)", "jobd is back"]


def test_another_protocol_is_told_from_both_sides(tmp_path: Path) -> None:
    with Scripted(tmp_path) as peer:
        peer.on("ping", [VersionError("this jobd speaks 2: install the same version", request=1)])
        done = jobctl("version", "--home", tmp_path)
        assert done.returncode == 76
        peer.on("run.list", [Raw(envelope.pack_shared([9, 1, 0, {}]))])
        done = jobctl("ls", "--home", tmp_path)
    assert done.returncode == 76
    assert b"protocol version 9" in done.stderr


def test_a_path_too_long_for_a_socket_address_is_reached_by_its_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    with Scripted(tmp_path) as peer:
        peer.on("run.list", NO_RUNS)
        deep.parent.mkdir()
        deep.symlink_to(peer.path.parent)
        done = jobctl("ls", "--socket", deep / "jobd.sock", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_the_order_in_which_the_socket_is_looked_for(tmp_path: Path) -> None:
    for name in ("flag", "home", "personal/jobd"):
        (tmp_path / name).mkdir(parents=True)
    personal = {"XDG_RUNTIME_DIR": str(tmp_path / "personal")}

    def looked_at(*words: str, **environment: str) -> str:
        message = json.loads(jobctl("ls", "--json", *words, **environment).stdout)["error"]
        return str(message["message"])

    assert " /run/jobd/jobd.sock;" in looked_at(**personal)
    (tmp_path / "personal/jobd/jobd.sock").touch()
    assert f"{tmp_path}/personal/jobd/jobd.sock;" in looked_at(**personal)
    both = {**personal, "JOBCTL_HOME": str(tmp_path / "home")}
    assert f"{tmp_path}/home/run/jobd.sock;" in looked_at(**both)
    every = {**both, "JOBCTL_SOCKET": str(tmp_path / "socket")}
    assert f"{tmp_path}/socket;" in looked_at(**every)
    assert f"{tmp_path}/flag/run/jobd.sock;" in looked_at("--home", str(tmp_path / "flag"), **every)
    done = jobctl("ls", "--home", "a", "--socket", "b")
    assert done.returncode == 2
