"""What goes over the socket in many pieces: output folders to the client, build contexts from it.

Steps, as in jobctl/calls.py. The daemon keeps no state for a transfer: each piece is asked for, or
sent, with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from jobctl.channel import Channel
from jobctl.steps import Steps, Work
from jobd.errors import QueueDamagedError
from jobd.wire.envelope import CHUNK, HOLD_MS


def output(
    to: Channel, run: int | str, each: Callable[[bytes], Any], *, attempt: int | None = None
) -> Steps[dict[str, Any]]:
    """Gives `each` piece of a tar of what the run left in OUTPUT_DIR, as it comes.

    Of the last attempt that ended, or of `attempt`. Answers `{run, attempt, files, size}`.
    ConflictError before an end, NotFoundError where nothing was left, QueueDamagedError where
    what came is not what was kept. `save_output` makes files of it.
    """

    def take(data: bytes) -> Steps[None]:
        each(data)
        yield from ()

    return (yield from _output(to, run, take, attempt))


def _output(
    to: Channel, run: int | str, take: Callable[[bytes], Steps[None]], attempt: int | None
) -> Steps[dict[str, Any]]:
    from zlib import crc32

    asked: dict[str, Any] = {"run": str(run)}
    if attempt is not None:
        asked["attempt"] = attempt
    offset = crc = 0
    while True:
        answer = yield from to.ask("run.output", {**asked, "offset": offset})
        data: bytes = answer.pop("data")
        # `last` may be another run, and its last attempt another one, by the next piece
        asked = {"run": str(answer["run"]), "attempt": answer["attempt"]}
        yield from take(data)
        offset += len(data)
        crc = crc32(data, crc)
        if offset >= answer["size"] or not data:
            break
    if (offset, crc) != (answer["size"], answer.pop("crc")):
        raise QueueDamagedError(
            f"run {answer['run']}: the output files are damaged on the daemon's disk"
        )
    return dict(answer)


def save_output(
    to: Channel, run: int | str, folder: str, *, attempt: int | None = None
) -> Steps[dict[str, Any]]:
    """Puts what the run left in OUTPUT_DIR into `folder`, which is made or must be empty.

    As `output`; nothing is there where that fails.

        jobd.save_output(42, "results/42")
    """
    from jobctl.unpack import Unpacker

    made = yield Work(lambda: Unpacker(folder))
    with made as unpacker:

        def take(data: bytes) -> Steps[None]:
            yield Work(lambda: unpacker.write(data))

        answer = yield from _output(to, run, take, attempt)
        yield Work(unpacker.finish)
    return answer


def build(
    to: Channel,
    folder: str,
    job: str,
    *,
    dockerfile: str = "Dockerfile",
    args: dict[str, str] | None = None,
    network: str | None = None,
    target: str | None = None,
    said: Callable[[bytes], Any] = lambda data: None,
) -> Steps[dict[str, Any]]:
    """Builds an image for `job` from `folder`, on the daemon's engine: `{image, image_id}`.

    For administrators. `said` is given what the build says, as it comes. Nothing is registered.
    InvalidError with the build's last word where it failed, RefusedError where trying again
    may help (a registry that does not answer, no room).
    """
    from jobctl.context import tar_pieces

    to.new_keys()
    name = yield from _send(to, _chunks(tar_pieces(folder, dockerfile)))
    asked: dict[str, Any] = {"upload": name, "job": job, "dockerfile": dockerfile}
    asked.update({k: v for k, v in (("network", network), ("target", target)) if v})
    number = (yield from to.ask("image.build", {**asked, "args": args or {}}))["build"]
    offset = 0
    while True:
        answer = yield from to.ask(
            "image.output", {"build": number, "offset": offset}, hold_ms=HOLD_MS
        )
        if answer["data"]:
            said(answer["data"])
        offset = answer["offset"]
        if answer["end"]:
            return {"image": answer["image"], "image_id": answer["image_id"]}


def _send(to: Channel, chunks: Iterator[bytes]) -> Steps[bytes]:
    """Uploads a build's context under one name, which is returned; the last chunk says so."""
    name = to.next_key()
    offset, chunk = 0, (yield Work(lambda: next(chunks, b"")))
    while True:
        after = yield Work(lambda: next(chunks, None))
        asked = {"upload": name, "offset": offset, "data": chunk, "last": after is None}
        yield from to.ask("upload.put", {**asked, "context": True})
        if after is None:
            return name
        offset += len(chunk)
        chunk = after


def _chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in chunks as large as they may be, for the sake of few syncs."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= CHUNK:
            yield bytes(held[:CHUNK])
            del held[:CHUNK]
    if held:
        yield bytes(held)
