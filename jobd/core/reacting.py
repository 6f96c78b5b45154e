"""What follows from the end of a run, and from a notification, for the jobs that listen.

It is decided with the end itself and stands in its batch: so each end makes each of its runs once,
whatever crashes. Every run goes the way of all others (core/queueing.py), in the name of who
registered the listening job where an end made it, and of who notified where a topic did. What a
job's limits refuse is recorded (`ReactionRefused`), and keeps no other job from its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jobd.core import events as e
from jobd.core import inside
from jobd.core.access import Right, may
from jobd.core.commands import Body, Caller, QueueRun
from jobd.core.decision import NOTHING, Decision, caller_fields
from jobd.core.effects import Effect
from jobd.core.entities import Job, Run
from jobd.core.model import Now
from jobd.core.onfilter import LOOKED_INTO
from jobd.core.onrun import OnRun
from jobd.core.ontopic import OnTopic, check_topic
from jobd.core.policy import Rules
from jobd.core.queueing import queue
from jobd.core.reactions import MOST_JOINS
from jobd.core.state import State
from jobd.core.states import DEAD_OUTCOMES
from jobd.core.topics import Chain, Emitted, EmitTopic, chain_of, check_depth
from jobd.errors import JobdError

#: of a refusal's sentence, on record
_LONGEST = 500


class _End(NamedTuple):
    """A run that has ended, with what the next one may get of it."""

    run: Run
    outcome: str
    #: its result, or the file that has it
    result: bytes | Body
    chain: Chain


def follow(
    state: State, events: Sequence[e.Event], now: Now, rules: Rules
) -> tuple[list[e.Event], list[Effect]]:
    """What the ends in `events` (decided, not applied yet) make of the jobs that listen."""
    made: list[e.Event] = []
    effects: list[Effect] = []
    for event in events:
        if type(event) is not e.RunFinished:
            continue
        run = state.runs.get(event.run)
        listening = state.reactions.of_run(run.job.name) if run is not None else []
        if run is None or not listening:
            continue
        end = _ended(run, event, events)
        for job in listening if end is not None else ():
            assert end is not None
            ahead = sum(type(each) is e.RunQueued for each in (*events, *made))
            more = _react(state, job, end, ahead, now, rules)
            made += more.events
            effects += more.effects
    return made, effects


def _ended(run: Run, event: e.RunFinished, events: Iterable[e.Event]) -> _End | None:
    """The run's end, where anything of it has run: what was cancelled, skipped or has expired
    while it waited is no end of any work."""
    last = next((x for x in events if type(x) is e.AttemptEnded and x.run == run.id), None)
    if last is None and (not run.attempts or event.outcome not in DEAD_OUTCOMES):
        return None
    result: bytes | Body = b""
    if last is not None and last.result is not None:
        result = Body(*last.result) if isinstance(last.result, list) else last.result
    return _End(run, event.outcome, result, chain_of(run.options, run.id))


def _react(state: State, job: Job, end: _End, ahead: int, now: Now, rules: Rules) -> Decision:
    """What the end makes of a job that listens: one run at most, by the first entry it fits."""
    name = end.run.job.name
    labels = end.run.option("labels") or {}
    seen = end.result if isinstance(end.result, bytes) else b""
    for entry in job.spec.on:
        if not isinstance(entry, OnRun) or name not in entry.runs or not entry.means(end.outcome):
            continue
        if not entry.filter.passes(labels, seen):
            continue
        if len(entry.runs) > 1:
            return _gather(state, job, entry, end, ahead, now, rules)
        command = _command(job, end, end.result, labels, ahead)
        return _queued(state, job, command, end, now, rules)
    return NOTHING


def _command(
    job: Job, end: _End, payload: bytes | Body, labels: Mapping[str, str], ahead: int
) -> QueueRun:
    uid, user, pid, principal = job.made[job.revision][1]
    chain = Chain(end.chain.depth + 1, end.chain.root, end.run.id, end.outcome)
    return QueueRun(
        job.name,
        [payload],
        "run",
        Caller(uid, user, pid, principal),
        # a chain is found by the labels that it began with
        labels=labels,
        sources=[(end.run.job.name, None)],
        ahead=ahead,
        chain=chain,
    )


def _queued(
    state: State, job: Job, command: QueueRun, end: _End, now: Now, rules: Rules
) -> Decision:
    try:
        assert command.chain is not None
        check_depth(command.chain, rules.max_chain)
        return queue(state, command, now, rules, command.caller)
    except JobdError as error:
        name, text = end.run.job.name, str(error)[:_LONGEST]
        return Decision([e.ReactionRefused(job.id, now.wall, "run", name, end.run.id, text)], [])


# -- several ends that one run waits for --------------------------------------------------------


def _gather(
    state: State, job: Job, entry: OnRun, end: _End, ahead: int, now: Now, rules: Rules
) -> Decision:
    """One of several has ended: the last of them makes the run."""
    root, name = end.chain.root, end.run.job.name
    open_ = state.reactions.joins.get((job.id, entry.key), {})
    join = open_.get(root)
    reached = dict(join.reached) if join is not None else {}
    reached[name] = (end.run.id, end.outcome)
    if len(reached) < len(entry.runs):
        arrived = e.JoinReached(job.id, now.wall, entry.key, root, name, end.run.id, end.outcome)
        return Decision([*_given_up(job, entry, open_, root, now), arrived], [])
    told = {each: {"run": reached[each][0], "outcome": reached[each][1]} for each in entry.runs}
    labels: dict[str, str] = {}
    depth = end.chain.depth
    for number, _ in reached.values():
        run = state.runs.get(number)
        if run is not None:
            labels.update(run.option("labels") or {})
            depth = max(depth, chain_of(run.options, number).depth)
    command = _command(job, end, json.dumps(told).encode(), labels, ahead)
    assert command.chain is not None
    command = command._replace(
        chain=command.chain._replace(depth=depth + 1, joined=True),
        # they are over, and read: their results are in its folder as those of any parent
        after=tuple((reached[each][0], "any") for each in entry.runs),
        sources=[(entry.key, None)],
    )
    made = _queued(state, job, command, end, now, rules)
    run_id = next((event[0] for event in made.events if type(event) is e.RunQueued), None)
    if join is None:
        return made
    over = e.JoinEnded(job.id, now.wall, entry.key, root, run_id)
    return made._replace(events=[*made.events, over])


def _given_up(
    job: Job, entry: OnRun, open_: Mapping[int, Any], root: int, now: Now
) -> list[e.Event]:
    """The oldest gathering makes room for one more, and is told of."""
    if root in open_ or len(open_) < MOST_JOINS:
        return []
    oldest = next(iter(open_))
    missing = [name for name in entry.runs if name not in open_[oldest].reached]
    text = (
        f"gave up waiting for {', '.join(missing)} in the chain that began with run {oldest}: "
        f"{MOST_JOINS} such chains wait already"
    )
    refused = e.ReactionRefused(job.id, now.wall, "run", entry.key, None, text)
    return [e.JoinEnded(job.id, now.wall, entry.key, oldest), refused]


# -- notifications -------------------------------------------------------------------------------


def _emit(state: State, command: EmitTopic, now: Now, rules: Rules, caller: Caller) -> Decision:
    """EmitTopic"""
    check_topic(command.topic)
    asked = state.requests.find(command.request) if command.request is not None else ()
    if asked:
        found = [(number, state.runs.get(number)) for number in asked]
        runs = [(number, run.job.name if run is not None else "") for number, run in found]
        return Decision([], [], Emitted(runs, [], []))
    events: list[e.Event] = []
    effects: list[Effect] = []
    queued: list[tuple[int, str]] = []
    refused: list[tuple[str, str]] = []
    forbidden: list[str] = []
    began = command.chain
    if caller.within is not None:
        began = inside.chain(state, caller.within)
    elif began is None:
        began = Chain(-1, state.next_run)
    chain = began._replace(depth=began.depth + 1)
    check_depth(chain, rules.max_chain)
    for job in listeners(state, command.topic, command.labels, command.seen):
        one = _notified(job, command, caller, len(queued), chain)
        # that a run may notify of a topic its own job says (api.emit): it is for all who listen
        if caller.within is None and not may(caller, Right.SUBMIT, rules.access, job.spec.access):
            if may(caller, Right.LOOK, rules.access, job.spec.access):
                forbidden.append(job.name)
            continue
        try:
            made = queue(state, one, now, rules, caller)
        except JobdError as error:
            text = str(error)[:_LONGEST]
            refused.append((job.name, text))
            events.append(
                e.ReactionRefused(job.id, now.wall, "topic", command.topic, chain.cause, text)
            )
            continue
        queued.append((state.next_run + len(queued), job.name))
        events += made.events
        effects += made.effects
    size = len(command.payload) if isinstance(command.payload, bytes) else command.payload.size
    emitted = e.TopicEmitted(
        1,
        now.wall,
        command.topic,
        caller_fields(caller),
        len(queued),
        queued[0][0] if queued else None,
        size,
        dict(command.labels) or None,
        chain.cause,
    )
    return Decision([*events, emitted], effects, Emitted(queued, refused, forbidden))


def _notified(job: Job, command: EmitTopic, caller: Caller, ahead: int, chain: Chain) -> QueueRun:
    return QueueRun(
        job.name,
        [command.payload],
        "topic",
        caller,
        command.request,
        labels=command.labels,
        sources=[(command.topic, None)],
        ahead=ahead,
        chain=chain,
        within=caller.within,
    )


def listeners(state: State, topic: str, labels: Mapping[str, str], seen: bytes) -> list[Job]:
    """The jobs that a notification means, oldest first; `seen`: what filters look into."""
    return [
        job
        for job in state.reactions.of_topic(topic)
        if any(
            isinstance(entry, OnTopic)
            and entry.topic == topic
            and entry.filter.passes(labels, seen[: LOOKED_INTO + 1])
            for entry in job.spec.on
        )
    ]


DECIDERS: dict[type[Any], Callable[..., Decision]] = {EmitTopic: _emit}
