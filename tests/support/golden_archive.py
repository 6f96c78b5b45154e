"""Makes a golden archive: files of the archive as this version writes them.

    python -m tests.support.golden_archive tests/data/archive-2

With `expected.json`: what has to be read from it for ever. A new one is due when `RunStands`,
`RevisionStands` or the format is new; those that are there are never made again.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from jobd.codec import unpack
from jobd.core.entities import Job
from jobd.core.restoring import run_in
from jobd.core.statements import TYPE_OF, RevisionStands, RunStands, end_in, payload_in
from jobd.core.stored import stored
from jobd.journal import Fs
from jobd.journal.archive import Archive
from tests.support.archiverig import ArchiveRig, Q
from tests.support.sim_disk import SimDisk


def make(folder: Path) -> None:
    """The archive in `folder`, which must not be there, and what is to be read from it."""
    disk = SimDisk()
    disk.mkdir(Q)
    with tempfile.TemporaryDirectory() as place:
        rig = ArchiveRig(disk, Path(place) / "index", 0)
        rig.register(1)
        rig.register(2)
        for run in range(1, 11):
            rig.live(run, 1 + run % 2)
            if run == 6:
                rig.keep()
                rig.archive.roll("runs")
        rig.keep()
        rig.close()
    folder.mkdir()
    for name in disk.listdir(f"{Q}/archive"):
        (folder / name).write_bytes(disk.data(f"{Q}/archive/{name}"))
    text = json.dumps(listing(folder), indent=1, sort_keys=True)
    (folder / "expected.json").write_text(text + "\n")


def listing(folder: Path) -> dict[str, Any]:
    """What the archive in `folder` tells, in JSON's values."""
    archive = Archive(Fs(), str(folder), bytes(16))
    told: dict[str, Any] = {"runs": {}, "segments": {}}
    for number in archive.numbers():
        jobs: dict[int, Job] = {}
        runs = []
        for part in archive.scan(number, archive.start_of(number)):
            assert part.hole is None
            for one in part.records:
                if one.type == TYPE_OF[RevisionStands]:
                    _take_revision(jobs, one.id, archive.read(one.where).body)
                elif one.type == TYPE_OF[RunStands]:
                    runs.append(one.id)
                    told["runs"][str(one.id)] = _run(jobs, one.id, archive.read(one.where).body)
        told["segments"][str(number)] = [archive.series_of(number), runs]
    return told


def _take_revision(jobs: dict[int, Job], number: int, body: bytes) -> None:
    fields = unpack(body)
    spec, notes = stored(fields[1], fields[1]["name"])
    assert not notes
    job = jobs.setdefault(number, Job(number, spec.name))
    job.revisions[fields[0]] = spec


def _run(jobs: dict[int, Job], number: int, body: bytes) -> dict[str, Any]:
    run = run_in(jobs[unpack(body)[0]], number, 0, body)
    ends = [
        end_in(TYPE_OF[RunStands], number, attempt.number, body) for attempt in run.attempts or ()
    ]
    return {
        "job": [run.job.name, run.revision, run.spec.image],
        "state": [run.state.name, run.priority, run.queued_at, run.size],
        "origin": list(run.origin),
        "options": run.options,
        "payload": None if run.body else payload_in(TYPE_OF[RunStands], number, body).hex(),
        "body": [run.body.name, run.body.size, run.body.crc] if run.body else None,
        "note": run.note._asdict() if run.note is not None else None,
        "attempts": [
            {name: v.hex() if isinstance(v, bytes) else v for name, v in end._asdict().items()}
            for end in ends
        ],
    }


if __name__ == "__main__":
    make(Path(sys.argv[1]))
