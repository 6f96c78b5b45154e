"""A core on which jobs are joined up: runs are let end, and topics notified."""

from __future__ import annotations

from typing import Any

from jobd.core import events as e
from jobd.core.commands import Body, ReportEnded, ReportStarted
from jobd.core.entities import Run
from jobd.core.states import RunState
from jobd.core.topics import EmitTopic
from tests.support.core import ANN, Bench


class Line(Bench):
    """A bench on which jobs are joined up."""

    def on(self, name: str, *entries: dict[str, Any], **settings: Any) -> None:
        self.register(name, on=list(entries), **settings)

    def end(self, run: int, code: int = 0, result: bytes | Body | None = b"") -> list[Run]:
        """Let the run's attempt end; the runs that this made."""
        if self.run(run).state is RunState.WAITING:
            self.claim()
        attempt = self.run(run).attempt
        assert attempt is not None
        self.do(ReportStarted(run, attempt.number, "c", "i", self.now.wall))
        before = self.state.next_run
        self.do(ReportEnded(run, attempt.number, code, self.now.wall, result=result))
        return [self.run(number) for number in range(before, self.state.next_run)]

    def emit(self, topic: str, payload: bytes = b"", **more: Any) -> Any:
        caller = more.pop("caller", ANN)
        return self.do(EmitTopic(topic, payload, seen=payload, **more), caller).answer


def jobs_of(runs: list[Run]) -> list[str]:
    return [run.job.name for run in runs]


def payload_of(bench: Bench, run: Run) -> Any:
    return next(x.payload for x in bench.events if isinstance(x, e.RunQueued) and x.run == run.id)
