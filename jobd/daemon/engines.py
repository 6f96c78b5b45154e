"""The daemon's engines side by side: made, reached and watched each by itself.

What keeps one kind of attempts from starting says nothing about the other: a container engine out
of reach holds up no process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobd.core.model import Reason
from jobd.core.policy import Rules
from jobd.core.states import Kind
from jobd.daemon.config import Config
from jobd.daemon.engine_watch import EngineWatch
from jobd.daemon.noticing import NoticingEngine
from jobd.engine import sockets
from jobd.engine.base import Engine, Found
from jobd.engine.process import ProcessEngine
from jobd.engine.sides import Absent, Sides

_NO_CONTAINERS = "this jobd runs no containers: it was started with --engine process"


def make_sides(config: Config, store: bytes, state: Path, rules: Callable[[], Rules]) -> Sides:
    """The engines that the configuration names; nothing is asked of them yet.

    `rules` are asked anew for each attempt: what the host allows now.
    """
    processes = ProcessEngine(state / "process", state / "work", store, config.process)
    containers = make_containers(config, store, rules, state / "engine.socket")
    return Sides(containers, processes)


def make_containers(
    config: Config, store: bytes, rules: Callable[[], Rules], memory: Path | None = None
) -> Engine:
    """The engine for containers alone; nothing is asked of it yet.

    `memory` is the file that keeps which of several sockets was chosen.
    """
    if config.engine == "process":
        return Absent(_NO_CONTAINERS)
    if config.engine == "fake":
        from jobd.engine.fake import FakeEngine

        return FakeEngine()
    # here, not above: the SDK takes 28 MB and a quarter of a second that others need not
    from jobd.engine.docker import DockerEngine

    return DockerEngine(
        config.engine_socket or sockets.find(config.engine, os.environ, os.geteuid(), memory),
        store,
        docker_config=config.docker_config,
        rules=rules,
        request_s=config.engine_request / 1000,
        start_s=config.engine_start / 1000,
        share_none=config.share_none,
    )


class Engines:
    """A watch over each engine that there is. `report` is called with what keeps runs of a kind
    from starting (None: nothing), `reconcile` with what an engine has, `returned` when the one for
    containers answers again."""

    def __init__(
        self,
        sides: Sides,
        config: Config,
        report: Callable[[Kind, Reason | None], None],
        reconcile: Callable[[Kind, list[Found]], None],
        fatal: Callable[[BaseException], None],
        returned: Callable[[], None],
    ) -> None:
        self.sides = sides
        #: the same for those who drive attempts: where one has no answer, claims stop at once
        self.noticed = sides
        self._process = config.process
        self._report = report
        self._watches: dict[Kind, EngineWatch] = {}
        if not isinstance(sides.containers, Absent):
            self._watches[Kind.CONTAINER] = EngineWatch(
                sides.containers,
                config.engine,
                lambda reason: report(Kind.CONTAINER, reason),
                lambda found: reconcile(Kind.CONTAINER, found),
                fatal,
                returned=returned,
                # an engine that is not spoken to by a socket has no such attribute
                listens=getattr(sides.containers, "listens", None),
            )
            away = self._watches[Kind.CONTAINER].away
            self.noticed = replace(sides, containers=NoticingEngine(sides.containers, away))
        if not isinstance(config.process, str):
            self._watches[Kind.PROCESS] = EngineWatch(
                sides.processes,
                "process",
                lambda reason: report(Kind.PROCESS, reason),
                lambda found: reconcile(Kind.PROCESS, found),
                fatal,
                trouble="attempts cannot be started",
            )

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of attempts that there is an engine for."""
        return frozenset(self._watches)

    def start(self) -> None:
        """Begin to look at them; where there is none of a kind its runs wait, and are told why."""
        for kind in Kind:
            watch = self._watches.get(kind)
            if watch is not None:
                watch.start()
            else:
                why = self._process if kind is Kind.PROCESS else _NO_CONTAINERS
                self._report(kind, Reason("engine", str(why)))

    def tell(self, kind: Kind, strangers: Sequence[str]) -> None:
        """What of an engine's attempts a person should look at by hand: `status` shows it."""
        watch = self._watches.get(kind)
        if watch is not None:
            watch.strangers = tuple(strangers)

    def close(self) -> None:
        """End the watches."""
        for watch in self._watches.values():
            watch.close()

    def row(self) -> dict[str, Any]:
        """The engine as `status` shows it: the one for containers, where there is one."""
        watch = self._watches.get(Kind.CONTAINER) or self._watches.get(Kind.PROCESS)
        if watch is not None:
            return watch.row()
        why = self._process if isinstance(self._process, str) else None
        return {"name": "none", "version": None, "reachable": False, "error": why, "notes": []}

    def process_row(self) -> dict[str, Any]:
        """Whether jobs can be processes of the host, and as whom they run."""
        watch = self._watches.get(Kind.PROCESS)
        if watch is None or isinstance(self._process, str):
            return {"enabled": False, "user": None, "reachable": False, "error": self._process}
        row = watch.row()
        return {
            "enabled": True,
            "user": self._process.name,
            "reachable": row["reachable"],
            "error": row["error"],
            "notes": row["notes"],
        }
