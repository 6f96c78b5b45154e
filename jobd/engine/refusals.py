"""What an engine's refusal means: the attempt's own fault, or the host's. Pure.

The engine says it in prose, and with a status that often misleads: an unknown user is a 500, a
missing network a 404. The rules here were made from what Docker 20.10 really answers.
"""

from __future__ import annotations

import re

from jobd.engine.base import EngineTroubleError, StartRefusedError


class AnswerError(EngineTroubleError):
    """The engine answered a request with an error. `status` is HTTP's, `text` the engine's own.

    Callers that know what a status means to them catch it; one that nobody caught reaches the
    daemon as what it then is: trouble of the engine, which says nothing about the attempt.
    """

    def __init__(self, status: int, text: str, about: str) -> None:
        super().__init__(f"{about}: the engine answered {status}: {text or 'without a reason'}")
        self.status = status
        self.text = text


#: trouble of the host that the engine reports in the same words as a job's own mistakes
_HOST = re.compile(
    r"no space left on device|cannot allocate memory|too many open files|disk quota exceeded"
    r"|resource temporarily unavailable|input/output error|read-only file system"
    r"|containerd|context (?:deadline exceeded|canceled)|transport is closing|connection refused"
    r"|error while dialing|shutting down|ttrpc|device or resource busy|cgroup",
    re.IGNORECASE,
)
#: a job's own mistakes that come as a 5xx or a 404
_OWN = re.compile(
    r"unable to find (?:user|group)|no matching entries in (?:passwd|group) file"
    r"|uids and gids must be|network \S+ not found|cannot mkdir|OCI runtime create failed"
    r"|unable to find network|invalid signal"
    r"|executable file not found|exec format error|oci permission denied|crun: ",
    re.IGNORECASE,
)
#: what stands around the cause and tells a person nothing
_WRAPPING = re.compile(
    r"^(?:failed to create (?:shim|shim task|task for container)|OCI runtime create failed"
    r"|runc create failed|container_linux\.go:\d+|starting container process caused"
    r"|unable to start container process|error during container init"
    r"|invalid mount config for type \"bind\"): ",
)
#: `docker-init` (tini) found no program; with an init the engine itself calls the start a success
_TINI = re.compile(
    rb"\[FATAL tini \(\d+\)\] exec (?P<what>.{1,300}?) failed: (?P<why>[^\n]{1,100})"
)
_CATATONIT = re.compile(rb"ERROR \(catatonit:\d+\): failed to exec pid1: (?P<why>[^\n]{1,100})")


def readable(text: str) -> str:
    """The engine's text without its wrapping, on one line of at most 300 characters."""
    line = " ".join(text.split())
    while (match := _WRAPPING.match(line)) is not None:
        line = line[match.end() :]
    line = line.removesuffix(": unknown").removesuffix(": unknown.")
    return line if len(line) <= 300 else line[:299] + "…"


def is_hosts_fault(status: int, text: str) -> bool:
    """Whether an error on create or start is the host's trouble, so that the start may be repeated.

    A 4xx is the attempt's own fault unless its text names trouble of the host; a 5xx is the
    host's unless its text names a mistake of the job.
    """
    if status == 408 or status == 429:
        return True
    if _HOST.search(text):
        return True
    return status >= 500 and not _OWN.search(text)


def refused(ref: str, status: int, text: str, exit_code: int | None) -> StartRefusedError:
    """The error for an attempt that cannot be started by its own fault, with what to do about it.

    `exit_code` is what the engine wrote down for the container; only 126 and 127 of a program
    that could not be executed are kept, a mount that failed is no exit status.
    """
    cause = readable(text)
    lower = cause.lower()
    code = exit_code if exit_code in (126, 127) and "exec" in lower else None
    if code == 127:
        advice = "name a command that the image has"
    elif code == 126:
        advice = "name a command that can be executed"
    elif "passwd file" in lower or "group file" in lower or "uids and gids" in lower:
        advice = "name a user that the image has, or a number"
    elif "network" in lower:
        advice = "create the network, or name another"
    elif "memory limit" in lower:
        advice = "raise resources.memory"
    elif "range of cpus" in lower:
        advice = "change resources.cpus"
    elif "mount" in lower or "bind source" in lower:
        advice = "correct the job's mounts"
    else:
        advice = "correct the job"
    return StartRefusedError(f"{ref}: not started: {cause}; {advice}", code)


def missing_program(output: bytes) -> tuple[int, str] | None:
    """What the init said when it could not execute the attempt's command, or None.

    With the exit status that a shell would give: 127 for no such command, 126 for one that cannot
    be executed. Podman's init gives 1 for both.
    """
    match = _TINI.search(output) or _CATATONIT.search(output)
    if match is None:
        return None
    cause = match["why"].decode("utf-8", "replace").lower()
    named = match.groupdict().get("what")
    what = repr(named.decode("utf-8", "replace")) if named else "the command"
    return 127 if "no such file" in cause else 126, f"cannot execute {what}: {cause}"
