"""A notification as it goes into the core, and what runs that follow from others keep of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jobd.errors import ConflictError


class Chain(NamedTuple):
    """What a run follows from: how many steps there were, and the run that they began with.

    `cause` is the run whose end made it (then `outcome` is how that ended), or in which the
    notification was made; None: neither. `joined`: its parents are over, it only reads them.
    """

    depth: int
    root: int
    cause: int | None = None
    outcome: str = ""
    joined: bool = False


@dataclass(frozen=True, slots=True)
class EmitTopic:
    """Notify a topic: each job that listens gets a run with the payload, all in one batch.

    `seen` are the bytes of the payload as far as filters look into them. `chain`: of the run in
    which it is made; its runs are one step further.
    """

    topic: str
    #: bytes, or core/commands.Body, which this module cannot know
    payload: Any = b""
    labels: Mapping[str, str] = field(default_factory=dict)
    seen: bytes = b""
    request: bytes | None = None
    chain: Chain | None = None


class Emitted(NamedTuple):
    """The answer: `(run, job)` of what was queued, `(job, why)` of what was not, and the jobs that
    the caller sees and may not queue: those were not meant."""

    runs: list[tuple[int, str]]
    refused: list[tuple[str, str]]
    forbidden: list[str]


def check_depth(chain: Chain, most: int) -> None:
    """Raises ConflictError where a chain of runs has become too long to be meant."""
    if chain.depth > most:
        raise ConflictError(
            f"the chain that began with run {chain.root} is cut after {most} steps (maxima.chain)"
        )


def chain_of(options: Mapping[str, Any] | None, run: int) -> Chain:
    """What a run with these options follows from; one of which nothing is said begins a chain."""
    kept = (options or {}).get("chain")
    return Chain(*kept) if kept else Chain(0, run)


def retried(options: Mapping[str, Any] | None, run: int) -> dict[str, Any]:
    """What the retry of a run keeps of what that followed from, as arguments of QueueRun: a
    gathering waits for one of its chain, and one that gathered reads the same results."""
    if not options or not options.get("chain"):
        return {}
    chain = chain_of(options, run)
    pairs = options.get("after") or () if chain.joined else ()
    return {"chain": chain, "after": tuple((parent, how) for parent, how in pairs)}
