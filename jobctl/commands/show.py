"""`jobctl show`: all about a run with its attempts, or about a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl import render, values
from jobctl.commands.ls import duration, reason, when
from jobctl.output import Output, now
from jobd.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Shows everything about a RUN with its attempts, or about a JOB. A number, a range or `last` is a
run; a name is a job.

  jobctl show 42
  jobctl show last:sendemail
  jobctl show sendemail"""

ATTEMPTS: list[render.Column] = [
    ("ATTEMPT", lambda row: str(row.get("number")), False),
    ("OUTCOME", lambda row: str(row.get("outcome") or "none yet"), False),
    ("EXIT", lambda row: "" if row.get("exit_code") is None else str(row["exit_code"]), False),
    ("STARTED", lambda row: render.age(when(row.get("started_at")), now()), False),
    ("RAN", duration, False),
    ("PULL", lambda row: _ms(row, "pull_ms"), False),
    ("START", lambda row: _ms(row, "start_ms"), False),
    ("CPU", lambda row: _cpu(row), False),
    ("MEMORY", lambda row: _size(row, "memory_peak"), False),
    ("LOG", lambda row: _size(row, "log_bytes") + ("!" if row.get("log_truncated") else ""), False),
    ("ERROR", lambda row: str(row.get("error") or ""), True),
]

#: how a key's value reads; the others as they are
_SIZES = ("payload_size", "result_size", "memory", "log_bytes")


def _ms(row: render.Row, key: str) -> str:
    return render.span(row[key]) if row.get(key) else ""


def _cpu(row: render.Row) -> str:
    return "" if row.get("cpu_seconds") is None else render.span(row["cpu_seconds"] * 1000)


def _size(row: render.Row, key: str) -> str:
    return render.size(row[key]) if isinstance(row.get(key), int) else ""


def add_arguments(parser: ArgumentParser) -> None:
    """All of `show`."""
    parser.add_argument("what", metavar="RUN|JOB", nargs="+")


def check(given: Namespace, out: Output) -> None:
    """Each is a run or a job's name, and not both sorts at once."""
    for text in given.what:
        if not values.is_selector(text) and not values.is_job_name(text):
            values.selector(text)
    if len({values.is_selector(text) for text in given.what}) > 1:
        raise UsageError("show: runs and jobs were given: ask for one sort at a time")


def run(given: Namespace, client: Client, out: Output) -> int:
    """Shows."""
    if values.is_selector(given.what[0]):
        _show_runs(client.show(*given.what), out)
        return 0
    jobs = [client.job(name) for name in given.what]
    if out.mode == "id":
        for job in jobs:
            out.line(str(job["name"]))
    elif out.json:
        out.value(jobs[0]) if len(jobs) == 1 else out.values(jobs)
    else:
        for index, job in enumerate(jobs):
            _gap(index, out)
            for line in fields(job):
                out.line(line)
    return 0


def _gap(index: int, out: Output) -> None:
    if index:
        out.line("")


def _show_runs(answer: Any, out: Output) -> None:
    rows = answer if isinstance(answer, list) else [answer]
    if out.mode == "id":
        for row in rows:
            out.line(str(row["id"]))
    elif out.json:
        out.value(answer) if isinstance(answer, dict) else out.values(rows)
    else:
        for index, row in enumerate(rows):
            _gap(index, out)
            _show_run(row, out)


def _show_run(row: dict[str, Any], out: Output) -> None:
    dead = " (dead)" if row.get("dead") else ""
    why = reason(row)
    head = f"run {row.get('id')} of {render.escape(str(row.get('job')))}: "
    out.line(head + out.status(str(row.get("status"))) + dead)
    if why:
        out.line(f"  {render.escape(why)}")
    rest = {
        key: value
        for key, value in row.items()
        if key not in ("id", "job", "status", "dead", "reason", "attempts")
        and value not in (None, "", {}, [], False)
    }
    ran = duration(row)
    if ran:
        rest["ran"] = ran
    for line in fields(rest):
        out.line("  " + line)
    if row.get("attempts"):
        out.table(row["attempts"], ATTEMPTS)
    for attempt in row.get("attempts") or ():
        used = receipt(attempt)
        if used:
            out.line(f"  attempt {attempt.get('number')} used: {'; '.join(used)}")
        if attempt.get("note"):
            out.line(f"  attempt {attempt.get('number')}: {render.escape(str(attempt['note']))}")


def receipt(attempt: dict[str, Any]) -> list[str]:
    """What an attempt used and where each figure comes from; what nobody could tell is left out."""
    parts = []
    if attempt.get("cpu_seconds") is not None:
        parts.append(_from(f"CPU {_cpu(attempt)}", attempt.get("cpu_source")))
    if attempt.get("memory_peak") is not None:
        peak = f"memory {_size(attempt, 'memory_peak')} at most"
        parts.append(_from(peak, attempt.get("memory_peak_source")))
    if attempt.get("block_read") is not None:
        block = f"{_size(attempt, 'block_read')} read, {_size(attempt, 'block_written')} written"
        parts.append(_from(f"disk {block}", attempt.get("block_source")))
    if attempt.get("throttled_periods"):
        held = f"{attempt.get('throttled_periods')} of {attempt.get('periods')} periods"
        text = f"held back by its CPU limit {render.span(attempt['throttled_ms'])} in {held}"
        parts.append(_from(text, attempt.get("throttle_source")))
    if attempt.get("gpus"):
        parts.append(f"GPU {', '.join(map(str, attempt['gpus']))}")
    if attempt.get("output_files"):
        size = _size(attempt, "output_size")
        count = attempt["output_files"]
        parts.append(f"{count} output file{'' if count == 1 else 's'} kept ({size})")
    return parts


def _from(text: str, source: object) -> str:
    return f"{text} ({source})" if source in ("parent", "sampled") else text


def fields(values_: dict[str, Any]) -> list[str]:
    """A map as lines of `key  value`, keys of inner maps with a dot, names escaped."""
    flat = _flat(values_, "")
    wide = max((render.width(key) for key, _ in flat), default=0)
    return [f"{key}{' ' * (wide - render.width(key))}  {text}" for key, text in flat]


def _flat(values_: dict[str, Any], prefix: str) -> list[tuple[str, str]]:
    made: list[tuple[str, str]] = []
    for key, value in values_.items():
        name = prefix + render.escape(str(key))
        if isinstance(value, int):
            name = name.removesuffix("_ms")  # a span is shown with its unit
        if isinstance(value, dict):
            made += _flat(value, name + ".")
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            for index, item in enumerate(value, 1):
                made += _flat(item, f"{name}.{index}.")
        elif value not in (None, "", []):
            made.append((name, _plain(str(key), value)))
    return made


def _plain(key: str, value: Any) -> str:
    if key == "isolation" and value == "none":
        return "none: a process of the host, not isolated"
    at = when(value) if key.endswith("_at") or key == "not_before" else None
    if at is not None:
        ago = render.age(at, now())
        return f"{values.clock(at)} ({ago if ago.startswith('in ') else ago + ' ago'})"
    if key in _SIZES and isinstance(value, int):
        return render.size(value)
    if key.endswith("_ms") and isinstance(value, int):
        return render.span(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(_word(str(item)) for item in value)
    return render.escape(str(value))


def _word(text: str) -> str:
    """A word of a command line, quoted where it would be two."""
    text = render.escape(text)
    return (
        text if text and not set(text) & set(" \"'$`\\") else "'" + text.replace("'", "'\\''") + "'"
    )
