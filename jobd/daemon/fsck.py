"""`jobd fsck`: reads the queue offline and says what is sound and what is not.

It changes nothing; `--salvage` does (daemon/salvage.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from jobd.core.commands import Caller
from jobd.core.decision import caller_fields
from jobd.core.events import HOST, JOB, RUN
from jobd.core.state import State
from jobd.daemon import archivefsck
from jobd.daemon.salvage import problem, replayed, salvage
from jobd.daemon.salvagereport import lines
from jobd.errors import ConfigError, JobdError, QueueDamagedError
from jobd.journal.examine import Examined, examine
from jobd.journal.fsutil import Fs
from jobd.journal.live import LiveSegment
from jobd.journal.lock import DirectoryLock
from jobd.journal.replay import records_of
from jobd.journal.snapshot import BadSnapshotError, lsn_of, survey
from jobd.journal.swap import pending
from jobd.server.access import user_name


def look(state: Path) -> dict[str, Any]:
    """What the queue in `state` holds; `sound`, and where it is not, the damage.

    Raises AlreadyRunningError while a daemon has it, ConfigError where there is none.
    """
    if not state.is_dir():
        raise ConfigError(f"queue {state}: no such folder")
    fs = Fs()
    lock = DirectoryLock(fs, str(state))
    try:
        if pending(fs, str(state)):
            text = f"queue {state}: a salvage was interrupted; run it again, or start the daemon"
            return {"queue": str(state), "sound": False, "damage": text}
        found = examine(fs, str(state))
        wrong = problem(fs, str(state))
        spare = [*_snapshots(fs, str(state)), *_old(fs, str(state), found)]
        archive = _archive(fs, state, found, wrong is None)
    except QueueDamagedError as error:
        archive = _archive(fs, state, None, False)
        return {"queue": str(state), "sound": False, "damage": str(error), **error.details,
                "archive": archive}  # fmt: skip
    finally:
        lock.release()
    if wrong is not None:
        return {"queue": str(state), "sound": False, "damage": wrong, "archive": archive}
    tear = found.tear
    return {
        "queue": str(state),
        "sound": all(row["sound"] for row in spare) and archive["sound"],
        # what is damaged is not needed, as long as nothing else is: a start goes on without it
        "starts": True,
        "snapshots": [row for row in spare if row["file"].endswith(".snap")],
        "old_segments": [row for row in spare if not row["file"].endswith(".snap")],
        "archive": archive,
        "clean": found.clean,
        "segments": len(found.segments),
        "records": sum(segment.records for segment in found.segments),
        "bytes": sum(segment.end for segment in found.segments),
        "torn": None
        if tear is None
        else {
            "file": tear.name,
            "offset": tear.start,
            "bytes": tear.stop - tear.start,
            "records": [[one.kind, one.id, one.revision] for one in tear.records],
        },
    }


def _snapshots(fs: Fs, directory: str) -> Iterator[dict[str, Any]]:
    """Each snapshot that is there, newest first: what it tells of, or what is wrong with it."""
    for name in sorted(filter(lsn_of, fs.listdir(directory)), reverse=True):
        row = {"file": name, "lsn": lsn_of(name), "sound": True, "damage": None}
        try:
            snapshot = survey(fs, os.path.join(directory, name))
        except BadSnapshotError as error:
            damage = f"at offset {error.offset}: it {error}"
            yield {**row, "sound": False, "damage": damage}
        else:
            yield {**row, "bytes": snapshot.bytes, "records": snapshot.records}


def _archive(fs: Fs, state: Path, found: Examined | None, sound: bool) -> dict[str, Any]:
    """What the archive holds (daemon/archivefsck.py). Raises ConfigError where it is not ours."""
    store = found.segments[-1].header.store if found and found.segments else bytes(16)

    def live() -> Container[int]:
        # of a damaged queue nobody knows: then what may be a crash's doing is not called damage
        return _Runs(replayed(fs, str(state)) if sound else None)

    try:
        folder, index = str(state / "archive"), str(state / "history.sqlite")
        return archivefsck.look(fs, folder, index, store, live)
    except OSError as error:
        raise ConfigError(f"archive {state / 'archive'}: cannot be read: {error}") from None


class _Runs:
    """The runs of a state, by id; where there is none, every run."""

    def __init__(self, state: State | None) -> None:
        self._state = state

    def __contains__(self, run: object) -> bool:
        return self._state is None or (
            isinstance(run, int) and self._state.runs.get(run) is not None
        )


def _old(fs: Fs, directory: str, found: Examined) -> Iterator[dict[str, Any]]:
    """The segments that are kept in case the newest snapshot is damaged."""
    for old in found.old:
        segment = LiveSegment(0, os.path.join(directory, old.name), old.header, old.end)
        row = {"file": old.name, "bytes": old.end, "sound": True, "damage": None}
        try:
            for _ in records_of(fs, segment, None):
                pass
        except QueueDamagedError as error:
            row |= {"sound": False, "damage": f"at offset {error.details.get('offset')}"}
        yield row


def named(details: Mapping[str, Any]) -> list[str]:
    """The damaged records of a damage's details in words that people know, a line each."""
    words = {JOB: "job number", RUN: "run", HOST: "host"}
    more = int(details.get("damaged_count", 0)) - len(details.get("damaged", ()))
    return [
        f"damaged: {words.get(one['kind'], 'kind ' + str(one['kind']))} {one['id']}, "
        f"its change {one['revision']}"
        for one in details.get("damaged", ())
    ] + ([f"damaged: {more} more records"] if more > 0 else [])


def remedy(home: Path | None) -> str:
    """The command that goes on with all that is intact."""
    return (
        f"`jobd fsck --salvage{f' --home {home}' if home else ''}` keeps every run that is intact, "
        "holds the damaged ones as suspect, and deletes nothing"
    )


def mend(state: Path) -> dict[str, Any]:
    """Salvage the queue in `state` (daemon/salvage.py); the report, with what is damaged of the
    archive: that is left as it is."""
    uid = os.getuid()
    caller = Caller(uid, user_name(uid), os.getpid())
    report = salvage(Fs(), str(state.absolute()), caller_fields(caller))
    archive = look(state).get("archive")
    return report if archive is None or archive["sound"] else {**report, "archive": archive}


def main(state: Path, home: Path | None, as_json: bool, salvaging: bool = False) -> int:
    """Print what :func:`look` finds, or :func:`mend` did; exit status 0 or 65."""
    try:
        found = mend(state) if salvaging else look(state)
    except JobdError as error:
        if as_json:
            print(json.dumps({"error": {"code": error.code, "message": str(error)}}))
            return error.status
        raise
    if as_json:
        print(json.dumps(found, default=str))
    elif salvaging:
        archive = archivefsck.lines(found["archive"]) if "archive" in found else ()
        print("\n".join((*lines(found), *archive)))
    elif not found.get("starts"):
        print(found["damage"])
        told = archivefsck.lines(found["archive"]) if "archive" in found else ()
        for line in (*named(found), remedy(home), *told):
            print(line)
    else:
        twice = all(row["sound"] for row in (*found["snapshots"], *found["old_segments"]))
        word = "sound" if twice else "damaged in what it keeps twice"
        end = "stopped cleanly" if found["clean"] else "not stopped cleanly"
        print(
            f"queue {state}: {word}: {found['records']} records in {found['segments']} segments, "
            f"{found['bytes']} bytes, {end}"
        )
        for row in (*found["snapshots"], *found["old_segments"]):
            if not row["sound"]:
                print(
                    f"{row['file']}: damaged {row['damage']}; nothing is lost: a start goes on "
                    "without it"
                )
            elif "lsn" in row:
                print(f"{row['file']}: sound: {row['records']} statements, {row['bytes']} bytes")
        print(
            *archivefsck.lines(found["archive"]),
            sep="\n",
            end="\n" * bool(found["archive"]["files"]),
        )
        if found["torn"]:
            torn = found["torn"]
            print(
                f"{torn['file']}: torn at offset {torn['offset']}: {torn['bytes']} bytes of a "
                "batch that was never acknowledged; the next start cuts and keeps them aside"
            )
    return 0 if found["sound"] else QueueDamagedError.status
