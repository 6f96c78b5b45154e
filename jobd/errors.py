"""Every error that jobd tells a person or a program: class, sentence, wire code, exit status.

A leaf: imports nothing of ours. The client maps a wire code back to the same class with
:func:`from_wire`, so both sides speak of one error by one name.
"""

from __future__ import annotations


class JobdError(Exception):
    """The base of all errors with a code. `str(error)` is the sentence that is shown."""

    #: one word on the wire and in JSON output
    code = "internal"
    #: exit status of `jobctl` and `jobd` (INTERFACE: sysexits where they fit)
    status = 70

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        #: machine-readable extras, packed with the error; keys are part of the protocol
        self.details = details


class InternalError(JobdError):
    """A bug: the daemon logged a traceback."""


class UsageError(JobdError):
    """The command line or the request is not of the verb's form."""

    code, status = "usage", 2


class NotFoundError(JobdError):
    """No such job, run, result or log."""

    code, status = "not-found", 66


class UnreachableError(JobdError):
    """The daemon is not running, or is running and does not answer."""

    code, status = "unreachable", 69


class OutcomeUnknownError(JobdError):
    """The reply was lost: the request may or may not have been carried out."""

    code, status = "outcome-unknown", 69


class ConflictError(JobdError):
    """Not possible in this state."""

    code, status = "conflict", 73


class RefusedError(JobdError):
    """Refused for now; asking again later can succeed (queue full, disk full)."""

    code, status = "refused", 75


class VersionError(JobdError):
    """Client and daemon speak protocol versions that do not fit."""

    code, status = "version", 76


class ForbiddenError(JobdError):
    """The caller may not do this."""

    code, status = "forbidden", 77


class InvalidError(JobdError):
    """A bad job file or value; the message names the key and what was expected."""

    code, status = "invalid", 78


class TimeOverError(JobdError):
    """The time given to `wait --timeout` is over."""

    code, status = "time-over", 124


class ConfigError(JobdError):
    """The daemon's configuration cannot be used."""

    code, status = "config", 78


class QueueDamagedError(JobdError):
    """The queue on disk is damaged; nothing was changed. The message names the place."""

    code, status = "queue-damaged", 65


class AlreadyRunningError(JobdError):
    """Another daemon holds this queue's lock."""

    code, status = "already-running", 73


class DiskFailedError(JobdError):
    """A write or a sync of the queue failed; the daemon stops (DURABILITY W6)."""

    code, status = "disk-failed", 74


_BY_CODE: dict[str, type[JobdError]] = {
    cls.code: cls
    for cls in (
        InternalError,
        UsageError,
        NotFoundError,
        UnreachableError,
        OutcomeUnknownError,
        ConflictError,
        RefusedError,
        VersionError,
        ForbiddenError,
        InvalidError,
        TimeOverError,
        ConfigError,
        QueueDamagedError,
        AlreadyRunningError,
        DiskFailedError,
    )
}


def from_wire(code: str, message: str, details: dict[str, object]) -> JobdError:
    """The error that a reply speaks of; an unknown code becomes :class:`InternalError`."""
    return _BY_CODE.get(code, InternalError)(message, **details)


def table() -> list[tuple[str, int, str]]:
    """`(code, exit status, meaning)` of every error, for the generated documentation."""
    return [
        (code, cls.status, (cls.__doc__ or "").strip().splitlines()[0])
        for code, cls in _BY_CODE.items()
    ]
