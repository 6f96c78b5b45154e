"""The child of the shim that becomes the command: limits, user, program."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal

from jobd.engine.shim.order import END, Order

#: what a child says when it is ready to become the command, and what lets it
READY, GO = b"r", b"g"
#: the first that the kernel ends when memory is short (jobd itself stands at 0 or below)
OOM_SCORE = b"500"

_PDEATHSIG, _NAME, _SUBREAPER, _NO_NEW_PRIVS = 1, 15, 36, 38
#: what python ignores, or the shim, and a program expects to be as it is everywhere
_DEFAULTS = tuple(
    map(int, (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
)

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl


def be_server() -> None:
    """Take the name of the shims' server."""
    _prctl(_NAME, b"jobd-shims", 0, 0, 0)


def be_shim() -> None:
    """Take the shim's name, and whatever its descendants leave without a parent."""
    _prctl(_NAME, b"jobd-shim", 0, 0, 0)
    _prctl(_SUBREAPER, 1, 0, 0, 0)


class Command:
    """A child of the shim that becomes a command: forked at once, and told later which."""

    def __init__(self) -> None:
        self.out, out = os.pipe()
        self.err, err = os.pipe()
        told, self._tell = os.pipe()
        self._word, word = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            # with a writing end of its own it would never hear that the shim has died
            for fd in (self.out, self.err, self._tell, self._word):
                os.close(fd)
            _become(out, err, told, word)
        for fd in (out, err, told, word):
            os.close(fd)

    def prepare(self, order: Order) -> None:
        """Have it make itself ready: all but the command's own first step."""
        self._write(order.data)

    def let_go(self) -> bytes:
        """Let it begin; what it says then.

        `ERRNO TEXT` where it could not get ready, by the host's fault, or nothing where somebody
        killed it; READY where it runs; READY and `ERRNO TEXT` where it is no command to run.
        """
        self._write(GO)
        said = b""
        while piece := os.read(self._word, 1024):
            said += piece
        return said

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._tell, view) :]
        except BrokenPipeError:
            pass  # somebody killed it just now: its word says so


def _become(out: int, err: int, told: int, word: int) -> None:
    """Turn this process into the command that it is told. Never returns."""
    said = b"0 it could not be started, for a reason that the shim does not know"
    try:
        data = b""
        while END not in data:
            piece = os.read(told, 64 << 10)
            if not piece:
                said = b""  # the shim is gone, or needs no other
                return
            data += piece
        data, _, go = data.partition(END)
        order = Order(data + END)
        _prepare(order, out, err)
        os.write(word, READY)
        if not go and not os.read(told, 1):
            said = b""  # the shim is gone: nothing was begun
            return
        execute(order)
    except OSError as error:
        name = error.filename
        what = os.fsdecode(name) if isinstance(name, str | bytes) else ""
        text = f"{error.errno or 0} {what}{': ' if what else ''}{error.strerror or error}"
        said = text.encode("utf-8", "replace")
    finally:
        _say(word, said)
        os._exit(127)


def _say(word: int, said: bytes) -> None:
    try:
        os.write(word, said)
    except OSError:
        pass  # the shim is gone


def _prepare(order: Order, out: int, err: int) -> None:
    os.setsid()
    for number in _DEFAULTS:
        # not python's own, which makes enums of numbers in each child anew
        _libc.signal(number, None)
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
