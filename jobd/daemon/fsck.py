"""`jobd fsck`: reads the queue offline and says what is sound and what is not. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobd.core.events import JOB, RUN
from jobd.errors import ConfigError, JobdError, QueueDamagedError
from jobd.journal.examine import examine
from jobd.journal.fsutil import Fs
from jobd.journal.lock import DirectoryLock


def look(state: Path) -> dict[str, Any]:
    """What the queue in `state` holds; `sound`, and where it is not, the damage.

    Raises AlreadyRunningError while a daemon has it, ConfigError where there is none.
    """
    if not state.is_dir():
        raise ConfigError(f"queue {state}: no such folder")
    fs = Fs()
    lock = DirectoryLock(fs, str(state))
    try:
        found = examine(fs, str(state))
    except QueueDamagedError as error:
        return {"queue": str(state), "sound": False, "damage": str(error), **error.details}
    finally:
        lock.release()
    tear = found.tear
    return {
        "queue": str(state),
        "sound": True,
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


def named(details: Mapping[str, Any]) -> list[str]:
    """The damaged records of a damage's details in words that people know, a line each."""
    words = {JOB: "job number", RUN: "run"}
    return [
        f"damaged: {words.get(one['kind'], 'kind ' + str(one['kind']))} {one['id']}, "
        f"its change {one['revision']}"
        for one in details.get("damaged", ())
    ]


def main(state: Path, as_json: bool) -> int:
    """Print what :func:`look` finds; exit status 0 or 65."""
    try:
        found = look(state)
    except JobdError as error:
        if as_json:
            print(json.dumps({"error": {"code": error.code, "message": str(error)}}))
            return error.status
        raise
    if as_json:
        print(json.dumps(found, default=str))
    elif not found["sound"]:
        print(found["damage"])
        for line in named(found):
            print(line)
    else:
        end = "stopped cleanly" if found["clean"] else "not stopped cleanly"
        print(
            f"queue {state}: sound: {found['records']} records in {found['segments']} segments, "
            f"{found['bytes']} bytes, {end}"
        )
        if found["torn"]:
            torn = found["torn"]
            print(
                f"{torn['file']}: torn at offset {torn['offset']}: {torn['bytes']} bytes of a "
                "batch that was never acknowledged; the next start cuts and keeps them aside"
            )
    return 0 if found["sound"] else QueueDamagedError.status
