"""What changing requests were answered, for clients that lost the reply and ask again.

In memory, for the life of the daemon: queueing and retrying find their runs in the queue itself,
also after a restart (core/requests.py); the others find what they asked for done already.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from jobd.codec import pack, unpack
from jobd.errors import UsageError
from jobd.server.kernel import Request

#: bytes of answers and keys that are kept; the oldest go first
_MOST = 8 << 20
#: what an entry takes beside its answer, about
_ENTRY = 300
#: not kept for longer, in milliseconds (INTERFACE, "Keys")
_KEEP_MS = 24 * 3_600_000


class Answers:
    """Answers by the caller's uid and the request's key."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, bytes], tuple[str, int, bytes]] = OrderedDict()
        self._bytes = 0

    def find(self, request: Request) -> Any | None:
        """What the same request was answered before, or None.

        Raises UsageError where the key was another verb's.
        """
        if request.key is None:
            return None
        found = self._kept.get((request.caller.uid, request.key))
        if found is None:
            return None
        verb, _, answer = found
        if verb != request.verb:
            raise UsageError(
                f"{request.verb}: its request key was used for {verb} before: "
                "each piece of work needs a key of its own"
            )
        return unpack(answer)

    def keep(self, request: Request, answer: Any, now_mono: int) -> None:
        """Remember an answer that was given for the first time."""
        if request.key is None:
            return
        packed = pack(answer)
        if len(packed) > _MOST // 8:
            return
        self._kept[request.caller.uid, request.key] = (request.verb, now_mono, packed)
        self._bytes += len(packed) + _ENTRY
        while self._kept:
            _, at, oldest = next(iter(self._kept.values()))
            if self._bytes <= _MOST and now_mono - at <= _KEEP_MS:
                break
            self._kept.popitem(last=False)
            self._bytes -= len(oldest) + _ENTRY
