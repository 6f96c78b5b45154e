"""`jobd backup DEST`: a copy of the queue that is whole in itself, made while the daemon works.

It reads files and asks nobody, so it is as good beside a daemon that hangs, is killed, or is not
there. The copy is a queue of its own: another identity, active attempts belong to the original
(their runs are held), and no run starts until a person ends the drain (DURABILITY, rulings).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jobd.core import events as e
from jobd.core.commands import Body, Caller
from jobd.core.decision import caller_fields
from jobd.core.machine import TransitionError
from jobd.core.restoring import Restoring
from jobd.core.state import State
from jobd.core.states import Outcome, RunState
from jobd.daemon.places import Places
from jobd.daemon.rewriting import write_anew
from jobd.errors import (
    ConfigError,
    DiskFailedError,
    JobdError,
    QueueDamagedError,
    RefusedError,
    VersionError,
)
from jobd.history.indexing import bodies_in
from jobd.journal import record_cost
from jobd.journal.archive import Archive
from jobd.journal.bodies import Bodies
from jobd.journal.copying import Copying
from jobd.journal.fsutil import Fs
from jobd.journal.snapshot import BadSnapshotError, Snapshot, SnapshotWriter, publish
from jobd.journal.space import is_full
from jobd.server.access import user_name

#: stands in DEST until the copy is whole
HALF = "backup.incomplete"
#: the code of what holds a run whose attempt belongs to the original
COPIED = "copied"
_HELD = (
    "was active when the queue was copied: its attempt is the original's; release it only where "
    "the original will not go on"
)
#: how often a queue is read anew whose files went while they were read
_TRIES = 20
#: of the folder of the state: what is copied as it is
_AS_IS = ("archive",)

Progress = Callable[[str, int, int], None]


def backup(
    places: Places, dest: Path, *, logs: bool, caller: list[Any], progress: Progress
) -> dict[str, Any]:
    """Copy the queue of `places` into `dest`, a home for a daemon; what was copied.

    `progress` is called with what is copied, how many bytes of it are, and of how many. Raises
    ConfigError (DEST is not empty, no queue), QueueDamagedError, RefusedError (no space),
    DiskFailedError.
    """
    half = _begin(dest)
    try:
        return _Backup(places, dest, half, caller, progress).done(logs)
    except OSError as error:
        if is_full(error):
            raise RefusedError(
                f"backup {dest}: no space ({error.strerror}); remove what is there and try again"
            ) from error
        raise DiskFailedError(
            f"backup {dest}: {error.filename or 'a file'}: {error.strerror}; remove what is there"
        ) from error


def _begin(dest: Path) -> Path:
    """Makes the folder for the unfinished copy. Raises ConfigError."""
    try:
        dest.mkdir(mode=0o700, parents=True, exist_ok=True)
        there = sorted(os.listdir(dest))
        if there == ["lost+found"]:
            there = []  # the root of a file system of its own
        if there:
            what = "an unfinished backup" if HALF in there else f"{there[0]}, ..."
            raise ConfigError(f"backup {dest}: is not empty ({what}); name an empty folder")
        half = dest / HALF
        half.mkdir(0o700)
        Fs().fsync_dir(str(dest))
        return half
    except OSError as error:
        raise ConfigError(f"backup {dest}: cannot be made ({error.strerror})") from None


class _Backup:
    """One copy under way."""

    def __init__(
        self, places: Places, dest: Path, half: Path, caller: list[Any], progress: Progress
    ) -> None:
        self._places, self._dest, self._half, self._progress = places, dest, half, progress
        self._caller = caller
        self._at = int(time.time() * 1000)
        self._fs = Fs()
        self._copied: dict[str, Any] = {"bodies": 0}
        self._damaged: list[str] = []

    def done(self, logs: bool) -> dict[str, Any]:
        (self._half / "state").mkdir(0o700)
        state = self._queue()
        # behind the queue: what leaves that for the archive is in the archive before
        for name in _AS_IS:
            self._tree(self._places.state / name, self._half / "state" / name)
        self._bodies(dict(_named(state)))
        self._bodies_of_archive()
        if self._places.config.exists():
            self._file(self._places.config, self._half / "jobd.toml")
        self._tree(self._places.jobs, self._half / "jobs.d")
        if logs:
            self._tree(self._places.logs, self._half / "log")
        told = {"dest": str(self._dest), "at": self._at, **self._copied, "damaged": self._damaged}
        self._text("backup.json", json.dumps(told, indent=1) + "\n")
        self._publish()
        return told

    def _publish(self) -> None:
        """Everything to its place, the queue last; then the mark of an unfinished copy goes."""
        fs = self._fs
        for folder, _, _ in os.walk(self._half, topdown=False):
            fs.fsync_dir(folder)
        for name in sorted(os.listdir(self._half), key=lambda name: name == "state"):
            os.rename(self._half / name, self._dest / name)
        fs.fsync_dir(str(self._dest))
        self._half.rmdir()
        fs.fsync_dir(str(self._dest))

    # -- the queue -------------------------------------------------------------------------

    def _queue(self) -> State:
        """The copy's queue, in its folder. Tried again where its files were retired meanwhile."""
        for _ in range(_TRIES):
            source = Copying(self._fs, str(self._places.state))
            try:
                return self._written(source)
            except QueueDamagedError:
                if source.still_there():
                    raise
                for name in os.listdir(self._half / "state"):
                    os.unlink(self._half / "state" / name)
            finally:
                source.close()
        raise RefusedError(f"queue {self._places.state}: changes too fast; try again")

    def _written(self, source: Copying) -> State:
        folder, store = str(self._half / "state"), os.urandom(16)
        state, snapshot = State(), None
        if source.snapshot is not None:
            state, snapshot = self._snapshot(source, source.snapshot, folder, store)
        events = self._events(source, state)
        try:
            records = write_anew(self._fs, folder, store, events, self._at, state, snapshot)
        except TransitionError as error:
            raise QueueDamagedError(
                f"queue {self._places.state}: {error}; see `jobd fsck`"
            ) from None
        self._copied |= {
            "store_of_original": source.store.hex(),
            "lsn": source.lsn,
            "records": records,
            "runs": len(state.runs),
            "held": [run.id for run in state.runs.oldest_first() if _was_active(run.note)],
        }
        return state

    def _snapshot(
        self, source: Copying, original: Snapshot, folder: str, store: bytes
    ) -> tuple[State, Snapshot]:
        """The same statements under the copy's identity, and the state that they tell of."""
        restoring = Restoring()
        path = os.path.join(folder, "snapshot.tmp")
        writer = SnapshotWriter(self._fs, path, store, original.after, self._at)
        try:
            for done, record in enumerate(source.statements(), 1):
                restoring.take(record.type, record.id, record.revision, record.body)
                writer.add(record)
                self._progress("snapshot", done, original.records)
            made = writer.finish()
        except BadSnapshotError as error:
            raise DiskFailedError(f"backup: snapshot {path} {error}; look at the disk") from None
        return restoring.state, publish(self._fs, folder, made)

    def _events(self, source: Copying, state: State) -> Iterator[e.Event]:
        """Those of the original, and what makes a copy of it: holds, and a drain.

        Whoever takes one applies it to `state` before the next.
        """
        done = 0
        for record in source.records():
            if record.type not in e.BY_TYPE:
                raise VersionError(f"queue {self._places.state}: a record of type {record.type}")
            yield e.decode(record.type, record.id, record.body)
            done += record_cost(len(record.body))
            self._progress("queue", done, source.bytes)
        yield from self._settled(state)

    def _settled(self, state: State) -> Iterator[e.Event]:
        for run in list(state.active.values()):
            attempt = run.attempt
            assert run.state is RunState.ACTIVE
            assert attempt is not None
            text = "the queue was copied while it ran: how it ended, the original knows"
            yield e.AttemptEnded(
                run.id, attempt.number, self._at, Outcome.INTERRUPTED, False, None, text
            )
            yield e.RunHeld(run.id, self._at, COPIED, _HELD, self._caller)
        for delivery in list(state.alerts.waiting.values()):
            text = "the queue was copied: the original delivers it"
            yield e.AlertTried(1, delivery.id, self._at, "given-up", self._at, text, self._caller)
        if state.host.drained_at is None:
            yield e.HostDrainStarted(1, self._at, self._caller)

    # -- files -----------------------------------------------------------------------------

    def _bodies_of_archive(self) -> None:
        """Those that archived runs name; one that is not there any more was let go of meanwhile."""
        folder = self._half / "state" / "archive"
        if not folder.is_dir():
            return
        archive = Archive(self._fs, str(folder), bytes(16))
        there = self._places.state / "bodies"
        named = {
            body.name: body
            for body in bodies_in(archive)
            if (there / body.name[:2] / body.name).exists()
            and not (self._half / "state" / "bodies" / body.name[:2] / body.name).exists()
        }
        self._bodies(named)

    def _bodies(self, named: dict[str, Body]) -> None:
        if not named:
            return
        source, damaged = Bodies(self._places.state / "bodies"), len(self._damaged)
        whole, done = sum(body.size for body in named.values()), 0
        try:
            for name, body in named.items():
                target = self._half / "state" / "bodies" / name[:2] / name
                target.parent.mkdir(0o700, parents=True, exist_ok=True)
                try:
                    with _new(target) as file:
                        for chunk in source.chunks(body):
                            file.write(chunk)
                            done += len(chunk)
                            self._progress("payloads and results", done, whole)
                        file.flush()
                        os.fsync(file.fileno())
                except (QueueDamagedError, FileNotFoundError) as error:
                    target.unlink(missing_ok=True)
                    self._damaged.append(str(error))
        finally:
            source.close()
        self._copied["bodies"] += len(named) - (len(self._damaged) - damaged)

    def _tree(self, source: Path, target: Path) -> None:
        """Files and folders, no links; one that goes meanwhile was not to be kept."""
        if not source.is_dir():
            return
        for folder, _, names in os.walk(source):
            into = target / Path(folder).relative_to(source)
            into.mkdir(0o700, parents=True, exist_ok=True)
            for number, name in enumerate(names, 1):
                try:
                    self._file(Path(folder) / name, into / name, os.O_NOFOLLOW)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ELOOP):
                        raise
                    continue
                self._progress(f"{source.name} ({Path(folder).name})", number, len(names))

    def _file(self, source: Path, target: Path, more: int = 0) -> None:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | more)
        with open(fd, "rb") as file, _new(target) as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())

    def _text(self, name: str, text: str) -> None:
        with _new(self._half / name) as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())


def _new(path: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _was_active(note: object) -> bool:
    return isinstance(note, e.RunHeld) and note.code == COPIED


def _named(state: State) -> Iterator[tuple[str, Body]]:
    """The files that runs and attempts name: payloads, results, output folders."""
    for run in state.runs.oldest_first():
        if run.body is not None:
            yield run.body.name, run.body
        for attempt in run.attempts or ():
            for body in (attempt.end.result, attempt.end.output) if attempt.end else ():
                if isinstance(body, list):
                    yield body[0], Body(*body)


def _terminal() -> Progress:
    """A line on the terminal that is written over, ten times a second; elsewhere nothing."""
    if not sys.stderr.isatty():
        return lambda what, done, whole: None
    last = 0.0

    def tell(what: str, done: int, whole: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 0.1:
            last = now
            share = min(100, 100 * done // whole) if whole else 100
            print(f"\rbackup: {what}: {share:3} %\x1b[K", end="", file=sys.stderr, flush=True)

    return tell


def main(places: Places, dest: Path, logs: bool, as_json: bool) -> int:
    """Make the copy and say what is in it; exit status 0, or 65 where files of it were damaged."""
    uid = os.getuid()
    caller = caller_fields(Caller(uid, user_name(uid), os.getpid()))
    try:
        told = backup(places, dest.absolute(), logs=logs, caller=caller, progress=_terminal())
    except JobdError as error:
        if as_json:
            print(json.dumps({"error": {"code": error.code, "message": str(error)}}))
            return error.status
        raise
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if as_json:
        print(json.dumps(told))
    else:
        held = f", {len(told['held'])} of them held as they were active" if told["held"] else ""
        print(f"backup {dest}: {told['runs']} runs{held}; secrets are not in it")
        print(f"`jobd run --home {dest}` starts on it, and `jobctl undrain` lets its runs start")
    for line in told["damaged"]:
        print(f"jobd: {line}", file=sys.stderr)
    return QueueDamagedError.status if told["damaged"] else 0
