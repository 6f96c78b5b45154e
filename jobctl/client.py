"""The Python API of jobd, blocking; `jobctl` itself is made of it.

    from jobctl.client import Client

    with Client() as jobd:
        run = jobd.queue("sendemail", b'{"to": "ops@example.com"}')["runs"][0]["id"]
        print(jobd.wait(run)["status"], jobd.result(run))

Runs, jobs and status are plain dicts in INTERFACE's JSON shape: times are ISO 8601 text. What goes
wrong is an exception of `jobd.errors`, each with `code`, `status` (the exit status of `jobctl`) and
a sentence. Durations are seconds, times `datetime` (a naive one is in the local zone).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from jobctl import connect
from jobctl.channel import Channel
from jobctl.control import Control, parents
from jobctl.follow import read as read_log
from jobctl.logtext import Entry
from jobctl.shape import FINAL, shaped
from jobctl.transfers import Transfers
from jobctl.values import is_single
from jobd.errors import TimeOverError, UsageError
from jobd.wire.envelope import CHUNK, HOLD_MS, KEY_BYTES

Run = dict[str, Any]
Job = dict[str, Any]
Selector = int | str


class Readable(Protocol):
    """What a payload may come from, besides bytes: anything that is read as bytes."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


class Client(Control, Transfers):
    """A connection to one jobd, made with the first request; not to be shared between threads.

    `socket` is the path of its socket, `home` the folder of a daemon that has one; where neither
    is given it is found as `jobctl` does (JOBCTL_SOCKET, JOBCTL_HOME, a personal one, the
    system's). `request_timeout` is in seconds. `note` is told what a person should know while a
    request waits. `request_key` (16 bytes) repeats work whose outcome was unknown: the same calls
    in the same order do nothing twice, for 24 hours.
    """

    def __init__(
        self,
        socket: str | None = None,
        home: str | None = None,
        *,
        request_timeout: float = 30.0,
        note: Callable[[str], None] = lambda text: None,
        request_key: bytes | None = None,
    ) -> None:
        if socket and home:
            raise UsageError("socket and home were both given: one of them says where jobd is")
        if request_key is not None and len(request_key) != KEY_BYTES:
            raise UsageError(f"request key: expected {KEY_BYTES} bytes")
        place = connect.locate(socket, home, os.environ)
        self._channel = Channel(place, request_timeout, note, request_key)
        self._keys_given = request_key is not None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection. What was acknowledged stays done."""
        self._channel.close()

    # --- the daemon ---------------------------------------------------------------------------

    def ping(self) -> dict[str, Any]:
        """`{version, pid, store, uptime_ms, user}` of the daemon."""
        return self._ask("ping", {})

    def status(self) -> dict[str, Any]:
        """Health and capacity now, in the shape that INTERFACE calls `status`."""
        return self._ask("status", {})

    # --- jobs ---------------------------------------------------------------------------------

    def register(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Registers a job, or a new revision of it: `{job, revision, changed, warnings}`.

        `spec` has the keys of a job file, `name` included. Raises InvalidError naming the key.

            jobd.register({"name": "hello", "image": "busybox", "command": ["echo", "hi"]})
        """
        return self._change("job.register", {"spec": dict(spec)})

    def unregister(self, job: str) -> dict[str, Any]:
        """Removes a job: `{job}`. ConflictError while it has live runs."""
        return self._change("job.unregister", {"job": job})

    def jobs(self) -> list[Job]:
        """All jobs."""
        return self._collect("job.list", {}, "jobs")[0]

    def job(self, name: str) -> Job:
        """One job as in its file, with defaults filled in. NotFoundError where there is none."""
        return self._ask("job.show", {"job": name})

    def pause(self, job: str) -> dict[str, Any]:
        """Keeps runs of `job` from starting: `{job, paused, changed}`; queueing goes on."""
        return self._change("job.pause", {"job": job})

    def resume(self, job: str) -> dict[str, Any]:
        """Undoes `pause`."""
        return self._change("job.resume", {"job": job})

    # --- queueing -----------------------------------------------------------------------------

    def queue(
        self,
        job: str,
        payload: bytes | Readable = b"",
        *,
        count: int | None = None,
        payloads: Sequence[bytes] | None = None,
        priority: int | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        expires: float | None = None,
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        key: str | None = None,
        after: Sequence[Selector] = (),
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Queues one run, `count` alike, or one for each of `payloads`; returned means: on disk.

        Answers `{runs: [{id, existing}], warnings}`; with `dry_run` nothing is queued and
        `settings` tells what a run would have. A large payload may be a file opened for reading.
        Several payloads are one request of less than 1 MiB, all or none (see `queue_each`).
        `after` are runs to wait for, each `RUN`, `RUN:ok`, `RUN:any` or `RUN:fail`.

            jobd.queue("resize", open("photo.jpg", "rb"), key="photo-1", delay=60)
        """
        asked: dict[str, Any] = {"job": job, **_given(count=count, priority=priority, key=key)}
        for name, seconds in (("delay", delay), ("expires", expires), ("timeout", timeout)):
            if seconds is not None:
                asked[name] = round(seconds * 1000)
        if at is not None:
            asked["not_before"] = round(at.timestamp() * 1000)
        asked.update(_given(env=dict(env or {}) or None, labels=dict(labels or {}) or None))
        asked.update(_given(args=list(args) or None, dry_run=dry_run or None))
        asked.update(_given(after=parents(after) or None))
        self._fresh_keys()
        if payloads is not None:
            asked["payloads"] = list(payloads)
        else:
            asked.update(self._payload(payload, keep=not dry_run))
        answer = self._ask("run.queue", asked)
        runs = [{"id": number, "existing": old} for number, old in answer.get("runs") or ()]
        return {**answer, "runs": runs}

    def queue_each(
        self, job: str, payloads: Iterable[bytes], **options: Any
    ) -> Iterator[dict[str, Any]]:
        """Queues one run for each payload, in requests as large as a frame takes.

        Yields `queue`'s answer as each request is acknowledged; `options` are `queue`'s.
        """
        batch: list[bytes] = []
        size = 0
        for payload in payloads:
            if batch and (size + len(payload) > CHUNK or len(batch) >= BATCH_RUNS):
                yield self.queue(job, payloads=batch, **options)
                batch, size = [], 0
            if len(payload) > CHUNK:
                yield self.queue(job, payload, **options)
                continue
            batch.append(payload)
            size += len(payload) + 8
        if batch:
            yield self.queue(job, payloads=batch, **options)

    def _payload(self, payload: bytes | Readable, *, keep: bool) -> dict[str, Any]:
        """The argument that carries a payload; a large one is uploaded before."""
        pieces = _pieces(payload)
        piece = next(pieces, b"")
        after = next(pieces, None)
        if after is None:
            return {"payload": piece} if piece else {}
        if not keep:
            raise UsageError(f"a dry run takes payloads of at most {CHUNK} bytes")
        name = self._channel.next_key()
        offset = 0
        while piece:
            asked = {"upload": name, "offset": offset, "data": piece, "last": after is None}
            self._channel.ask("upload.put", asked)
            offset += len(piece)
            piece, after = after or b"", next(pieces, None)
        return {"upload": name}

    # --- runs ---------------------------------------------------------------------------------

    def runs(
        self,
        *selectors: Selector,
        status: Sequence[str] | None = None,
        job: str | None = None,
        labels: Mapping[str, str] | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        everything: bool = False,
    ) -> list[Run]:
        """Runs that fit: live ones first, then ended ones, newest first in each, 50 in all.

        `limit` is another number than 50, `everything` lifts window and limit. Status words may
        be `dead` too.

            jobd.runs(job="sendemail", status=["failed"], limit=10)
        """
        asked = _given(
            runs=[str(s) for s in selectors] or None,
            status=None if status is None else list(status),
            job=job,
            labels=dict(labels or {}) or None,
            since=None if since is None else round(since.timestamp() * 1000),
            limit=limit,
            all=everything or None,
        )
        return self.runs_and_more(asked)[0]

    def runs_and_more(self, asked: dict[str, Any]) -> tuple[list[Run], bool]:
        """As `runs`, by the wire's own arguments; and whether there are more than were asked."""
        rows, last = self._collect("run.list", asked, "runs")
        return rows, bool(last.get("more"))

    def show(self, *selectors: Selector) -> Any:
        """Everything about a run with its attempts; a list where several were asked for."""
        rows, last = self._collect("run.show", {"runs": [str(s) for s in selectors]}, "runs")
        return rows[0] if last.get("single") and rows else rows

    def wait(self, *selectors: Selector, until: str = "done", timeout: float | None = None) -> Any:
        """Waits until each run is `done`, `running` (or past it) or `succeeded` (or cannot be).

        The run, or a list where several were asked for. TimeOverError after `timeout` seconds.

            if jobd.wait(42, timeout=600)["status"] != "succeeded": ...
        """
        asked: dict[str, Any] = {"runs": [str(s) for s in selectors], "for": until}
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = HOLD_MS if end is None else round((end - time.monotonic()) * 1000)
            began = time.monotonic()
            asked["hold"] = max(min(left, HOLD_MS), 0)
            answer = self._channel.ask("run.wait", asked, hold_ms=max(asked["hold"], 1))
            rows: list[Run] = shaped(answer["runs"])
            if answer["ready"]:
                # of many, the answer may hold the first alone
                return rows[0] if answer["single"] and rows else self.runs(*selectors)
            if end is not None and time.monotonic() >= end:
                raise TimeOverError(_time_over(rows, until, timeout or 0.0))
            # a daemon that answers at once is not asked in a tight loop
            if left > 0 and time.monotonic() - began < 0.05:
                time.sleep(0.05)

    def cancel(
        self,
        *selectors: Selector,
        job: str | None = None,
        status: Sequence[str] | None = None,
    ) -> Any:
        """Cancels runs, or all live ones of `job`: `{id, status}`, or a list of them."""
        asked = _given(
            runs=[str(s) for s in selectors] or None,
            job=job,
            status=None if status is None else list(status),
        )
        answer = self._change("run.cancel", asked)
        rows = [{"id": number, "status": word} for number, word in answer["runs"]]
        single = len(selectors) == 1 and is_single(str(selectors[0]))
        return rows[0] if single and rows else rows

    def result(self, run: Selector) -> bytes:
        """The bytes that the run gave back. ConflictError before its end, NotFoundError if none."""
        made: list[bytes] = []
        self.fetch("run.result", run, made.append)
        return b"".join(made)

    def payload(self, run: Selector) -> bytes:
        """The bytes that the run was queued with."""
        made: list[bytes] = []
        self.fetch("run.payload", run, made.append)
        return b"".join(made)

    def fetch(self, verb: str, run: Selector, each: Callable[[bytes], Any]) -> int:
        """Gives `each` chunk of `run.result` or `run.payload` as it comes; the size in bytes."""
        last = self._channel.ask(verb, {"run": str(run)}, each=lambda part: each(part["data"]))
        return int(last["size"])

    def logs(
        self,
        run: Selector,
        *,
        attempt: int | None = None,
        tail: int | None = None,
        since: datetime | None = None,
        follow: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """The lines of the last attempt's log: `{time, stream, text, partial, attempt}`.

        `stream` is `stdout`, `stderr`, or `jobd` for jobd's own notes. With `follow` they come as
        they are written, over further attempts too, until the run has ended.

            for line in jobd.logs(42, follow=True): print(line["text"])
        """
        after = None if since is None else round(since.timestamp() * 1000)
        for entries in self.follow(
            str(run), attempt=attempt, tail=tail, since=after, follow=follow
        ):
            for entry in entries:
                yield entry.shape()

    def follow(self, run: str, **options: Any) -> Iterator[list[Entry]]:
        """The log's entries as they are in the file; its options are `jobctl.follow.read`'s."""
        return read_log(self._channel, run, **options)

    # --- asking -------------------------------------------------------------------------------

    def _ask(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = shaped(self._channel.ask(verb, arguments))
        return answer

    def _change(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self._fresh_keys()
        return self._ask(verb, arguments)

    def _fresh_keys(self) -> None:
        if not self._keys_given:
            self._channel.new_keys()

    def _collect(
        self, verb: str, arguments: dict[str, Any], name: str
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        last = self._channel.ask(verb, arguments, each=lambda part: rows.extend(part[name]))
        return shaped(rows), last


#: runs in one request, at most: the daemon's loop is held 5-7 us by each
BATCH_RUNS = 1000


def _given(**values: Any) -> dict[str, Any]:
    """What was given, without what was not."""
    return {name: value for name, value in values.items() if value is not None}


def _pieces(payload: bytes | Readable) -> Iterator[bytes]:
    if isinstance(payload, bytes | bytearray | memoryview):
        for start in range(0, len(payload), CHUNK):
            yield bytes(payload[start : start + CHUNK])
        return
    held = b""
    # a pipe gives less than was asked for; only whole chunks are sent, for the sake of few syncs
    while piece := payload.read(CHUNK - len(held)):
        held += piece
        if len(held) == CHUNK:
            yield held
            held = b""
    if held:
        yield held


def _time_over(rows: list[Run], until: str, seconds: float) -> str:
    missing = [row for row in rows if row.get("status") not in FINAL]
    which = ", ".join(f"{row.get('id')} is {row.get('status')}" for row in missing[:3])
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return f"not {until} within {seconds:g} s: run {which}{more}"
