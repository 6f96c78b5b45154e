"""What every line stands on: a folder of its own, processes ended by pid, CPU and syncs counted."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")
#: when the last so many syncs ended is kept beside their count
SYNCS_KEPT = 500
#: counts the syncs of whoever it is loaded into, and of their children, in a file that is mapped
_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
static long *count;
__attribute__((constructor)) static void begin(void) {
    char *path = getenv("BENCH_SYNCS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) count = mapped;
}
static int done(int result) {
    if (count) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        long number = __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
        count[1 + number % 500] = now.tv_sec * 1000000000L + now.tv_nsec;
    }
    return result;
}
int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return done(real(fd));
}
int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return done(real(fd));
}
"""


class Missing(Exception):
    """Something that a line needs is not on this machine; the sentence says what."""


class Rig:
    """A folder below /var/tmp (a disk, where /tmp may be memory), and what runs in it."""

    def __init__(self, peers: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jobd-bench-", dir="/var/tmp"))
        self.folder.chmod(0o755)
        #: the virtual environment that the peers' own libraries are in
        self.peers = peers
        self._closers: list[Callable[[], object]] = []
        self._shim = self._compiled()

    def close(self) -> None:
        """End all that was started, the last first, and remove the folder."""
        for closer in reversed(self._closers):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                closer()
        self._closers.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def later(self, closer: Callable[[], object]) -> None:
        """Have `closer` called at the end."""
        self._closers.append(closer)

    def program(self, name: str) -> str:
        """The path of a program. Raises Missing."""
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:{self.peers / 'bin'}")
        if found is None:
            raise Missing(f"{name} is not installed")
        return found

    def start(
        self, words: Sequence[str], env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a program; it is ended at the end. Its words go to a file beside it."""
        log = open(self.folder / f"{Path(words[0]).name}.log", "ab")  # noqa: SIM115
        options.setdefault("stdout", log)
        process = subprocess.Popen(
            words,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stderr=log,
            **options,
        )
        log.close()
        self.later(lambda: end(process))
        return process

    def counting(self, name: str) -> tuple[dict[str, str], Callable[[], int | None]]:
        """What a server's environment needs so that its syncs are counted, and the count so far."""
        if self._shim is None:
            return {}, lambda: None
        path = self.folder / f"{name}.syncs"
        path.write_bytes(bytes(4096))
        path.chmod(0o666)
        with path.open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), 4096)
        env = {"LD_PRELOAD": str(self._shim), "BENCH_SYNCS": str(path)}
        return env, lambda: int.from_bytes(mapped[:8], "little")

    def sync_ends(self, name: str) -> list[float]:
        """When the last syncs that are counted under a name ended, in seconds UTC, oldest first."""
        data = (self.folder / f"{name}.syncs").read_bytes()
        words = struct.unpack(f"<{1 + SYNCS_KEPT}q", data[: 8 * (1 + SYNCS_KEPT)])
        return sorted(each / 1e9 for each in words[1:] if each)

    def _compiled(self) -> Path | None:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            return None
        source, made = self.folder / "syncs.c", self.folder / "syncs.so"
        source.write_text(_SHIM)
        done = subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", "-o", made, source, "-ldl"], capture_output=True
        )
        return made if done.returncode == 0 else None


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def wait_for(ready: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait until `ready` says so without an OSError. Raises Missing."""
    until = time.monotonic() + seconds
    while True:
        try:
            if ready():
                return
        except OSError:
            pass
        if time.monotonic() > until:
            raise Missing(f"{what} does not answer")
        time.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """The CPU that a process has taken, its threads included."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS


def memory(pid: int) -> int:
    """Bytes of memory that a process has resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def load(order: Mapping[str, Any]) -> dict[str, Any]:
    """Let a process of its own make the load (load.py). Raises Missing where it fails."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "contrib")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", json.dumps(order)],
        env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if done.returncode != 0:
        raise Missing(f"load failed: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rounds(count: int, seconds: float) -> Iterator[int]:
    """Up to `count` rounds; on a busy machine fewer, as many as begin within `seconds`."""
    until = time.monotonic() + seconds
    for number in range(count):
        if number and time.monotonic() > until:
            return
        yield number


def median(values: Iterable[float | None]) -> float | None:
    """The median of what was measured; None where nothing was."""
    kept = [value for value in values if value is not None]
    return statistics.median(kept) if kept else None


@contextlib.contextmanager
def rig(peers: Path) -> Iterator[Rig]:
    """A rig that is taken apart whatever happens."""
    made = Rig(peers)
    try:
        yield made
    finally:
        made.close()
