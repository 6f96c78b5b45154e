"""`jobctl set`: changes single settings of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl import render
from jobctl.commands.queue import check_job
from jobctl.output import Output
from jobd.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Changes single settings of JOB, which makes a new revision of it; runs that are queued already keep
theirs. KEY is a key of a job file, with its table and a dot before it.

  jobctl set crawl limits.concurrency=4 timeout=10m
  jobctl set crawl env.LANG=C.UTF-8 command='sh -c "crawl --all"'
  jobctl set crawl retry.on=failed,75 --unset limits.queue

JSON: {"job", "revision", "changed", "changes": [{"key", "before", "after"}], "warnings"}."""

INTERMIXED = True

#: settings from the command line, None for --unset
Settings = dict[str, str | None]


def add_arguments(parser: ArgumentParser) -> None:
    """All of `set`."""
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("settings", metavar="KEY=VALUE", nargs="*")
    parser.add_argument(
        "--unset", metavar="KEY", action="append", help="takes the default again; may be repeated"
    )


def check(given: Namespace, out: Output) -> None:
    """A job, and something to set."""
    check_job(given.job)
    if not _settings(given):
        raise UsageError("set: expected KEY=VALUE or --unset KEY; see jobctl set --help")


def _settings(given: Namespace) -> Settings:
    made: Settings = {}
    for item in given.settings:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"set: {item!r:.80}: expected KEY=VALUE")
        made[key] = value
    made.update(dict.fromkeys(given.unset or ()))
    return made


def run(given: Namespace, client: Client, out: Output) -> int:
    """Sets."""
    answer = client.set(given.job, _settings(given))
    for warning in answer.get("warnings") or ():
        out.note(str(warning))
    if out.json:
        out.value(answer)
    elif out.mode == "id":
        out.line(str(answer["job"]))
    else:
        what = "revision" if answer["changed"] else "as it was: revision"
        out.line(f"{answer['job']}: {what} {answer['revision']}")
        for line in changes(answer["changes"]):
            out.line(f"  {line}")
    return 0


def changes(rows: list[dict[str, Any]]) -> list[str]:
    """`key: before -> after` for each change."""
    return [
        render.escape(f"{row['key']}: {_shown(row['before'])} -> {_shown(row['after'])}")
        for row in rows
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return value or "''"
    import json

    return json.dumps(value)
