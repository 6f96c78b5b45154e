"""An attempt's folder on the host: its files are laid out, its result is collected, it is removed.

`<work>/<run>.<attempt>/` is 0700, so the host's other users reach nothing in it; an attempt sees
only `job/` (its TASK_DIR) and `secrets/`, which are mounted. A process finds them where they are:
the folder lets its group pass (0710) and `job/` is its own. Whatever an attempt can write to is
opened without following links and believed in nothing (DURABILITY, rulings).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from jobd.core.commands import Body
from jobd.daemon.inbox import TAKEN
from jobd.daemon.outputs import Packing
from jobd.daemon.sweep import remove_tree
from jobd.engine.shim.records import boot_id
from jobd.errors import RefusedError
from jobd.journal.bodies import Bodies

#: what a result may be long, in bytes
RESULT_LIMIT = 16 << 20
#: what the files of an output folder may be in all, in bytes, where nothing else is said
OUTPUT_LIMIT = 256 << 20
#: up to this many bytes a result lives in the journal itself (ARCHITECTURE, "Bodies")
INLINE = 4 << 10

#: the file in an attempt's folder, beside what is mounted, that tells which start of the kernel
#: it was laid out in
_BOOT = "boot"


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Inputs:
    """What an attempt is given: files' bytes; `secrets` by the names of their files.

    `in_place`: nothing is mounted, the attempt finds its files where they are, and its secrets in
    TASK_DIR itself. `owner` is the user and group it runs as, where that is not the daemon's own.
    """

    #: a file's path: it is not copied, but mounted, or linked where it is found in place
    payload: bytes | Body | Path = b""
    config: bytes = b""
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    #: results of its parents, by run
    parents: Mapping[int, bytes | Body] = field(default_factory=dict)
    in_place: bool = False
    owner: tuple[int, int] | None = None
    #: jobs whose runs it may queue by files; None: it asks nothing from inside
    queues: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """A result, or None where there is none; `note` says why one that was there is not taken."""

    result: bytes | Body | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """The tar of an output folder, or None where that was empty; `note` says what is not in it."""

    body: Body | None = None
    files: int = 0
    note: str | None = None


class Workdir:
    """The folder of one attempt. For one thread at a time."""

    def __init__(
        self,
        work: Path,
        run: int,
        attempt: int,
        bodies: Bodies,
        output_limit: int = OUTPUT_LIMIT,
    ) -> None:
        """`work` is the folder of all attempts' folders; nothing is touched yet.

        `output_limit` bounds the bytes of the files in its output folder that are kept.
        """
        self._output_limit = output_limit
        self._work = work.absolute()  # it is mounted: an engine takes no other
        self._name = f"{run:d}.{attempt:d}"
        self._bodies = bodies
        self.path = self._work / self._name
        #: what is mounted as the attempt's TASK_DIR
        self.task_dir = self.path / "job"
        #: what is mounted read-only at `/job/secrets`, where the job has file secrets
        self.secrets_dir = self.path / "secrets"

    def prepare(self, inputs: Inputs) -> None:
        """Lay out the attempt's files: all of them, or none.

        A folder that is there is left as it is: a daemon that crashed between the start of the
        attempt and its record would else empty the result of a running attempt. Nothing is
        synced, six syncs an attempt would be: all of it can be made again from the queue. So what
        an earlier start of the kernel has laid out is made anew, as a power cut may have left
        files without their bytes, and nothing that ran then runs any more. Raises OSError, and
        QueueDamagedError where the payload's body is damaged.
        """
        work = self._open_work()
        try:
            boot = boot_id().encode()
            if _exists(work, self._name):
                if _laid_out_in(work, self._name, boot):
                    return
                remove_tree(work, self._name)
            building = f".{self._name}.new"
            remove_tree(work, building)
            os.mkdir(building, 0o700, dir_fd=work)
            with _entered(work, building) as folder:
                # first of all: wherever the folder is to be found after a power cut, this is too
                _write(folder, _BOOT, [boot], 0o600)
                self._lay_out(folder, inputs)
                if inputs.owner is not None:
                    # its own user may pass, and nobody else; what is not the user's stays so
                    os.fchown(folder, -1, inputs.owner[1])
                    os.fchmod(folder, 0o710)
            os.rename(building, self._name, src_dir_fd=work, dst_dir_fd=work)
        finally:
            os.close(work)

    def _open_work(self) -> int:
        try:
            return os.open(self._work, _DIRECTORY)
        except FileNotFoundError:
            self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self._work, _DIRECTORY)

    def _lay_out(self, folder: int, inputs: Inputs) -> None:
        _make(folder, "job", 0o755)
        with _entered(folder, "job") as job:
            payload = inputs.payload
            # never a hard link: the attempt may be root in its container and write to the body
            if isinstance(payload, Path):
                source: Iterable[bytes] = ()  # what it is mounted over
            else:
                source = [payload] if isinstance(payload, bytes) else self._bodies.chunks(payload)
            _write(job, "payload", source, 0o644)
            _write(job, "config", [inputs.config], 0o644)
            _write(job, "result", [], 0o666)
            _make(job, "out", 0o777)
            if inputs.parents:
                _make(job, "parents", 0o755)
                with _entered(job, "parents") as parents:
                    self._lay_out_parents(parents, inputs)
            if inputs.queues is not None:
                _lay_out_api(job, inputs)
            if inputs.secrets:
                _make(job, "secrets", 0o755)  # where the mount goes
                if inputs.in_place:
                    _write_secrets(job, inputs)
            if inputs.owner is not None:
                _give(job, inputs.owner)
            if isinstance(payload, Path) and inputs.in_place:
                # behind _give: it stays its owner's
                os.unlink("payload", dir_fd=job)
                _link(payload, job, "payload")
        if inputs.queues is not None:
            _make(folder, "api", 0o755)
            _make(folder, TAKEN, 0o700)
        if inputs.secrets and not inputs.in_place:
            _make(folder, "secrets", 0o755)
            _write_secrets(folder, inputs)

    def _lay_out_parents(self, folder: int, inputs: Inputs) -> None:
        for run, result in inputs.parents.items():
            _make(folder, f"{run:d}", 0o755)
            with _entered(folder, f"{run:d}") as one:
                source = [result] if isinstance(result, bytes) else self._bodies.chunks(result)
                _write(one, "result", source, 0o644)
                os.fsync(one)
        os.fsync(folder)

    def collect_result(self, limit: int = RESULT_LIMIT) -> Collected:
        """What the attempt has left as its result; empty is none.

        Raises RefusedError where the disk has no room for it (try again), DiskFailedError. A
        result that is no plain file, or longer than `limit` bytes, is refused with a note.
        """
        try:
            data, note = self._read_result(limit)
        except FileNotFoundError:
            return Collected()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise RefusedError(f"result: {error.strerror}") from error
            reason = "is a link" if error.errno == errno.ELOOP else error.strerror
            return Collected(note=f"result not taken: {reason}")
        if note or not data:
            return Collected(note=note)
        return Collected(data if len(data) <= INLINE else self._bodies.put(data))

    def _read_result(self, limit: int) -> tuple[bytes, str | None]:
        folder = os.open(self.path, _DIRECTORY)
        try:
            with _entered(folder, "job") as job:
                # looked at first: opening a device or a pipe may do something
                if not stat.S_ISREG(os.stat("result", dir_fd=job, follow_symlinks=False).st_mode):
                    return b"", "result not taken: is no regular file"
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                fd = os.open("result", flags, dir_fd=job)
        finally:
            os.close(folder)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                return b"", "result not taken: is no regular file"
            if found.st_nlink != 1:
                return b"", "result not taken: has other names (hard links)"
            data = _read_up_to(fd, limit + 1) if found.st_size <= limit else b""
            if found.st_size > limit or len(data) > limit:
                return b"", (
                    f"result not taken: {max(found.st_size, len(data))} bytes, "
                    f"at most {limit} are kept"
                )
            return data, None
        finally:
            os.close(fd)

    def collect_output(self) -> Output:
        """What the attempt has left in OUTPUT_DIR, as a tar (daemon/outputs.py).

        Raises RefusedError where the disk has no room for it (try again), DiskFailedError.
        """
        try:
            folder = os.open(self.path, _DIRECTORY)
        except FileNotFoundError:
            return Output()
        try:
            with _entered(folder, "job") as job, _entered(job, "out") as out:
                return self._pack(out)
        except OSError as error:
            return Output(note=f"output not kept: OUTPUT_DIR: {error.strerror}")
        finally:
            os.close(folder)

    def _pack(self, out: int) -> Output:
        packing = Packing(out, self._output_limit)
        with closing(packing.chunks()) as chunks:
            first = next(chunks, None)
            body = None if first is None else self._bodies.put_all(chain([first], chunks))
        return Output(body, packing.files, packing.note)

    def remove(self) -> bool:
        """Remove the folder and all in it; False where something could not be removed.

        Raises OSError only where the folder of all attempts cannot be opened.
        """
        try:
            work = os.open(self._work, _DIRECTORY)
        except FileNotFoundError:
            return True
        try:
            return remove_tree(work, self._name)
        finally:
            os.close(work)


def sweep_workdirs(work: Path, live: Iterable[tuple[int, int]]) -> list[str]:
    """Remove the folders of attempts that are not in `live`; the names removed.

    For the daemon's start, before any attempt is started.
    """
    keep = {f"{run:d}.{attempt:d}" for run, attempt in live}
    try:
        folder = os.open(work, _DIRECTORY)
    except FileNotFoundError:
        return []
    try:
        names = [name for name in sorted(os.listdir(folder)) if name not in keep]
        return [name for name in names if remove_tree(folder, name)]
    finally:
        os.close(folder)


def _laid_out_in(work: int, name: str, boot: bytes) -> bool:
    """Whether an attempt's folder was laid out since the kernel was started."""
    with _entered(work, name) as folder:
        try:
            fd = os.open(_BOOT, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            return True  # by an earlier version, which synced all that it made
    try:
        return _read_up_to(fd, 64) == boot
    finally:
        os.close(fd)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _entered(folder: int, name: str) -> Iterator[int]:
    fd = os.open(name, _DIRECTORY, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


def _make(folder: int, name: str, mode: int) -> None:
    os.mkdir(name, 0o700, dir_fd=folder)
    os.chmod(name, mode, dir_fd=folder)  # mkdir's mode passes through the umask


def _write(folder: int, name: str, source: Iterable[bytes], mode: int) -> None:
    fd = os.open(name, _NEW, 0o600, dir_fd=folder)
    try:
        for chunk in source:
            view = memoryview(chunk)
            while view:
                view = view[os.write(fd, view) :]
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _link(source: Path, folder: int, name: str) -> None:
    """A file under one more name; a copy where that cannot be: another disk, another's file."""
    try:
        os.link(source, name, dst_dir_fd=folder, follow_symlinks=False)
        return
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            raise
    fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _write(folder, name, iter(lambda: os.read(fd, 1 << 20), b""), 0o644)
    finally:
        os.close(fd)


def _lay_out_api(job: int, inputs: Inputs) -> None:
    """What it says by files: how far it is, and what it queues (daemon/inbox.py)."""
    _write(job, "progress", [], 0o666)
    _make(job, "queue", 0o777)
    with _entered(job, "queue") as queue:
        for name in dict.fromkeys(inputs.queues or ()):
            _make(queue, name, 0o777)
    if not inputs.in_place:
        _make(job, "api", 0o755)  # where the mount goes


def _write_secrets(folder: int, inputs: Inputs) -> None:
    with _entered(folder, "secrets") as secrets:
        for name, data in inputs.secrets.items():
            _write(secrets, name, [data], 0o444)
        if inputs.owner is not None:
            _give(secrets, inputs.owner)


def _give(folder: int, owner: tuple[int, int]) -> None:
    """Make a folder that was just laid out, and what is in it, the attempt's own."""
    for name in os.listdir(folder):
        os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
    os.fchown(folder, *owner)


def _read_up_to(fd: int, limit: int) -> bytes:
    data = bytearray()
    while len(data) < limit and (chunk := os.read(fd, min(1 << 20, limit - len(data)))):
        data += chunk
    return bytes(data)
