"""The side of the shim that becomes the command: limits, user, program."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal

from jobd.engine.shim.order import Order

#: the first that the kernel ends when memory is short (jobd itself stands at 0 or below)
OOM_SCORE = b"500"

_PDEATHSIG, _NAME, _SUBREAPER, _NO_NEW_PRIVS = 1, 15, 36, 38
#: what python ignores, or the shim, and a program expects to be as it is everywhere
_DEFAULTS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def be_server() -> None:
    """Take the name of the shims' server."""
    _prctl(_NAME, b"jobd-shims", 0, 0, 0)


def be_shim() -> None:
    """Take the shim's name, and whatever its descendants leave without a parent."""
    _prctl(_NAME, b"jobd-shim", 0, 0, 0)
    _prctl(_SUBREAPER, 1, 0, 0, 0)


def become(order: Order, out: int, err: int, go: int, word: int) -> None:
    """Turn this process, a child of the shim, into the command. Never returns.

    Writes `r` to `word` when all is ready but the command itself, waits for a byte from `go`, and
    writes `ERRNO TEXT` to `word` where it fails: before the `r` that is the host's fault, behind
    it the command's. Nothing more where the command runs.
    """
    said = "0 it could not be started, for a reason that the shim does not know"
    try:
        _prepare(order, out, err)
        os.write(word, b"r")
        if not os.read(go, 1):
            said = ""  # the shim is gone, and this process on no record: nothing was begun
            return
        execute(order)
    except OSError as error:
        name = error.filename
        what = os.fsdecode(name) if isinstance(name, str | bytes) else ""
        said = f"{error.errno or 0} {what}{': ' if what else ''}{error.strerror or error}"
    finally:
        os.write(word, said.encode("utf-8", "replace"))
        os._exit(127)


def _prepare(order: Order, out: int, err: int) -> None:
    os.setsid()
    for number in _DEFAULTS:
        signal.signal(number, signal.SIG_DFL)
    for path in order.cgroups:
        _put(path, b"0")
    confine(order)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.umask(0o022)
    if "uid" in order.one:
        os.setgroups([])
        os.setgid(order.number("gid"))
        os.setuid(order.number("uid"))
    # by the command's user: others of that user may have put something else there
    os.dup2(os.open(order.one.get("stdin", b"/dev/null"), os.O_RDONLY), 0)
    os.chdir(order.one["cwd"])
    if _prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs was refused")
    # without the shim nobody reads its output or learns how it ended
    _prctl(_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _put(path: bytes, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


#: open files at first, as systemd gives its services
_FILES = 1024


def confine(order: Order) -> None:
    """Set the limits that a process has by itself; those of a cgroup were set by who made it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # jobd takes many for its connections; programs that use select() cannot have more than these
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    for key, limit in (("data", resource.RLIMIT_DATA), ("nproc", resource.RLIMIT_NPROC)):
        if key in order.one:
            resource.setrlimit(limit, (order.number(key),) * 2)
    if "nice" in order.one:
        os.nice(order.number("nice"))
    try:
        _put(b"/proc/self/oom_score_adj", OOM_SCORE)
    except OSError:
        pass  # jobd itself stands at a higher score, and only root may lower it


def execute(order: Order) -> None:
    """The program by its path or by PATH, as a shell finds it. Raises OSError, else never returns.

    By hand: os.execvpe imports more once it is asked, and the command's user may not be able to
    read where python keeps that.
    """
    program = order.args[0]
    denied: OSError | None = None
    if b"/" in program:
        os.execve(program, order.args, order.env)
    for folder in order.env.get(b"PATH", b"").split(b":"):
        try:
            os.execve((folder or b".") + b"/" + program, order.args, order.env)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                denied = error
    raise denied or FileNotFoundError(errno.ENOENT, "no such command", os.fsdecode(program))
