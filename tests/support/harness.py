"""A whole jobd as its user meets it: started as a process, spoken to by jobctl, killed at will.

Needs a real engine. What a test learns comes from jobctl, or from witnesses that jobd cannot
influence: :class:`Recorder` hears the programs in the containers, :class:`Events` the engine.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import docker

from jobctl.client import Client
from jobd.errors import OutcomeUnknownError, UnreachableError

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGE = "jobd-test:busybox"

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
JOBD = [sys.executable, "-c", "import sys; from jobd.daemon.cli import main; sys.exit(main())"]
JOBCTL = [sys.executable, "-c", "import sys; from jobctl.cli import main; sys.exit(main())"]

#: seconds until a test gives up on something that has to come; never what is measured
PATIENCE = 120.0


class Daemon:
    """One daemon below `home`, over as many processes as a test starts."""

    #: what `--engine` says
    kind = "docker"

    def __init__(self, home: Path, engine: str) -> None:
        self.home = home
        self.log = home.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        home.mkdir(mode=0o700)
        (home / "jobd.toml").write_text(
            f'[engine]\nsocket = "{engine}"\n\n[allow]\nnetworks = ["none", "host"]\n'
        )

    def start(self) -> None:
        """Start the process; it may not be ready yet."""
        assert self._process is None or self._process.poll() is not None, "runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*JOBD, "run", "--home", str(self.home), "--engine", self.kind],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
            )

    def ready(self) -> None:
        """Wait until it answers. Fails with its last words where it ended instead."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with Client(home=str(self.home)) as client:
                    client.ping()
                return
            except (UnreachableError, OutcomeUnknownError):
                assert self.alive(), f"jobd ended by itself:\n{self.last_words()}"
                assert time.monotonic() < deadline, f"jobd is not ready:\n{self.last_words()}"
                time.sleep(0.02)

    def alive(self) -> bool:
        """True while the process that was started last runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, as the out-of-memory killer does. Fails where jobd had ended by itself."""
        assert self._process is not None
        assert self.alive(), f"jobd ended by itself:\n{self.last_words()}"
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """SIGTERM, as systemd does. Fails where it does not end with 0, or had ended by itself."""
        assert self._process is not None
        assert self.alive(), f"jobd ended by itself:\n{self.last_words()}"
        self._process.terminate()
        status = self._process.wait(PATIENCE)
        # the signal itself where it came before python had got as far as the handler
        assert status in (0, -signal.SIGTERM), f"exit status {status}:\n{self.last_words()}"

    def close(self) -> None:
        """End the process whatever state it is in."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def ctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run jobctl. Fails on any exit status but 0 where `check` is set."""
        done = subprocess.run(
            [*JOBCTL, "--home", str(self.home), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=PATIENCE,
        )
        assert not check or done.returncode == 0, (
            f"jobctl {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
            f"\njobd said:\n{self.last_words()}"
        )
        return done

    def json(self, *arguments: str) -> Any:
        """What jobctl prints as JSON."""
        return json.loads(self.ctl("-o", "json", *arguments).stdout)

    def settled(self, what: str = "--all", patience: float = PATIENCE) -> list[dict[str, Any]]:
        """Every run, once none of them is live any more."""
        deadline = time.monotonic() + patience
        while True:
            runs: list[dict[str, Any]] = self.json("ls", what)
            live = [(run["id"], run["status"], run["reason"]) for run in runs if not final(run)]
            if not live:
                return runs
            assert time.monotonic() < deadline, f"still not final: {live}\n{self.last_words()}"
            time.sleep(0.25)


def final(run: dict[str, Any]) -> bool:
    """True when nothing more will happen to the run."""
    return run["finished_at"] is not None and run["status"] not in ("retrying", "queued")


class Recorder:
    """Hears what programs in containers say, each over a connection of its own on loopback.

    `report` is a shell function for the program: it returns only after the word was taken down.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        recorder = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                recorder.words.append(self.rfile.readline().decode().strip())

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        port = self._server.server_address[1]
        self.report = (
            f'report() {{ echo "$RUN_ID $ATTEMPT $1" | nc 127.0.0.1 {port} || exit 99; }}; '
        )

    def counted(self) -> Counter[str]:
        """How often each `RUN ATTEMPT WORD` was heard."""
        return Counter(self.words)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Events:
    """Counts the containers that the engine started, by run and attempt, from its event stream."""

    def __init__(self, engine: str) -> None:
        self._client = docker.APIClient(base_url=engine, version="auto", timeout=PATIENCE)
        self._stream = self._client.events(
            decode=True, filters={"type": "container", "event": "start", "label": "jobd.run"}
        )
        self.started: Counter[tuple[int, int]] = Counter()
        #: the queues whose attempts were seen: the engine may have containers of others
        self._stores: set[str] = set()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        for event in self._stream:
            labels = event["Actor"]["Attributes"]
            self._stores.add(labels["jobd.store"])
            self.started[int(labels["jobd.run"]), int(labels["jobd.attempt"])] += 1

    def containers(self) -> list[str]:
        """Names of the containers that are there, ended ones too, of the queues that were seen."""
        return [
            each["Names"][0].lstrip("/")
            for each in self._client.containers(all=True, filters={"label": "jobd.run"})
            if each["Labels"]["jobd.store"] in self._stores
        ]

    def removed(self) -> None:
        """Wait until no container is left: each goes some time after its run's end."""
        deadline = time.monotonic() + PATIENCE
        while found := self.containers():
            assert time.monotonic() < deadline, f"left behind: {found}"
            time.sleep(0.1)

    def close(self) -> None:
        """Stop listening, and leave no container behind."""
        self._stream.close()
        self._thread.join(10)
        for name in self.containers():
            self._client.remove_container(name, force=True)
        self._client.close()
