"""What goes over the socket in many pieces: output folders to the client, build contexts from it.

A part of :class:`jobctl.client.Client`. The daemon keeps no state for a transfer: each piece is
asked for, or sent, with its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobctl.channel import Channel
from jobd.errors import QueueDamagedError
from jobd.wire.envelope import CHUNK, HOLD_MS


class Transfers:
    """The transfers of one connection."""

    _channel: Channel

    def output(
        self, run: int | str, each: Callable[[bytes], Any], *, attempt: int | None = None
    ) -> dict[str, Any]:
        """Gives `each` piece of a tar of what the run left in OUTPUT_DIR, as it comes.

        Of the last attempt that ended, or of `attempt`. Answers `{run, attempt, files, size}`.
        ConflictError before an end, NotFoundError where nothing was left, QueueDamagedError where
        what came is not what was kept. `save_output` makes files of it.
        """
        from zlib import crc32

        asked: dict[str, Any] = {"run": str(run)}
        if attempt is not None:
            asked["attempt"] = attempt
        offset = crc = 0
        while True:
            answer = self._channel.ask("run.output", {**asked, "offset": offset})
            data: bytes = answer.pop("data")
            # `last` may be another run, and its last attempt another one, by the next piece
            asked = {"run": str(answer["run"]), "attempt": answer["attempt"]}
            each(data)
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
        self, run: int | str, folder: str, *, attempt: int | None = None
    ) -> dict[str, Any]:
        """Puts what the run left in OUTPUT_DIR into `folder`, which is made or must be empty.

        As `output`; nothing is there where that fails.

            jobd.save_output(42, "results/42")
        """
        from jobctl.unpack import Unpacker

        with Unpacker(folder) as unpacker:
            answer = self.output(run, unpacker.write, attempt=attempt)
            unpacker.finish()
        return answer

    def build(
        self,
        folder: str,
        job: str,
        *,
        dockerfile: str = "Dockerfile",
        args: dict[str, str] | None = None,
        network: str | None = None,
        target: str | None = None,
        said: Callable[[bytes], Any] = lambda data: None,
    ) -> dict[str, Any]:
        """Builds an image for `job` from `folder`, on the daemon's engine: `{image, image_id}`.

        For administrators. `said` is given what the build says, as it comes. Nothing is registered.
        InvalidError with the build's last word where it failed, RefusedError where trying again
        may help (a registry that does not answer, no room).
        """
        from jobctl.context import write_tar

        upload = _Upload(self._channel)
        write_tar(folder, dockerfile, upload.write)
        asked: dict[str, Any] = {"upload": upload.finish(), "job": job, "dockerfile": dockerfile}
        asked.update({k: v for k, v in (("network", network), ("target", target)) if v})
        number = self._channel.ask("image.build", {**asked, "args": args or {}})["build"]
        offset = 0
        while True:
            answer = self._channel.ask(
                "image.output", {"build": number, "offset": offset}, hold_ms=HOLD_MS
            )
            if answer["data"]:
                said(answer["data"])
            offset = answer["offset"]
            if answer["end"]:
                return {"image": answer["image"], "image_id": answer["image_id"]}


class _Upload:
    """Sends what is written to it in chunks, under one name."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._name = channel.next_key()
        self._held = bytearray()
        self._sent = 0

    def write(self, data: bytes) -> None:
        """Send what makes a whole chunk with it; the last one is kept for `finish`."""
        self._held += data
        while len(self._held) > CHUNK:
            self._send(bytes(self._held[:CHUNK]), last=False)
            del self._held[:CHUNK]

    def finish(self) -> bytes:
        """Send the rest; the name of it all."""
        self._send(bytes(self._held), last=True)
        return self._name

    def _send(self, data: bytes, *, last: bool) -> None:
        asked = {"upload": self._name, "offset": self._sent, "data": data}
        self._channel.ask("upload.put", {**asked, "last": last, "context": True})
        self._sent += len(data)
