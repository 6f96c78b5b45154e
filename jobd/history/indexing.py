"""Makes the index of what the archive holds: as it is written, or all of it anew, bit by bit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jobd.codec import unpack
from jobd.core.commands import Body
from jobd.core.entities import Job, Run
from jobd.core.restoring import run_in
from jobd.core.rollups import Rollup, hour_of
from jobd.core.statements import TYPE_OF, RevisionStands, RunStands
from jobd.core.states import DEAD_OUTCOMES
from jobd.history.index import DAMAGED, Index, IndexUnusableError, Row
from jobd.history.reader import History
from jobd.journal.archive import Archive, Archived, Part, Place

_log = logging.getLogger(__name__)

#: seconds of rest for each second of work, so that the loop has most of the processor
REST = 2.0
_NO_SPEC: Any = None
_RUN = TYPE_OF[RunStands]


class StoppedError(Exception):
    """The daemon stops: nothing more is begun."""


def catch_up(
    index: Index,
    archive: Archive,
    history: History,
    wait: Callable[[float], bool],
    percent: Callable[[int], None],
) -> None:
    """Let the index know all that the archive holds; `percent` is told how far it is.

    `wait` rests for so many seconds, and says whether to stop. Raises StoppedError; it goes on
    from there another time.
    """
    known, numbers = index.segments(), archive.numbers()
    for number in known.keys() - set(numbers):
        index.forget(number)
    for number in numbers:
        if number in known and known[number].offset > archive.size(number):
            raise IndexUnusableError(f"it knows more of segment {number} than the archive holds")
    total = sum(archive.size(number) for number in numbers)
    behind = sum(archive.size(n) - (known[n].offset if n in known else 0) for n in numbers)
    many = behind > total // 2 and behind > 0
    if many:
        _log.warning("history: the index is made from the archive, %d bytes", behind)
    read, told = total - behind, 0
    for number in numbers:
        start = known[number].place if number in known else archive.start_of(number)
        at = start.offset if number in known else 0
        for part in archive.scan(number, start):
            began = time.monotonic()
            _take_part(index, history, number, part)
            read += part.behind.offset - at
            at = part.behind.offset
            now = 100 * read // max(1, total)
            percent(now)
            history.trouble = f"its index is being made ({now} %)"
            if many and now // 10 > told:
                told = now // 10
                _log.info("history: the index is being made: %d %%", now)
            if wait(REST * min(0.5, time.monotonic() - began)):
                raise StoppedError
        read += archive.size(number) - at
    if many:
        _log.warning("history: the index is whole again")


def _take_part(index: Index, history: History, number: int, part: Part) -> None:
    runs = list(_runs_in(part.records))
    damaged = [(one.id, one.where) for one in part.damaged if one.type == _RUN]
    hole = part.hole is not None and not part.hole.last
    if part.hole is not None and hole:
        _log.error(
            "history: archive segment %d is damaged from offset %d to %d: %d runs there are intact,"
            " %d cannot be shown: %s; `jobd fsck` tells more",
            number, part.hole.start, part.hole.stop, len(runs), len(damaged),
            ", ".join(str(run) for run, _ in damaged[:20]) or "none that can be named",
        )  # fmt: skip
    specs = [
        (one.id, int(unpack(one.body)[0]), one.where)
        for one in part.records
        if one.type == TYPE_OF[RevisionStands]
    ]
    take_in(index, history, number, part.behind, runs, specs, int(hole), damaged)


def _runs_in(records: Sequence[Archived]) -> Iterator[tuple[Run, int]]:
    for one in records:
        if one.type == _RUN:
            fields = unpack(one.body)
            # of its job nothing is asked but its id
            job = Job(fields[0], "")
            job.revisions[fields[1]] = _NO_SPEC
            yield run_in(job, one.id, one.revision, one.body), one.where


def take_in(
    index: Index,
    history: History,
    number: int,
    behind: Place,
    runs: Sequence[tuple[Run, int]],
    specs: Sequence[tuple[int, int, int]],
    holes: int = 0,
    damaged: Sequence[tuple[int, int]] = (),
) -> None:
    """Index what stands in a segment before `behind`: runs and where each is, definitions; and of
    runs that are damaged no more than that, so that who asks for one is told."""
    rows = [row_of(run, place) for run, place in runs]
    rows += [Row(id_, place, DAMAGED, "", False, 0, None, {}, ()) for id_, place in damaged]
    index.add(number, behind, rows, specs, {run.id: rolled(run) for run, _ in runs}, holes)
    history.took_in([(row.id, row.job, row.key is not None) for row in rows])


def is_dead(run: Run) -> bool:
    """Whether it used up its attempts."""
    return getattr(run.note, "outcome", None) in DEAD_OUTCOMES


def bodies_in(archive: Archive) -> Iterator[Body]:
    """The body files that archived runs name: payloads, results, output folders."""
    for number in archive.numbers():
        for part in archive.scan(number, archive.start_of(number)):
            for run, _ in _runs_in(part.records):
                if run.body is not None:
                    yield run.body
                for attempt in run.attempts or ():
                    for body in (attempt.end.result, attempt.end.output) if attempt.end else ():
                        if isinstance(body, list):
                            yield Body(*body)


def row_of(run: Run, place: int) -> Row:
    """What the index holds of a run that lies there."""
    bodies = [] if run.body is None else [run.body.name]
    for attempt in run.attempts or ():
        for body in (attempt.end.result, attempt.end.output) if attempt.end is not None else ():
            if isinstance(body, list):
                bodies.append(body[0])
    note = run.note
    return Row(
        run.id,
        place,
        run.job.id,
        str(getattr(note, "outcome", "")),
        is_dead(run),
        note.at if note is not None else run.queued_at,
        run.option("key"),
        run.option("labels") or {},
        tuple(dict.fromkeys(bodies)),
    )


def rolled(run: Run) -> dict[tuple[int, int], Rollup]:
    """What a run adds to the roll-ups, by job and hour."""
    rollup = Rollup()
    rollup.take(run)
    return {(run.job.id, hour_of(run)): rollup}
