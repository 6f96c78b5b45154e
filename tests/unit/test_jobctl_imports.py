"""The hot path imports little (ARCHITECTURE, "The tree"): sets of modules, not milliseconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scripted import Part, Scripted

ROOT = Path(__file__).resolve().parent.parent.parent

#: what must not be there: each of these costs more than the whole of our own code
HEAVY = frozenset(
    {"dataclasses", "asyncio", "logging", "subprocess", "importlib.metadata", "shutil", "socket"}
    | {"tempfile", "inspect", "difflib", "traceback", "docker", "psutil", "urllib", "email"}
)

SCRIPT = """
import sys
from jobctl.cli import main
status = main(sys.argv[1:])
sys.stdout.flush()
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(status)
"""


def modules(*words: str) -> tuple[int, set[str]]:
    """The exit status of `jobctl WORDS` and what it had imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    return done.returncode, set(done.stderr.decode().splitlines()[-1].split())


RUN = {"id": 7, "job": "j", "status": "succeeded", "queued_at": 1, "attempts": []}
LOG = {
    "run": 7,
    "status": "succeeded",
    "attempt": 1,
    "attempts": 1,
    "offset": 0,
    "data": b"",
    "end": True,
    "progress": "",
}


@pytest.mark.parametrize(
    ("words", "noun"),
    [
        ("queue j -p x", "run"),
        ("ls", "run"),
        ("show 7", "run"),
        ("logs 7", "transfer"),
        ("wait 7", "run"),
        ("status", "host"),
    ],
)
def test_the_hot_path_imports_nothing_heavy(tmp_path: Path, words: str, noun: str) -> None:
    with Scripted(tmp_path) as peer:
        peer.on("run.queue", [{"runs": [[7, False]], "warnings": []}])
        peer.on("run.list", [Part({"runs": [RUN]}), {"count": 1, "more": False}])
        peer.on("run.show", [Part({"runs": [RUN]}), {"count": 1, "single": True}])
        peer.on("run.wait", [{"ready": True, "runs": [RUN], "single": True}])
        peer.on("log.read", [LOG])
        peer.on("status", [{"version": "1", "engine": {}, "capacity": {}, "counts": {}}])
        status, loaded = modules("--home", str(tmp_path), *words.split())
    assert status == 0
    assert "zmq" in loaded
    assert not loaded & HEAVY
    ours = {name for name in loaded if name.split(".")[0] == "jobd"}
    # of the verbs those of one noun, however many nouns there are
    assert ours == {
        "jobd",
        "jobd.wire",
        "jobd.wire.envelope",
        "jobd.wire.verb",
        f"jobd.wire.{noun}verbs",
        "jobd.codec",
        "jobd.errors",
    }


@pytest.mark.parametrize("words", ["queue j --in 3x", "ls --bogus", "frobnicate", "logs 1-2"])
def test_wrong_arguments_are_told_before_zeromq_is_imported(words: str) -> None:
    status, loaded = modules(*words.split())
    assert status == 2
    assert "zmq" not in loaded


def test_one_verb_loads_no_other_verbs_module() -> None:
    _, loaded = modules("jobs", "--help")
    commands = {name for name in loaded if name.startswith("jobctl.commands.")}
    assert commands == {"jobctl.commands.jobs"}
