"""Images, stdin and output files as a user of jobctl meets them: a whole jobd, a real engine."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import PATIENCE, Daemon
from tests.support.registry import (
    free_port,
    image_with,
    push,
    registry_at,
    write_credentials,
)

SMALL = ("--network", "none", "--memory", "32M", "--cpus", "0.1")


@pytest.fixture(scope="module")
def daemon(url: str) -> Iterator[Daemon]:
    """One daemon for all tests of this file; its credentials are in HOME/docker."""
    folder = Path(tempfile.mkdtemp(prefix="ji", dir="/var/tmp"))
    made = Daemon(folder / "h", url)
    (folder / "h" / "docker").mkdir()
    with (folder / "h" / "jobd.toml").open("a") as config:
        config.write('\n[maxima]\noutput = "1M"\n')
    made.start()
    made.ready()
    yield made
    if made.alive():
        made.terminate()
    made.close()
    shutil.rmtree(folder)


def context(folder: Path, dockerfile: str) -> Path:
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "file").write_text("from the context\n")
    (folder / "secret").write_text("not for the image\n")
    (folder / ".dockerignore").write_text("secret\n")
    return folder


def test_an_image_is_built_registered_and_run(daemon: Daemon, sdk: Any, tmp_path: Path) -> None:
    who = uuid.uuid4().hex  # so that no cache of an earlier test knows the step
    folder = context(
        tmp_path,
        "FROM jobd-test:busybox\nARG WHO\nCOPY . /ctx\nRUN echo building for $WHO\n"
        'CMD ["sh", "-c", "cat /ctx/*"]\n',
    )
    build = ("--build", str(folder), "--build-arg", f"WHO={who}", "--build-network", "none")
    done = daemon.ctl("register", "--name", "Built.Job", *SMALL, *build)
    assert f"building for {who}" in done.stderr
    assert done.stdout == "Built.Job: revision 1\n"
    job = daemon.json("show", "Built.Job")
    assert job["image"].startswith("jobd/built-job:")
    assert job["pull"] == "never"
    ran = daemon.ctl("run", "Built.Job")
    assert "from the context" in ran.stdout
    assert "not for the image" not in ran.stdout
    digits = job["image"].rpartition(":")[2]
    attempt = daemon.json("show", "last:Built.Job")["attempts"][0]
    assert attempt["image_id"].startswith(f"sha256:{digits}")
    again = daemon.ctl("register", "--name", "Built.Job", *SMALL, *build)
    assert again.stdout == "Built.Job: revision 1 (nothing has changed)\n"
    sdk.remove_image(job["image"])


def test_a_build_that_fails_registers_nothing(daemon: Daemon, tmp_path: Path) -> None:
    folder = context(tmp_path, "FROM jobd-test:busybox\nRUN echo the reason; exit 3\n")
    words = ("register", "--name", "bad", "--build", str(folder), "--build-network", "none")
    failed = daemon.ctl(*words, check=False)
    assert failed.returncode == 78
    assert "the reason\n" in failed.stderr
    assert "returned a non-zero code: 3" in failed.stderr
    assert daemon.ctl("show", "bad", check=False).returncode == 66
    (folder / "Dockerfile").write_text(f"FROM 127.0.0.1:{free_port()}/absent\n")
    away = daemon.ctl(*words, check=False)
    assert away.returncode == 75
    assert "connection refused" in away.stderr


def test_output_files_are_fetched_by_attempt(daemon: Daemon, tmp_path: Path) -> None:
    script = (
        'cd "$OUTPUT_DIR"; mkdir -p a/b; echo "attempt $ATTEMPT" >a/b/file; ln -s /etc/passwd l; '
        "dd if=/dev/zero of=large bs=1M count=2 2>/dev/null; test $ATTEMPT = 2"
    )
    retry = ("--attempts", "2", "--retry-delay", "0s")
    daemon.ctl("register", "--name", "out", *SMALL, *retry, "jobd-test:busybox", "sh", "-c", script)
    daemon.ctl("run", "out")
    shown = daemon.json("show", "last:out")
    assert [attempt["output_files"] for attempt in shown["attempts"]] == [1, 1]
    assert "1 beyond 1048576 bytes in all" in shown["attempts"][1]["note"]
    said = daemon.json("result", "last:out", "--out", str(tmp_path / "last"))
    assert (said["attempt"], said["files"]) == (2, 1)
    assert (tmp_path / "last" / "a" / "b" / "file").read_text() == "attempt 2\n"
    daemon.ctl("result", "last:out", "--attempt", "1", "--out", str(tmp_path / "first"))
    assert (tmp_path / "first" / "a" / "b" / "file").read_text() == "attempt 1\n"
    assert sorted(path.name for path in (tmp_path / "last").iterdir()) == ["a"]
    assert daemon.ctl("result", "last:out", "--out", str(tmp_path), check=False).returncode == 2
    quiet = ("register", "--name", "quiet", *SMALL, "jobd-test:busybox", "true")
    daemon.ctl(*quiet)
    daemon.ctl("run", "quiet")
    none = daemon.ctl("result", "last:quiet", "--out", str(tmp_path / "none"), check=False)
    assert none.returncode == 66
    assert not (tmp_path / "none").exists()


def test_a_payload_on_stdin_that_a_kill_cuts_short_is_read_whole_by_the_next(
    daemon: Daemon, tmp_path: Path
) -> None:
    payload = tmp_path / "payload"
    payload.write_bytes(b"x" * (4 << 20))
    retry = ("--attempts", "2", "--retry-delay", "0s")
    script = "test $ATTEMPT = 2 || sleep 60; wc -c"
    words = ("--name", "stdin", "--stdin", "payload", *SMALL, *retry)
    daemon.ctl("register", *words, "jobd-test:busybox", "sh", "-c", script)
    run = daemon.ctl("queue", "stdin", "-f", str(payload)).stdout.strip()
    daemon.ctl("wait", run, "--for", "running")
    daemon.kill()
    daemon.start()
    daemon.ready()
    daemon.ctl("wait", run)
    first, second = daemon.json("show", run)["attempts"]
    assert (first["outcome"], second["outcome"]) == ("interrupted", "succeeded")
    assert "standard input broke off" in first["error"]
    assert daemon.ctl("logs", run).stdout == "4194304\n"


def ends(daemon: Daemon, job: str) -> dict[str, Any]:
    daemon.ctl("run", job, check=False)
    shown: dict[str, Any] = daemon.json("show", f"last:{job}")
    return shown


def test_registries_with_and_without_credentials(daemon: Daemon, sdk: Any, tmp_path: Path) -> None:
    port = free_port()
    reference = f"127.0.0.1:{port}/job:1"
    image = image_with(sdk, b"credentials")
    with registry_at(tmp_path, port):
        push(sdk, reference, image)
    for name, what in (("private", reference), ("absent", f"127.0.0.1:{port}/job:2")):
        daemon.ctl("register", "--name", name, *SMALL, what, "true")
    # nobody answers: the host's fault, which is told and waited for
    run = daemon.ctl("queue", "private").stdout.strip()
    give_up = time.monotonic() + PATIENCE
    while "waiting for the registry" not in str(daemon.json("show", run)["reason"]):
        assert time.monotonic() < give_up
        time.sleep(0.1)
    with registry_at(tmp_path, port, auth=True):
        daemon.ctl("wait", run, check=False)
        denied = daemon.json("show", run)
        assert (denied["status"], denied["exit_code"]) == ("failed", None)
        assert "no basic auth credentials" in denied["attempts"][0]["error"]
        write_credentials(daemon.home / "docker", port, "right")
        pulled = ends(daemon, "private")
        assert pulled["status"] == "succeeded"
        assert pulled["attempts"][0]["pull_ms"] > 0
        unknown = ends(daemon, "absent")
        assert unknown["status"] == "failed"
        assert "no such image" in unknown["attempts"][0]["error"]
    sdk.remove_image(reference)


def test_a_cancel_does_not_wait_for_a_registry_that_says_nothing(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        image = f"127.0.0.1:{silent.getsockname()[1]}/nobody:1"
        daemon.ctl("register", "--name", "Stuck.Job", *SMALL, image)
        run = daemon.ctl("queue", "Stuck.Job").stdout.split()[-1]
        silent.settimeout(PATIENCE)
        with silent.accept()[0]:
            # the engine asks the registry and hears nothing; it would wait for many seconds
            daemon.ctl("cancel", run)
            daemon.ctl("wait", run, "--timeout", "10", check=False)
            assert daemon.json("show", run)["status"] == "cancelled"
