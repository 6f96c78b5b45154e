"""One request or reply as one frame: a msgpack array. On every client's hot path: imports little.

request: `[version, id, verb, arguments, key]`; reply: `[version, id, kind, body]`.
"""

from __future__ import annotations

from typing import Any

from jobd.codec import pack, pack_shared, unpack, unpack_foreign
from jobd.errors import InternalError, JobdError, UsageError, VersionError, from_wire

#: raised by one when an old peer could misunderstand; peers of another version are refused (76)
VERSION = 1

#: kinds of reply: the last word, a part with more to come, an error (also a last word)
RESULT, PART, ERROR = 0, 1, 2

#: a request key is this many random bytes, made by the client
KEY_BYTES = 16

#: bytes of a payload, result or log that travel in one frame, at most
CHUNK = 512 * 1024

#: how long the daemon holds a request that waits for something, in milliseconds: it then answers
#: "not yet" and the client asks again, so a lost peer costs either side half a minute at most
HOLD_MS = 25_000


def request(number: int, verb: str, arguments: dict[str, Any], key: bytes | None) -> bytes:
    """The frame that asks for `verb`; `number` comes back with each of its replies."""
    return pack_shared([VERSION, number, verb, arguments, key])


def result(number: int, body: Any) -> bytes:
    """The frame of a last reply. Not thread-safe: for the core loop, as each request has one."""
    return pack((VERSION, number, RESULT, body))


def part(number: int, body: Any) -> bytes:
    """The frame of a reply after which more will come."""
    return pack_shared([VERSION, number, PART, body])


def error(number: int, problem: JobdError) -> bytes:
    """The frame that says why not."""
    body = {"code": problem.code, "message": str(problem), "details": problem.details}
    return pack_shared([VERSION, number, ERROR, body])


def read_request(frame: bytes | memoryview) -> tuple[int, str, dict[str, Any], bytes | None]:
    """`(id, verb, arguments, key)`. Raises UsageError or VersionError; never trusts the frame."""
    value = unpack_foreign(frame)
    if type(value) is not list or len(value) < 2:
        raise UsageError("request is not of the form [version, id, verb, arguments, key]")
    if value[0] != VERSION:
        raise VersionError(
            f"request speaks protocol version {value[0]!r:.20}, this jobd speaks {VERSION}: "
            "install the same version of jobctl and jobd",
            request=value[1] if isinstance(value[1], int) else 0,
        )
    if len(value) != 5:
        raise UsageError("request is not of the form [version, id, verb, arguments, key]")
    _, number, verb, arguments, key = value
    if type(number) is not int or type(verb) is not str or type(arguments) is not dict:
        raise UsageError("request is not of the form [version, id, verb, arguments, key]")
    if key is not None and (type(key) is not bytes or len(key) != KEY_BYTES):
        raise UsageError(f"request key is not {KEY_BYTES} bytes")
    return number, verb, arguments, key


def read_reply(frame: bytes | memoryview) -> tuple[int, int, Any]:
    """`(id, kind, body)` of a reply; an error's body is already the exception to raise."""
    value = unpack(frame)
    if not isinstance(value, list) or len(value) != 4:
        raise InternalError("reply is not of the form [version, id, kind, body]")
    version, number, kind, body = value
    if kind == ERROR:
        return number, ERROR, from_wire(body["code"], body["message"], body.get("details") or {})
    if version != VERSION:
        raise VersionError(
            f"jobd speaks protocol version {version}, this jobctl speaks {VERSION}: "
            "install the same version of both"
        )
    return number, kind, body
