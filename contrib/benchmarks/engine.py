"""A private Docker engine with the image of the tests, and containers as jobd makes them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.rig import ROOT, Missing, Rig

IMAGE = "jobd-test:busybox"


class Engine:
    """One engine, started by contrib/engine."""

    def __init__(self, rig: Rig) -> None:
        # containerd's sockets need a short path
        self.folder = tempfile.mkdtemp(prefix="jb", dir="/var/tmp")
        program = str(ROOT / "contrib/engine")
        rig.later(lambda: subprocess.run([program, "stop", self.folder], capture_output=True))
        for verb in ("start", "image"):
            done = subprocess.run([program, verb, self.folder], capture_output=True, text=True)
            if done.returncode != 0:
                raise Missing(f"no engine: {done.stderr.strip()[-200:]}")
        self.url = f"unix://{self.folder}/docker.sock"
        self.config = f'[engine]\nsocket = "{self.url}"\n[allow]\nnetworks = ["none", "host"]\n'


def holder(engine: Engine) -> str:
    """The container whose network namespace others share, as share_none does it."""
    return subprocess.check_output(
        ["docker", "-H", engine.url, "run", "-d", "--network", "none", IMAGE, "sleep", "100000"],
        text=True,
    ).strip()


def settings(
    command: list[str], network: str, task: Path, log_bytes: int = 1 << 20
) -> dict[str, Any]:
    """A create request that says what jobd's say (jobd/engine/container.py)."""
    sys.path.insert(0, str(ROOT))
    from jobd.engine.base import Order
    from jobd.engine.container import Settings, body

    shared = network.startswith("container:")
    order = Order(
        ref="bench", labels={"bench": "1"}, run=1, attempt=1, job="bench", image=IMAGE,
        image_id=None, pull="never", command=tuple(command), env={"RUN_ID": "1"}, user=None,
        network="none" if shared else network, mounts=(), cpus=1.0, memory=64 << 20, pids=64,
        stop_signal="SIGTERM", task_dir=task, log_bytes=log_bytes,
    )  # fmt: skip
    made: dict[str, Any] = dict(body(order, IMAGE, Settings()))
    if shared:
        made["HostConfig"]["NetworkMode"] = network
    return made


def run_one(client: Any, made: dict[str, Any]) -> None:
    """What any program over the `docker` package does for one run, from create to remove."""
    found = client.create_container_from_config(made, None)["Id"]
    client.start(found)
    client.wait(found)
    client.logs(found, timestamps=True)
    client.remove_container(found, v=True)


def bare_loop(engine: Engine, made: dict[str, Any], count: int, concurrency: int) -> float:
    """Seconds that `count` runs take in a loop of threads, each with a client of its own."""
    import docker

    left = iter(range(count))
    lock = threading.Lock()
    failed: list[Exception] = []

    def work() -> None:
        with contextlib.closing(docker.APIClient(base_url=engine.url, timeout=60)) as client:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                try:
                    run_one(client, made)
                except docker.errors.DockerException as error:
                    failed.append(error)
                    return

    threads = [threading.Thread(target=work) for _ in range(concurrency)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise Missing(f"bare loop: {failed[0]}")
    return time.perf_counter() - began


def xargs(engine: Engine, network: str, count: int, concurrency: int) -> float:
    """Seconds that `count` runs take by `xargs -P docker run --rm`."""
    command = ["xargs", "-P", str(concurrency), "-I{}", "docker", "-H", engine.url, "run", "--rm",
               "--network", network, IMAGE, "true"]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(command, input="\n".join(map(str, range(count))), text=True,
                          capture_output=True, timeout=300)  # fmt: skip
    if done.returncode != 0:
        raise Missing(f"xargs: {done.stderr.strip()[-200:]}")
    return time.perf_counter() - began
