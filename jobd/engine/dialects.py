"""How the engines that speak Docker's API differ, as far as jobd meets it. Pure.

What Podman does differently was seen on 4.3.1, Debian 12's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobd.engine.base import Phase
from jobd.engine.container import Settings

_PHASES = {
    "created": Phase.CREATED,
    "running": Phase.RUNNING,
    "paused": Phase.RUNNING,
    "restarting": Phase.RUNNING,
    "exited": Phase.EXITED,
    "stopped": Phase.EXITED,
    "dead": Phase.EXITED,
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of engine."""

    name: str
    settings: Settings
    #: whether the log's headers come with its first line, however long that takes
    late_headers: bool
    #: whether containers go on when what answers requests ends
    outlives: bool
    #: exit statuses behind which the init may hide that it could not execute the command
    init_failed: frozenset[int]
    #: whether an end is told before its last words are to be had
    late_words: bool
    #: whether the engine never says that memory ran out: a peak at the limit has to tell
    silent_oom: bool


def is_podman(version: Mapping[str, Any]) -> bool:
    """Whether that answered which says so when asked for its version."""
    parts = version.get("Components") or [{}]
    return str(parts[0].get("Name", "")).startswith("Podman")


DOCKER = Dialect(
    "docker",
    Settings(),
    late_headers=False,
    outlives=False,
    init_failed=frozenset({126, 127}),
    late_words=False,
    silent_oom=False,
)


def podman(files: int | None, processes: int | None) -> Dialect:
    """The dialect of a Podman that may itself have so many files open and processes; None: any.

    Told nothing, it asks for 1048576 of each, which one without CAP_SYS_RESOURCE may not have.
    """
    limits = () if not files or not processes else (("nofile", files), ("nproc", processes))
    # `json-file` is its word for k8s-file, which keeps every byte; it has no `local`
    settings = Settings(log_driver="json-file", limits=limits, local_prefix="localhost/")
    return Dialect(
        "podman",
        settings,
        late_headers=True,
        outlives=True,
        init_failed=frozenset({1}),
        late_words=True,
        silent_oom=True,
    )


def notes(dialect: Dialect, info: Mapping[str, Any], parents: bool, url: str) -> tuple[str, ...]:
    """What a person should know of this engine."""
    found = []
    if not url.startswith("unix:"):
        found.append(
            f"the engine at {url} is spoken to over the network: attempts' folders (payload, "
            "config, result, out) are mounted from the engine's own host, so only an engine on "
            "this host can start any; usage is not read"
        )
    if not dialect.outlives and not info.get("LiveRestoreEnabled"):
        found.append("live-restore is off: running attempts are killed when the engine stops")
    for key, limit in (("MemoryLimit", "memory"), ("CpuCfsQuota", "CPU"), ("PidsLimit", "process")):
        if info.get(key) is False:
            found.append(f"this host cannot limit an attempt's {limit}: limits are not enforced")
    if not parents:
        found.append("peak memory is sampled once a second: no cgroup of jobd's own to read it in")
    if any("rootless" in str(option) for option in info.get("SecurityOptions") or ()):
        found.append("the engine is rootless: low ports and some limits are not to be had")
    return tuple(found)


def phase(status: str) -> Phase:
    """Where a container is, by its status."""
    # `removing`, and words of engines to come
    return _PHASES.get(status, Phase.UNCLEAR)
