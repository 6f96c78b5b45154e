"""Queueing runs: one, many alike, one for each payload; large payloads are uploaded before.

Steps, as in jobctl/calls.py. Nothing here is larger than what one request may be (PROTOCOL.md,
"Limits"): what is more is sent in several, each acknowledged, each with a key of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from jobctl.calls import ask, given
from jobctl.channel import Channel
from jobctl.steps import Item, Steps
from jobctl.values import split_after
from jobd.errors import UsageError
from jobd.wire.envelope import CHUNK

#: runs in one request, at most: the daemon's loop is held 5-7 us by each
BATCH_RUNS = 1000
#: bytes that one request may make the queue grow by: half of what the daemon takes
BATCH_BYTES = 4 << 20
#: what a run takes of the queue beside payload and options, as the daemon counts it
_RUN_BYTES = 512


class Readable(Protocol):
    """What a payload may come from, besides bytes: anything that is read as bytes."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


def queue(
    to: Channel,
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
    dry_run: bool = False,
    after: Sequence[int | str] = (),
    batch: str | None = None,
    batch_offset: int | None = None,
    mutex: str | None = None,
    unmet: str | None = None,
    latest: bool = False,
    debounce: float | None = None,
) -> Steps[dict[str, Any]]:
    """Queues one run, `count` alike, or one for each of `payloads`; returned means: on disk.

    Answers `{runs: [{id, existing}], warnings}`; with `dry_run` nothing is queued and
    `settings` tells what a run would have. A large payload may be a file opened for reading.
    Several payloads are one request of less than 1 MiB, all or none; `queue_each` and `queue_many`
    send more. `after` are runs to wait for, each `RUN`, `RUN:ok`, `RUN:any` or `RUN:fail`; where
    one ends otherwise, `unmet` says what becomes of it: `skip`, `fail` or `hold`. `batch` and
    `batch_offset` tell runs of several requests that they belong together. Of the runs with one
    `mutex` one at a time is active. `latest` skips those that wait with the key; `debounce`
    (seconds) does, and starts when no other has come for so long.

        jobd.queue("resize", open("photo.jpg", "rb"), key="photo-1", delay=60)
    """
    to.new_keys()
    asked: dict[str, Any] = {"job": job, **given(count=count, priority=priority, key=key)}
    asked.update(given(after=[list(split_after(str(text))) for text in after] or None))
    asked.update(
        given(
            batch=batch, batch_offset=batch_offset, mutex=mutex, latest=latest or None, unmet=unmet
        )
    )
    for name, seconds in (
        ("delay", delay),
        ("expires", expires),
        ("timeout", timeout),
        ("debounce", debounce),
    ):
        if seconds is not None:
            asked[name] = round(seconds * 1000)
    if at is not None:
        asked["not_before"] = round(at.timestamp() * 1000)
    asked.update(given(env=dict(env or {}) or None, labels=dict(labels or {}) or None))
    asked.update(given(args=list(args) or None, dry_run=dry_run or None))
    if payloads is not None:
        asked["payloads"] = list(payloads)
    else:
        asked.update((yield from payload_arguments(to, payload, keep=not dry_run)))
    answer = yield from ask(to, "run.queue", asked)
    runs = [{"id": number, "existing": old} for number, old in answer.get("runs") or ()]
    return {**answer, "runs": runs}


def queue_each(to: Channel, /, job: str, payloads: Iterable[bytes], **options: Any) -> Steps[None]:
    """Queues one run for each payload, in requests as large as one may be.

    Gives `queue`'s answer as each request is acknowledged; `options` are `queue`'s.

        for answer in jobd.queue_each("crawl", open("urls.txt", "rb")): print(answer["runs"])
    """
    sent = 0
    to.new_keys()
    name = to.next_key().hex()
    for batch in _batches(payloads, _own_bytes(options)):
        large = len(batch) == 1 and len(batch[0]) > CHUNK
        what: dict[str, Any] = {"payload": batch[0]} if large else {"payloads": batch}
        answer = yield from _queue_part(to, job, name, sent, what, options)
        sent += len(batch)
        yield Item(answer)


def queue_many(
    to: Channel, /, job: str, count: int, payload: bytes = b"", **options: Any
) -> Steps[None]:
    """Queues `count` runs alike, in as many requests as it takes; as `queue_each`."""
    sent = 0
    to.new_keys()
    name = to.next_key().hex()
    most = max(1, min(BATCH_RUNS, BATCH_BYTES // (len(payload) + _own_bytes(options))))
    while sent < count:
        part = min(most, count - sent)
        what = {"payload": payload, "count": part}
        answer = yield from _queue_part(to, job, name, sent, what, options)
        sent += part
        yield Item(answer)


def _queue_part(
    to: Channel, job: str, name: str, sent: int, what: dict[str, Any], options: dict[str, Any]
) -> Steps[dict[str, Any]]:
    """One request of several: its runs count on in the batch."""
    return (yield from queue(to, job, **what, **options, batch=name, batch_offset=sent))


def _own_bytes(options: Mapping[str, Any]) -> int:
    """What a run's own options take of the queue, in bytes; never too little."""
    texts: list[str] = [str(options.get(name) or "") for name in ("key", "mutex")]
    texts += options.get("args") or ()
    for name in ("env", "labels"):
        for key, value in (options.get(name) or {}).items():
            texts += [key, value]
    return _RUN_BYTES + sum(4 * len(text) + 64 for text in texts)


def _batches(payloads: Iterable[bytes], own: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = grown = 0
    for payload in payloads:
        full = size + len(payload) > CHUNK or grown + own > BATCH_BYTES
        if batch and (full or len(batch) >= BATCH_RUNS):
            yield batch
            batch, size, grown = [], 0, 0
        batch.append(payload)
        size += len(payload) + 8
        grown += len(payload) + own
    if batch:
        yield batch


def payload_arguments(
    to: Channel, payload: bytes | Readable, *, keep: bool
) -> Steps[dict[str, Any]]:
    """The argument that carries a payload; a large one is uploaded before."""
    pieces = _pieces(payload)
    piece = next(pieces, b"")
    after = next(pieces, None)
    if after is None:
        return {"payload": piece} if piece else {}
    if not keep:
        raise UsageError(f"a dry run takes payloads of at most {CHUNK} bytes")
    name = to.next_key()
    offset = 0
    while piece:
        asked = {"upload": name, "offset": offset, "data": piece, "last": after is None}
        yield from to.ask("upload.put", asked)
        offset += len(piece)
        piece, after = after or b"", next(pieces, None)
    return {"upload": name}


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
