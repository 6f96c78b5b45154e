"""What goes over the socket in many pieces: output folders to the client, build contexts from it.

A part of :class:`jobctl.client.Client`. The daemon keeps no state for a transfer: each piece is
asked for, or sent, with its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobctl.channel import Channel
from jobd.errors import QueueDamagedError


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
