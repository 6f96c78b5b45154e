"""The configuration that is in force, and how another one takes its place: whole, or not at all.

Owned by the core loop's thread, but for :meth:`InForce.read_anew`, which hands over to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from jobd.core.commands import SetGroups
from jobd.core.groups import groups_mapping
from jobd.core.jobfile import JobFile
from jobd.daemon.config import Config
from jobd.daemon.core_loop import SYSTEM, CoreLoop
from jobd.daemon.kernel import DaemonKernel
from jobd.daemon.reloading import apply_command, not_taken, refusal, told
from jobd.daemon.sdnotify import notify
from jobd.daemon.settings import Settings
from jobd.errors import JobdError, RefusedError

_log = logging.getLogger(__name__)

#: what a job file's registration takes of the queue's disk beside what it says, in bytes
_JOB_ROOM = 8 << 10


class InForce:
    """What is in force. `take` is called with each configuration that was taken, for the parts
    beside the loop; `say` is told of it in one line."""

    def __init__(
        self,
        config: Config,
        loop: CoreLoop,
        kernel: DaemonKernel,
        take: Callable[[Config], None],
        *,
        serving: str,
        say: Callable[[str], None],
    ) -> None:
        self._config = config
        self._loop = loop
        self._kernel = kernel
        self._take_beside = take
        self._serving = serving
        self._say = say

    def start(self, jobs: Sequence[JobFile]) -> None:
        """Take the groups, and register what the job files say, durably. Without room on the disk
        the daemon starts all the same, as what is queued has to go on (DURABILITY W4)."""
        self._take_groups(self._config)
        self._loop.ledger.gates.thresholds = self._config.thresholds
        try:
            self._apply(jobs)
        except RefusedError as error:
            self._refuse(refusal(error))
        self._loop.commit()

    def read_anew(self, found: Settings | JobdError) -> None:
        """Another configuration was read, or could not be. Safe in any thread."""

        def take() -> None:
            try:
                if isinstance(found, JobdError):
                    raise found
                text = self._take(found)
            except JobdError as error:
                self._refuse(refusal(error))
                return
            self._kernel.configuration = {"loaded_at": self._loop.now.wall, "problems": []}
            notify("READY=1", f"STATUS={self._serving}")
            self._say(f"jobd: configuration reloaded; {text}")

        self._loop.post(take)

    def _take(self, settings: Settings) -> str:
        """Put a configuration into force. Raises JobdError, and then the old one stays."""
        loop, config, before = self._loop, settings.config, self._loop.rules
        # whether jobs may be processes is their engine's to allow, which a start alone can change
        loop.rules = replace(
            config.rules, no_processes=before.no_processes, process_user=before.process_user
        )
        # before the jobs, which are held against them
        self._take_groups(config)
        try:
            text = self._apply(settings.jobs)
        except JobdError:
            loop.rules = before
            self._take_groups(self._config)
            raise
        loop.ledger.host = config.host
        loop.ledger.pace = config.pace
        loop.ledger.gates.thresholds = config.thresholds
        loop.state.dirty = True
        self._take_beside(config)
        for name in not_taken(self._config, config):
            _log.warning("jobd.toml: %s has changed: it is taken at the next start", name)
        self._config = config
        return text

    def _take_groups(self, config: Config) -> None:
        self._loop.decide(SetGroups(groups_mapping(config.groups)), SYSTEM)

    def _apply(self, jobs: Sequence[JobFile]) -> str:
        """Register what the job files say; what was done, in one clause."""
        command = apply_command(jobs)
        rows = self._loop.decide(replace(command, dry_run=True), SYSTEM)
        if any(row["action"] not in ("unchanged", "kept") for row in rows):
            filled = len(repr(self._loop.rules.defaults)) + _JOB_ROOM
            self._kernel.require_room(sum(len(repr(job.spec)) + filled for job in jobs))
            rows = self._loop.decide(command, SYSTEM)
        text, kept = told(rows)
        for line in kept:
            _log.warning("%s", line)
        return text

    def _refuse(self, problems: list[str]) -> None:
        for line in problems:
            _log.error("reload: %s", line)
        _log.error("reload: refused, the configuration of before stays")
        self._kernel.configuration = {**self._kernel.configuration, "problems": problems[:20]}
        notify("READY=1", f"STATUS=reload refused: {problems[0]}")
