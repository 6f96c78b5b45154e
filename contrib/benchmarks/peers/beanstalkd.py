"""beanstalkd with a sync after every put (-f 0)."""

from __future__ import annotations

from benchmarks.peers import Peer
from benchmarks.rig import Rig, wait_for
from benchmarks.wires import loopback


def start(rig: Rig, payload: int, port: int = 18_311) -> Peer:
    """Start one."""
    folder = rig.folder / "beanstalkd"
    folder.mkdir()
    env, syncs = rig.counting("beanstalkd")
    words = ["-l", "127.0.0.1", "-p", str(port), "-b", str(folder), "-f", "0"]
    process = rig.start([rig.program("beanstalkd"), *words], env)
    wait_for(lambda: loopback(port), "beanstalkd")
    arguments = {"port": port, "payload": payload}
    return Peer(
        "beanstalkd -f 0", "one put a request",
        lambda n: {"wire": "Beanstalkd", "arguments": arguments, "clients": n},
        syncs, process.pid,
    )  # fmt: skip
