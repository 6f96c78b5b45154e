"""run.why: each thing that a run has to get past before it starts, with its numbers."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

from jobd.capacity.ledger import Ledger, mib
from jobd.core import gpus
from jobd.core.entities import Job, Run
from jobd.core.estimate import Estimate as Rough
from jobd.core.estimate import estimate, remaining
from jobd.core.limits import blocking, concurrency, limits
from jobd.core.model import Needs
from jobd.core.states import Kind, RunState
from jobd.core.status import draining, parents_text, reason, status
from jobd.forecast.prospect import Estimate, starts, view
from jobd.server.kernel import Kernel, Offload, Parts, Request
from jobd.server.selectors import resolve
from jobd.units import duration_text

Constraint = dict[str, Any]
#: places in the queue that are told exactly; who is behind that many has to wait in any case
_PLACES = 10_000
#: runs whose starts are estimated together
_TOGETHER = 50


def why(kernel: Kernel, request: Request) -> Any:
    """run.why"""
    named, single = resolve(kernel, request, request.arguments["runs"])
    return Parts(_rows(kernel, named, single))


def _rows(kernel: Kernel, named: list[Run], single: bool) -> Generator[Any, None, Any]:
    for start in range(0, len(named), _TOGETHER):
        rows: list[dict[str, Any]] = []
        asked: dict[int, list[Run]] = {}
        for run in named[start : start + _TOGETHER]:
            if rows:
                yield None  # one a pass: a run deep in its queue takes some milliseconds
            rows.append(_row(kernel, run, asked))
        yield _estimated(kernel, rows, asked)
    return {"count": len(named), "single": single}


def _estimated(kernel: Kernel, rows: list[dict[str, Any]], asked: dict[int, list[Run]]) -> Any:
    """The rows with the estimates that are asked for: made by a thread, as futures take a while."""
    asked = {id_: ahead for id_, ahead in asked.items() if _waits(kernel, id_)}
    if not asked:
        return {"runs": rows}
    host = kernel.ledger.host
    free = Ledger(host, kernel.ledger.pace)
    free.engines = dict.fromkeys(Kind)
    seen = view(kernel.state, free, free.pace, kernel.rules, kernel.now, host.gpus)
    if seen is None:
        for row in rows:
            if row["id"] in asked:
                row.update(_from_afar(kernel, kernel.state.run(row["id"]), asked[row["id"]]))
        return {"runs": rows}

    def work() -> dict[str, Any]:
        told = starts(seen, asked, _rest)
        for row in rows:
            if row["id"] in told:
                row.update(_told(told[row["id"]]))
        return {"runs": rows}

    return Offload(work)


def _waits(kernel: Kernel, id_: int) -> bool:
    run = kernel.state.runs.get(id_)
    return run is not None and run.state is RunState.WAITING


def _rest() -> None:
    """Let the core loop go before: it has the same processor's interpreter."""
    time.sleep(0.001)


def _told(guess: Estimate) -> dict[str, Any]:
    earliest, latest = guess.range or (None, None)
    return {
        "estimated_start": guess.at,
        "estimated_earliest": earliest,
        "estimated_latest": latest,
        "estimate": guess.text,
    }


def _row(kernel: Kernel, run: Run, asked: dict[int, list[Run]]) -> dict[str, Any]:
    """All about one run; `asked`: the runs that a start is to be estimated for, and who is before
    them."""
    told = reason(run, kernel.now, kernel.hold_reason(run.spec.kind), kernel.state)
    row: dict[str, Any] = {
        "id": run.id,
        "job": run.job.name,
        "status": str(status(run)),
        "reason": {"code": told.code, "text": told.text} if told else None,
        "constraints": [],
        "place": None,
        **_told(Estimate(None, "")),
        "estimate": None,
    }
    if run.state is RunState.ACTIVE:
        left = remaining(run, kernel.now)
        if left is not None:
            row["estimate"] = f"ends in {_in(left)}, if it takes as long as the last ones"
    elif run.state is not RunState.DONE:
        _waiting_row(kernel, run, row, asked)
    return row


def _waiting_row(
    kernel: Kernel, run: Run, row: dict[str, Any], asked: dict[int, list[Run]]
) -> None:
    ready = run.state is RunState.WAITING and run.due is None and not run.parents
    ready = ready and run.id not in kernel.state.mutexes
    ahead: list[Run] = []
    if ready:
        ahead, own = kernel.state.ready.ahead(run, _PLACES, lambda job: _open(kernel, job))
        job = run.job
        row["place"] = {
            "in_job": own + 1,
            "of_job": job.waiting - sum(job.parked.values()),
            "ahead": len(ahead),
            "more": len(ahead) >= _PLACES,
        }
    constraints = [*_of_run(kernel, run), *_of_job(kernel, run), *_of_host(kernel, run)]
    row["constraints"] = [*constraints, *_turn(run, ahead, ready)]
    lasting = [c["name"] for c in constraints if not c["ok"] and c["name"] in _LASTING]
    gates = [gate for gate in kernel.ledger.gates.gates if run.spec.kind in gate.kinds]
    lasting += [gate.name for gate in gates if not gate.ok]
    if lasting:
        row["estimate"] = f"not while it is held up by: {', '.join(lasting)}"
    else:
        asked[run.id] = ahead


def _from_afar(kernel: Kernel, run: Run, ahead: list[Run]) -> dict[str, Any]:
    """The estimate where so much waits that no future can be tried: by usual times alone."""
    host = kernel.ledger.host
    guess = estimate(kernel.state, run, ahead, Needs(host.cpus, host.memory), kernel.now)
    guess = _by_limits(kernel, run, guess)
    return _told(Estimate(guess.at, guess.text))


def _open(kernel: Kernel, job: Job) -> bool:
    """Whether runs of the job can start at all now: those that cannot are before nobody."""
    if job.paused:
        return False
    heads = (kernel.state.ready.head(job, priority) for priority in list(job.ready))
    head = next((run for run in heads if run is not None), None)
    if head is None:
        return True
    return blocking(kernel.state, head, kernel.now, kernel.ledger.pace) is None


def _by_limits(kernel: Kernel, run: Run, guess: Rough) -> Rough:
    """The estimate as the run's rate, breaker, group and key let it: they are waits as well."""
    at = guess.at
    for limit in limits(kernel.state, run, kernel.now, kernel.ledger.pace):
        if limit.ok or at is None:
            continue
        if limit.again is not None:
            at = max(at, kernel.now.wall + limit.again)
            continue
        held = [kernel.state.runs.get(number) for number in limit.numbers.get("held_by", ())]
        ends = [remaining(one, kernel.now) for one in held if one is not None]
        known = [left for left in ends if left is not None]
        if held and not known:
            return Rough(None, f"{limit.text}; no run of that job has ended yet")
        if known:
            at = max(at, kernel.now.wall + min(known))
    return guess._replace(at=at)


#: what does not pass by itself, so that nobody can say when
_LASTING = frozenset({"held", "paused", "draining", "engine", "disk"})


def _constraint(name: str, ok: bool, text: str, **numbers: Any) -> Constraint:
    return {"name": name, "ok": ok, "text": text, **numbers}


def _of_run(kernel: Kernel, run: Run) -> Iterator[Constraint]:
    held = run.state is RunState.HELD
    note = run.note.text if held and run.note is not None else "nobody holds it"
    yield _constraint("held", not held, note)
    now = kernel.now.wall
    due = run.due if run.due is not None else run.option("not_before")
    if run.due is not None:
        what = "its next attempt is" if run.attempts else "it is"
        yield _constraint("due", False, f"{what} due in {_in(run.due - now)}", not_before=run.due)
    else:
        yield _constraint("due", True, "it is due", not_before=due)
    if run.option("after"):
        pending = run.parents or set()
        rows = [
            {"run": number, "condition": condition, "pending": number in pending}
            for number, condition in run.option("after")
        ]
        text = parents_text(run) if pending else "its parents have ended as they should"
        yield _constraint("parents", not pending, text, parents=rows)
    if run.expires_at is not None and not run.attempts:
        left = run.expires_at - now
        yield _constraint(
            "expires", True, f"it expires in {_in(left)} if not started", expires_at=run.expires_at
        )


def _of_job(kernel: Kernel, run: Run) -> Iterator[Constraint]:
    job = run.job
    text = (
        f"job {job.name} is paused: jobctl resume {job.name}"
        if job.paused
        else "its job is not paused"
    )
    yield _constraint("paused", not job.paused, text)
    if concurrency(run) is None:
        yield _constraint("concurrency", True, "no limit", active=job.active, limit=None)
    for limit in limits(kernel.state, run, kernel.now, kernel.ledger.pace):
        yield _constraint(limit.name, limit.ok, limit.text, **limit.numbers)


def _of_host(kernel: Kernel, run: Run) -> Iterator[Constraint]:
    drain = draining(kernel.state)
    yield _constraint("draining", drain is None, drain.text if drain else "the host is not drained")
    ledger, state, needs = kernel.ledger, kernel.state, run.needs
    hold = ledger.hold or ledger.engines[run.spec.kind]
    yield _constraint("engine", hold is None, f"{hold.code}: {hold.text}" if hold else "it answers")
    if ledger.disk is not None:
        yield _constraint("disk", False, ledger.disk.text)
    for gate in ledger.gates.gates:
        if run.spec.kind in gate.kinds:
            yield _constraint(gate.name, gate.ok, gate.text, value=gate.value, limit=gate.limit)
    host, running = ledger.host, len(state.active)
    reserved = state.reserved
    free = ledger.free(reserved, running)
    kept = 0.0 if not running else host.reserve_cpus
    yield _constraint(
        "cpu",
        needs.cpus <= free.cpus + 1e-9,
        f"needs {needs.cpus:g}: {max(0.0, free.cpus):g} of {host.cpus:g} free, {reserved.cpus:g} "
        f"reserved by {running} running, {kept:g} kept in reserve",
        needed=needs.cpus,
        free=max(0.0, free.cpus),
        total=host.cpus,
        reserved=reserved.cpus,
    )
    kept_memory = 0 if not running else host.reserve_memory
    yield _constraint(
        "memory",
        needs.memory <= free.memory,
        f"needs {mib(needs.memory)}: {mib(max(0, free.memory))} of {mib(host.memory)} free, "
        f"{mib(reserved.memory)} reserved by {running} running, {mib(kept_memory)} kept in reserve",
        needed=needs.memory,
        free=max(0, free.memory),
        total=host.memory,
        reserved=reserved.memory,
    )
    if needs.gpus:
        yield _of_gpus(kernel, needs.gpus)
    sample = ledger.sample
    if sample is not None and free.live is not None:
        promised = max(0, free.promised or 0)
        yield _constraint(
            "memory-now",
            needs.memory <= free.live,
            f"needs {mib(needs.memory)}: {mib(sample.available_memory)} available on the host, "
            f"{mib(promised)} of it promised to running attempts, {mib(kept_memory)} kept",
            needed=needs.memory,
            free=max(0, free.live),
            available=sample.available_memory,
            promised=promised,
        )


def _of_gpus(kernel: Kernel, needed: int) -> Constraint:
    whole = kernel.ledger.host.gpus
    left = max(0, whole - kernel.state.reserved_gpus)
    by = sorted(set(gpus.held(kernel.state).values()))[:10]
    text = f"needs {needed}: {left} of {whole} free"
    text += f", held by {', '.join(f'run {run}' for run in by)}" if by else ""
    return _constraint("gpus", needed <= left, text, needed=needed, free=left, held_by=by)


def _turn(run: Run, ahead: list[Run], ready: bool) -> Iterator[Constraint]:
    if not ready:
        return
    told = run.job.reason
    if ahead:
        more = "or more " if len(ahead) >= _PLACES else ""
        text = f"{len(ahead)} {more}{'run is' if len(ahead) == 1 else 'runs are'} before it"
        yield _constraint("order", False, text, ahead=len(ahead))
    elif told is not None and "is kept for run" in told.text:
        yield _constraint("order", False, told.text, ahead=0)
    else:
        yield _constraint("order", True, "it is the next", ahead=0)


def _in(ms: int) -> str:
    """A time ahead, in whole seconds."""
    return duration_text(max(0, ms + 999) // 1000 * 1000)
