"""A daemon that is started in milliseconds: forked from a process that has loaded all of it.

It is the whole daemon in a process of its own and dies of SIGKILL as any other; only python's own
start (0.3 s of two cores) is not paid 200 times.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.harness import ENVIRONMENT, Daemon

_SERVE = """
import os, sys
from jobd.daemon import assembly, cli
pid = 0
for line in sys.stdin:
    word, _, rest = line.strip().partition(" ")
    if word == "start":
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = 70
            try:
                code = cli.main(rest.split(" "))
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)
    else:
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class ForkedDaemon(Daemon):
    """As :class:`Daemon`, started by a fork. `home` without blanks."""

    def __init__(self, home: Path, engine: str) -> None:
        super().__init__(home, engine)
        self._pid = 0
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(self.log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )

    def _ask(self, words: str) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(words + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def start(self) -> None:
        """Fork it; it may not be ready yet."""
        assert not self._pid, "runs already"
        self._pid = self._ask(f"start run --home {self.home} --engine {self.kind}")

    @property
    def pid_now(self) -> int:
        """Of the process that runs; 0 where none does."""
        return self._pid

    def alive(self) -> bool:
        """True while it runs."""
        try:
            state = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state != "Z"

    def kill(self) -> None:
        """SIGKILL. Fails where it had ended by itself."""
        assert self.alive(), f"jobd ended by itself:\n{self.last_words()}"
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        os.kill(self._pid, how)
        self._pid = 0
        return self._ask("wait")

    def close(self) -> None:
        """End it, and the process that it was forked from."""
        if self._pid:
            self._end(signal.SIGKILL)
        with self._server:
            assert self._server.stdin is not None
            self._server.stdin.close()
