"""Which engine's socket is spoken to where nobody named one.

A person's own engine comes before the host's, Docker before Podman, one that may be written to
before one that is only there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

DOCKER = "/var/run/docker.sock"
PODMAN = "/run/podman/podman.sock"


def candidates(kind: str, environ: Mapping[str, str], uid: int) -> list[str]:
    """Paths of sockets to try in turn for `auto`, `docker` or `podman`."""
    own = environ.get("XDG_RUNTIME_DIR", "")
    own = own if uid != 0 and own.startswith("/") else ""
    docker = [f"{own}/docker.sock", DOCKER] if own else [DOCKER]
    podman = [f"{own}/podman/podman.sock", PODMAN] if own else [PODMAN]
    return {"docker": docker, "podman": podman}.get(kind, docker + podman)


def find(kind: str, environ: Mapping[str, str], uid: int, memory: Path | None) -> str | None:
    """The url of the engine's socket, or None where DOCKER_HOST names it.

    The choice among several is kept in the file `memory`, where one is given: an engine that is
    away for a while must not hand its attempts over to another, which knows none of them.
    """
    if environ.get("DOCKER_HOST"):
        return None
    if kind == "podman" and environ.get("CONTAINER_HOST", "").startswith(("unix://", "tcp://")):
        return environ["CONTAINER_HOST"]
    paths = candidates(kind, environ, uid)
    before = None if memory is None else _remembered(memory)
    if before in paths:
        return f"unix://{before}"
    there = [path for path in paths if os.path.exists(path)]
    ours = [path for path in there if os.access(path, os.R_OK | os.W_OK)]
    chosen = next(iter(ours + there), None)
    if chosen is None:
        return f"unix://{paths[0]}"
    if memory is not None:
        _remember(memory, chosen)
    return f"unix://{chosen}"


def _remembered(memory: Path) -> str | None:
    try:
        return memory.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _remember(memory: Path, path: str) -> None:
    try:
        memory.write_text(path + "\n", encoding="utf-8")
    except OSError:
        pass  # found again at the next start; a disk that is full has its own alarm
