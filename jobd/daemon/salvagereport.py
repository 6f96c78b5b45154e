"""What a salvage found and did, for a program and for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobd.core.remains import Remains
from jobd.core.salvage import Verdict
from jobd.core.state import State
from jobd.journal.pieces import Gap, Wound

#: lines of a kind that a person is shown; the JSON has them all
_SHOWN = 50


def report_of(
    directory: str,
    quarantine: str,
    told: Sequence[Wound | Gap],
    remains: Remains,
    verdict: Verdict,
    state: State,
    records: int,
) -> dict[str, Any]:
    """The report as a mapping. `missing` are ranges of ids, both ends inclusive."""
    return {
        "queue": directory,
        "sound": True,
        "salvaged": True,
        "quarantine": quarantine,
        "damage": [
            {
                "file": one.file,
                "offset": one.offset,
                "what": one.why,
                "nameless": isinstance(one, Gap),
            }
            for one in told
        ],
        "suspect": [
            {
                "run": number,
                "job": state.run(number).job.name if hold.code == "suspect" else None,
                "code": hold.code,
                "why": hold.why,
            }
            for number, hold in verdict.runs.items()
        ],
        "missing": [list(pair) for pair in remains.missing()],
        "jobs": [
            {"job": state.jobs_by_id[number].name, "why": why}
            for number, why in verdict.jobs.items()
            if number in state.jobs_by_id
        ],
        "draining": bool(verdict.host),
        "kept": len(remains.runs) - len(verdict.runs),
        "records": records,
    }


def lines(report: Mapping[str, Any]) -> list[str]:
    """The report for a person; what concerns runs first, what happened to files last."""
    if not report["salvaged"]:
        return [f"queue {report['queue']}: is sound: there is nothing to salvage"]
    if "kept" not in report:
        return [
            f"queue {report['queue']}: a salvage that was interrupted is finished; what it found "
            f"is in {report['quarantine']}/report.txt"
        ]
    missing = report["missing"]
    count = sum(last - first + 1 for first, last in missing)
    out = [
        f"queue {report['queue']}: salvaged: {report['kept']} runs are untouched by the damage, "
        f"{len(report['suspect'])} are held as suspect, {count} are missing"
    ]
    out += _shown(
        [f"run {one['run']} ({one['job'] or '?'}): held as suspect: {one['why']}"
         for one in report["suspect"]]
    )  # fmt: skip
    if missing:
        ranges = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more ranges" if len(missing) > _SHOWN else ""
        out.append(f"missing, nothing of them can be read: run {ranges}{more}")
    out += _shown([f"job {one['job']}: paused: {one['why']}" for one in report["jobs"]])
    if report["draining"]:
        out.append("the host: draining, as a record of its state is damaged: jobctl undrain")
    out += _shown(
        [f"{one['file']}, offset {one['offset']}: {one['what']}" for one in report["damage"]]
    )
    out.append(f"the files as they were are in {report['quarantine']}; nothing was deleted")
    return out


def _shown(all_: list[str]) -> list[str]:
    more = len(all_) - _SHOWN
    return all_[:_SHOWN] + ([f"... and {more} more (--json has them all)"] if more > 0 else [])
