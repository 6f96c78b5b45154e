"""Which events mean trouble, and which mean that it is over: the alerts' events that follow. Pure.

One alert for one trouble: of a kind, of a job (or of the host). While it is open the same again is
counted and not sent. It is over when the job succeeds again, or what was looked at is well again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any, NamedTuple

from jobd.core import alertbook as b
from jobd.core import events as e
from jobd.core.alertcommands import LookForAlerts
from jobd.core.alertspec import OF_HOST, AlertSpec, Destination, deadline
from jobd.core.entities import Job
from jobd.core.model import Now
from jobd.core.policy import Rules
from jobd.core.state import State
from jobd.core.states import DEAD_OUTCOMES, AttemptState, Outcome
from jobd.units import duration_text

#: kinds of jobs' troubles that a look finds, and finds over
LOOKED_AT = frozenset({"late", "slow", "queue"})
#: run times that a median needs, and what is never slow, in milliseconds
FEW_TIMES, NEVER_SLOW = 3, 5_000
#: of a queue's limit: what it has to come back to
_BACK = 0.8

#: kinds that are about attempts, by the outcome
_OF_ATTEMPTS = {
    Outcome.FAILED: "failed",
    Outcome.TIMED_OUT: "timed-out",
    Outcome.OOM_KILLED: "oom-killed",
    Outcome.LOST: "lost",
}


class Making:
    """The alerts' events that follow from one decision; the state is that of before."""

    def __init__(self, state: State, now: Now, rules: Rules) -> None:
        self._state, self._now, self._rules = state, now, rules
        self._book = state.alerts
        self._next_alert = self._book.next_alert
        self._next_delivery = self._book.next_delivery
        #: what became of a trouble in this decision: its alert's id while it is open, else None
        self._became: dict[b.Key, int | None] = {}
        self.events: list[e.Event] = []

    @property
    def of_all(self) -> tuple[AlertSpec, ...]:
        """What jobd.toml alerts on, of any job and of the host."""
        return self._rules.alerts.on

    def to(self, what: str, job: Job | None) -> list[Destination]:
        """Who wants to be told of that."""
        own: Iterable[AlertSpec] = () if job is None or job.removed else job.spec.alerts
        every = (*own, *self._rules.alerts.on)
        return list(dict.fromkeys(spec.to for spec in every if what in spec.on))

    def messages(self, to: Iterable[Destination]) -> list[Any]:
        """New deliveries as they stand in events."""
        made = []
        for destination in to:
            made.append([self._next_delivery, *destination])
            self._next_delivery += 1
        return made

    def raise_(self, what: str, job: Job | None, run: int, text: str, scope: str = "") -> None:
        """There is trouble: open an alert, or count it where one is open."""
        to = self.to(what, job)
        if not to:
            return
        key = (what, 0 if job is None else job.id, scope)
        at, book = self._now.wall, self._book
        open_ = book.open.get(key)
        number = self._became.get(key, open_.id if open_ is not None else None)
        if number is not None:
            self.events.append(e.AlertRepeated(1, number, at, run, text, []))
            return
        before = book.latest.get(key)
        if before is not None and any(before.waits(b.RESOLVED)):
            # it comes and goes faster than that can be told: the same trouble still
            again = [d for d in to if d in before.told(b.RESOLVED)]
            event = e.AlertRepeated(1, before.id, at, run, text, self.messages(again))
            self.events.append(event)
            self._became[key] = before.id
            return
        if len(book.open) + len(self._became) >= b.MOST_OPEN:
            return  # `status` and the list tell so
        number = self._became[key] = self._next_alert
        self._next_alert += 1
        self.events.append(
            e.AlertRaised(1, number, at, what, key[1], run, text, scope, self.messages(to))
        )

    def hold(self, what: str, job: Job | None, run: int, text: str, scope: str = "") -> None:
        """There is trouble that lasts: open an alert, where none is."""
        key = (what, 0 if job is None else job.id, scope)
        if key not in self._book.open and self._became.get(key) is None:
            self.raise_(what, job, run, text, scope)

    def over(self, alert: b.Alert, text: str) -> None:
        """The trouble is over: tell those who have heard, or will hear, of it."""
        at, book = self._now.wall, self._book
        waits = [d for d in alert.deliveries if d.tells == b.RAISED]
        to = dict.fromkeys(d.to for d in waits if d.state != b.WAITING or not book.quiet(d, at))
        self.events.append(e.AlertResolved(1, alert.id, at, text, self.messages(to)))
        self._became[alert.key] = None

    def end(self, kinds: Iterable[str], job: Job, text: str) -> None:
        """Those of the job are over, where they are open."""
        for what in kinds:
            alert = self._book.open.get((what, job.id, ""))
            if alert is not None and self._became.get(alert.key, alert.id) is not None:
                self.over(alert, text)


def following(state: State, events: list[e.Event], now: Now, rules: Rules) -> list[e.Event]:
    """The alerts' events that follow from `events`, which are decided on and not applied yet."""
    book = state.alerts
    if not (book.open or book.watched or rules.alerts.on):
        return []
    making = Making(state, now, rules)
    for event in events:
        taker = _TAKERS.get(type(event))
        if taker is not None:
            taker(making, state, event)
    return making.events


def _attempt_ended(making: Making, state: State, event: e.AttemptEnded) -> None:
    run = state.run(event.run)
    job, outcome = run.job, Outcome(event.outcome)
    if outcome is Outcome.SUCCEEDED:
        making.end(_OF_ATTEMPTS.values(), job, f"job {job.name}: run {run.id} succeeded")
        if event.result is None:
            text = f"job {job.name}: run {run.id} succeeded and left no result"
            making.raise_("no-result", job, run.id, text)
        else:
            making.end(["no-result"], job, f"job {job.name}: run {run.id} left a result")
    elif outcome in _OF_ATTEMPTS:
        status = "" if event.exit_code is None else f", exit status {event.exit_code}"
        how = "was lost" if outcome is Outcome.LOST else str(outcome)
        text = f"job {job.name}: run {run.id}, attempt {event.number}: {how}{status}"
        making.raise_(_OF_ATTEMPTS[outcome], job, run.id, text)


def _run_finished(making: Making, state: State, event: e.RunFinished) -> None:
    run = state.runs.get(event.run)
    if run is None:
        return  # it is queued and ended by this very decision
    if event.outcome in DEAD_OUTCOMES:
        making.raise_("dead", run.job, run.id, f"job {run.job.name}: run {run.id}: {event.text}")
    elif event.outcome == Outcome.SUCCEEDED:
        making.end(["dead", "late"], run.job, f"job {run.job.name}: run {run.id} succeeded")


def _breaker_opened(making: Making, state: State, event: e.JobBreakerOpened) -> None:
    job = state.job(event.job)
    making.raise_("breaker", job, 0, f"job {job.name} is held by its breaker: {event.text}")


def _breaker_closed(making: Making, state: State, event: e.JobBreakerClosed) -> None:
    job = state.job(event.job)
    making.end(["breaker"], job, f"job {job.name}: its runs may start again")


def _job_removed(making: Making, state: State, event: e.JobRemoved) -> None:
    job = state.job(event.job)
    making.end([key[0] for key in state.alerts.open], job, f"job {job.name} was unregistered")


_TAKERS: dict[type[Any], Callable[[Making, State, Any], None]] = {
    e.AttemptEnded: _attempt_ended,
    e.RunFinished: _run_finished,
    e.JobBreakerOpened: _breaker_opened,
    e.JobBreakerClosed: _breaker_closed,
    e.JobRemoved: _job_removed,
}


# -- what no event tells of ----------------------------------------------------------------


class Trouble(NamedTuple):
    """What a look found: the run that it is about (0: none), and the sentence."""

    run: int
    text: str


#: what a look found; None: that all is well, where it is known
Seen = dict[b.Key, Trouble | None]


def look(state: State, command: LookForAlerts, now: Now, rules: Rules) -> list[e.Event]:
    """The events of a look at everything that lasts."""
    making = Making(state, now, rules)
    seen: Seen = {
        (what, 0, scope): Trouble(0, text) if text else None
        for (what, scope), text in command.host.items()
    }
    _slow(state, now, making, seen)
    _queues(state, rules, seen)
    _late(state, now, rules, seen)
    for (what, number, scope), trouble in seen.items():
        if trouble is not None:
            about = state.jobs_by_id.get(number)
            making.hold(what, about, trouble.run, trouble.text, scope)
    for alert in list(state.alerts.open.values()):
        job = state.jobs_by_id.get(alert.job)
        if not making.to(alert.what, job):
            making.over(alert, f"{alert.text}: nobody wants to be told of that any more")
        elif alert.what in OF_HOST:
            if alert.key in seen and seen[alert.key] is None:
                making.over(alert, _well(alert, job))
        elif alert.what in LOOKED_AT and alert.key not in seen:
            making.over(alert, _well(alert, job))
    return making.events


def _well(alert: b.Alert, job: Job | None) -> str:
    name = "host" if job is None else f"job {job.name}"
    if alert.what == "engine":
        return f"engine for {alert.scope}: answers again"
    if alert.what == "disk":
        return "disk: has room again"
    words = {"slow": "no attempt is slow any more", "queue": "its queue is shorter again"}
    return f"{name}: {words.get(alert.what, 'it succeeded again')}"


def _slow(state: State, now: Now, making: Making, seen: Seen) -> None:
    limits: dict[int, float | None] = {}
    for run in state.active.values():
        job, attempt = run.job, run.attempt
        if attempt is None or attempt.started is None or attempt.state is not AttemptState.RUNNING:
            continue
        if job.id not in limits:
            limits[job.id] = slow_after(job, making)
        limit, ran = limits[job.id], now.wall - attempt.started.at
        if limit is not None and ran > limit:
            usual = duration_text(round(median(job.times) / 1000) * 1000)
            text = f"job {job.name}: run {run.id} has run for {duration_text(ran // 1000 * 1000)}"
            trouble = Trouble(run.id, f"{text}, its median is {usual}")
            seen.setdefault(("slow", job.id, ""), trouble)


def slow_after(job: Job, making: Making) -> float | None:
    """After how many milliseconds an attempt of the job is slow; None: nobody wants to know, or
    too few have run to tell."""
    specs = (*(() if job.removed else job.spec.alerts), *making.of_all)
    factors = [spec.factor for spec in specs if "slow" in spec.on]
    if not factors or len(job.times) < FEW_TIMES:
        return None
    return max(min(factors) * median(job.times), NEVER_SLOW)


def _queues(state: State, rules: Rules, seen: Seen) -> None:
    for job in watched(state):
        for spec in job.spec.alerts:
            if spec.waiting is not None:
                _queue(state, job, job.waiting, spec.waiting, seen)
    for spec in rules.alerts.on:
        if spec.waiting is not None:
            _queue(state, None, state.waiting, spec.waiting, seen)


def _queue(state: State, job: Job | None, waiting: int, most: int, seen: Seen) -> None:
    key = ("queue", 0 if job is None else job.id, "")
    limit = most * _BACK if key in state.alerts.open else most
    if waiting > limit:
        name = "host" if job is None else f"job {job.name}"
        seen[key] = Trouble(0, f"{name}: {waiting} runs wait, more than {most}")


def _late(state: State, now: Now, rules: Rules, seen: Seen) -> None:
    for job in watched(state):
        since = state.alerts.succeeded.get(job.id, job.registered_at)
        for spec in job.spec.alerts:
            if "late" not in spec.on:
                continue
            by = deadline(spec, since, rules.timezone)
            if by is not None and now.wall >= by:
                last = state.alerts.succeeded.get(job.id)
                ago = duration_text((now.wall - since) // 1000 * 1000)
                ever = f"its last success was {ago} ago" if last else f"not once in {ago}"
                paused = "; it is paused" if job.paused else ""
                wanted = f"by {spec.by}" if spec.by else f"within {duration_text(spec.within or 0)}"
                text = f"job {job.name}: has not succeeded {wanted}: {ever}{paused}"
                seen["late", job.id, ""] = Trouble(0, text)


def watched(state: State) -> list[Job]:
    """The jobs whose newest definition has alerts."""
    found = (state.jobs_by_id.get(number) for number in state.alerts.watched)
    return [job for job in found if job is not None and not job.removed]
