"""What is shown of runs that follow from others, and of jobs that listen."""

from __future__ import annotations

from typing import Any

from jobd.core.entities import Job, Run
from jobd.core.topics import chain_of
from jobd.server.kernel import Kernel


def trigger_row(run: Run) -> dict[str, Any]:
    """What made a run: beside INTERFACE's keys the run that it follows from, and how far."""
    made_by = run.option("made_by")
    name, at = run.option("source") or (str(made_by[0]) if made_by else None, None)
    row = {"kind": run.origin[0], "name": name, "scheduled_at": at}
    chain = chain_of(run.options, run.id)
    # of one that was queued from inside the name says it
    if chain.cause is not None and (made_by is None or run.origin[0] == "topic"):
        row.update(run=chain.cause, outcome=chain.outcome or None, depth=chain.depth)
        row["root"] = chain.root
    return row


def reactions_row(kernel: Kernel, job: Job) -> dict[str, Any]:
    """What a job that listens waits for, and the last run that it was to get and did not."""
    reactions = kernel.state.reactions
    refusal = reactions.refused.get(job.id)
    joins = []
    for key, root, join in reactions.joins_of(job.id):
        missing = [name for name in key.split("+") if name not in join.reached]
        there = {name: run for name, (run, _) in join.reached.items()}
        row = {"root": root, "since_at": join.since, "reached": there, "missing": missing}
        joins.append(row)
    return {
        "refused": None if refusal is None else refusal._asdict(),
        "joins": joins,
    }
