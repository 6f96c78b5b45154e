"""`jobctl queue`: queues runs, and prints an id for each once it is on disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jobctl import values
from jobctl.arguments import typed
from jobctl.commands.wait import follow_up
from jobctl.output import Output, now
from jobd.errors import JobdError, UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client, Readable

MANUAL = """\
Queues a run of JOB, or several, and prints their ids, one a line. An id that is printed is on
disk. ARGS behind `--` are put behind the job's command.

  jobctl queue sendemail -p '{"to": "ops@example.com"}'
  jobctl queue resize -f photo.jpg --key photo-1 --in 10m
  jobctl queue crawl --each-line urls.txt
  jobctl queue report --after 42 --after 43:any

With --after the run is `blocked` until those runs have ended, and `skipped` where one ends in
another way than was asked for: `ok` (it succeeded; the default), `fail` (in any other way), `any`.
--unmet fail or hold ends or keeps it instead. It finds what its parents left as results in
/job/parents/RUN/result ($TASK_DIR/parents/RUN/result).

Many runs are sent in requests of at most 1000, each acknowledged and printed before the next; they
share BATCH_ID. With --spool, or JOBCTL_SPOOL=1 in the environment, a request that finds jobd down
is dropped as a file into the job's folder, which is told on stderr, and queued once jobd is back:
its id is not known before. Ctrl-C tells how many are queued, and how to queue the rest.

JSON: {"runs": [{"id", "existing"}]}. `existing` is true where --key had made the run before."""

USAGE = "JOB [OPTIONS] [-- ARGS...]"
TAKES_REST = True


def add_arguments(parser: ArgumentParser) -> None:
    """All of `queue`."""
    add_run_arguments(parser)
    many = parser.add_argument_group("many at once").add_mutually_exclusive_group()
    many.add_argument("--count", metavar="N", type=typed(values.positive), help="runs alike")
    many.add_argument(
        "--each-line",
        metavar="FILE",
        help="one run for each line of FILE (-: stdin); empty lines are left out",
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait for the end, and exit as the run did"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be queued")
    parser.add_argument(
        "--spool",
        action="store_true",
        help="while jobd is down: drop it into the job's folder (JOBCTL_SPOOL=1)",
    )


def add_run_arguments(parser: ArgumentParser) -> None:
    """What `queue` and `run` have in common: the job, and all that a run may be given."""
    parser.add_argument("job", metavar="JOB")
    payload = parser.add_mutually_exclusive_group()
    payload.add_argument("-p", "--payload", metavar="TEXT", help="the payload")
    payload.add_argument("-f", "--file", metavar="FILE", help="the payload's file; -: stdin")
    parser.add_argument("--priority", metavar="N", type=typed(values.whole), help="higher first")
    due = parser.add_mutually_exclusive_group()
    due.add_argument("--in", dest="delay", metavar="D", help="not before so long from now (10m)")
    due.add_argument("--at", metavar="T", help="not before a time (tomorrow 08:00)")
    parser.add_argument(
        "--expires", metavar="D", type=typed(values.duration), help="give up if not started by then"
    )
    parser.add_argument(
        "--timeout", metavar="D", type=typed(values.duration), help="of one attempt"
    )
    parser.add_argument("--env", metavar="K=V", action="append", help="a variable; may be repeated")
    parser.add_argument("--label", metavar="K=V", action="append", help="a label; may be repeated")
    parser.add_argument(
        "--after",
        metavar="RUN[:ok|any|fail]",
        action="append",
        type=typed(values.after),
        help="start once RUN has succeeded (ok), ended, or failed; may be repeated",
    )
    parser.add_argument(
        "--unmet",
        metavar="skip|fail|hold",
        choices=("skip", "fail", "hold"),
        help="with --after: what becomes of it where one ends otherwise (skip)",
    )
    parser.add_argument(
        "--key", metavar="KEY", help="the run of this job that has the key is returned, if any"
    )
    parser.add_argument(
        "--latest", action="store_true", help="with --key: those that wait with it are skipped"
    )
    parser.add_argument(
        "--debounce",
        metavar="D",
        type=typed(values.duration),
        help="with --key: start when no other has come for so long; older ones are skipped",
    )
    parser.add_argument(
        "--mutex", metavar="KEY", help="of the runs with this KEY, of any job, one at a time starts"
    )


def check(given: Namespace, out: Output) -> None:
    """Refuses what cannot be meant together, before anything is asked."""
    check_job(given.job)
    if given.each_line and (given.payload is not None or given.file):
        raise UsageError("queue: --each-line brings the payloads: not with -p or -f")
    if given.key and (given.each_line or given.count):
        raise UsageError("queue: --key names one run: not with --count or --each-line")
    check_latest(given)
    if given.spool and (given.dry_run or given.wait or given.after or given.latest):
        raise UsageError("queue: --spool goes with none of --dry-run, --wait, --after, --latest")
    if given.dry_run and (given.each_line or given.wait):
        raise UsageError("queue: --dry-run goes with neither --each-line nor --wait")
    options(given, out)


def check_latest(given: Namespace) -> None:
    """Refuses --latest and --debounce without the key that they go by."""
    if (given.latest or given.debounce is not None) and not given.key:
        raise UsageError("--latest and --debounce go with --key: which runs are meant")
    if given.debounce is not None and (given.delay or given.at or given.after):
        raise UsageError("--debounce says when the run starts: not with --in, --at or --after")


def check_job(name: str) -> None:
    """Refuses what cannot be a job's name: mostly a run's id."""
    if not values.is_job_name(name):
        raise UsageError(
            f"{name!r:.80} is not a job's name: a letter, then letters, digits, '.', '_', '-', "
            "63 in all"
        )


def options(given: Namespace, out: Output) -> dict[str, Any]:
    """The arguments of Client.queue that the command line gives, but for payload and number."""
    from datetime import datetime, timedelta

    made: dict[str, Any] = {
        "priority": given.priority,
        "expires": None if given.expires is None else given.expires / 1000,
        "timeout": None if given.timeout is None else given.timeout / 1000,
        "env": values.pairs(given.env, "--env"),
        "labels": values.pairs(given.label, "--label"),
        "args": given.rest,
        "key": given.key,
        "mutex": given.mutex,
        "unmet": given.unmet,
        "latest": given.latest,
        "debounce": None if given.debounce is None else given.debounce / 1000,
        "after": given.after or (),
    }
    clock = now()
    text = given.delay or given.at
    if text is not None:
        at, dated = values.when(text, clock)
        if not dated and given.delay:
            # counted by the daemon, from when it takes the request
            made["delay"] = (at - clock) / 1000
        else:
            made["at"] = datetime.fromtimestamp(0).astimezone() + timedelta(milliseconds=at)
    return made


def tell_time(given: Namespace, out: Output) -> None:
    """Says what a date was taken for, since the zone is the client's."""
    text = given.delay or given.at
    if text is None:
        return
    clock = now()
    at, dated = values.when(text, clock)
    if dated and text.strip().lower() != "now":
        from jobctl.render import age

        ahead = age(at, clock) if at > clock + 500 else "that is past: due at once"
        out.note(f"{text}: {values.clock(at)} ({ahead})")


def open_payload(given: Namespace, out: Output) -> bytes | Readable:
    """What the payload is read from."""
    if given.payload is not None:
        return values.payload_bytes(given.payload)
    if not given.file:
        return b""
    source: Readable = open_file(given.file, "-f", out)
    return source


def open_file(path: str, option: str, out: Output) -> Any:
    """A file that a payload is read from; `-` is stdin."""
    if path == "-":
        if sys.stdin.isatty():
            out.note("reading from the terminal; Ctrl-D ends it")
        return sys.stdin.buffer
    try:
        return open(path, "rb")
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}") from None


def run(given: Namespace, client: Client, out: Output) -> int:
    """Queues; with --wait, waits."""
    tell_time(given, out)
    made = options(given, out)
    if given.dry_run:
        return _dry_run(given, client, out, made)
    if _to_be_dropped(given, client):
        return _drop(given, client, out, made)
    done: list[dict[str, Any]] = []
    many = given.each_line or given.count
    try:
        for answer in _answers(given, client, out, made):
            done.extend(answer["runs"])
            _acknowledge(answer, given.key, out)
            if many and not out.terminal:
                out.progress(f"{len(done)} runs queued")
    except JobdError as error:
        return _failed(error, done, out)
    except KeyboardInterrupt:
        if many:
            out.note(_interrupted(done, client.request_key))
        raise
    if not given.wait:
        show_queued(done, out)
        return 0
    return follow_up(done, client, out)


def _to_be_dropped(given: Namespace, client: Client) -> bool:
    """Whether jobd is down and the request is to go into the spool."""
    if not given.spool and (given.wait or os.environ.get("JOBCTL_SPOOL", "0") in ("", "0")):
        return False
    from jobctl import spooling

    return spooling.is_down(client.place)


def _drop(given: Namespace, client: Client, out: Output, made: dict[str, Any]) -> int:
    from jobctl import spooling

    many = bool(given.each_line or given.count)
    settings = spooling.settings_of(made, many, client.request_key)
    payloads: list[bytes | Readable]
    if given.each_line:
        with open_file(given.each_line, "--each-line", out) as file:
            payloads = [*_Lines(file).read()]
    else:
        payload = open_payload(given, out)
        if many and not isinstance(payload, bytes):
            payload = payload.read(-1)
        payloads = [payload] * (given.count or 1)
    paths = spooling.drop(client.place, given.job, payloads, settings, client.request_key, out)
    where = paths[0] if len(paths) == 1 else f"{len(paths)} files"
    out.note(f"jobd is down: dropped as {where}; it is queued when jobd is there again")
    if out.mode == "json":
        out.value({"runs": [], "spooled": paths})
    elif out.mode == "jsonl":
        out.values([{"spooled": path} for path in paths])
    return 0


def _interrupted(done: list[dict[str, Any]], key: bytes) -> str:
    """What is known in the middle of many: the last request may have been taken or not."""
    known = f"{len(done)} runs are queued for certain"
    if done:
        known += f", the last is {done[-1]['id']}"
    return (
        f"interrupted: {known}; the same command with --request-key {key.hex()} queues the rest "
        "and none twice"
    )


def _acknowledge(answer: dict[str, Any], key: str | None, out: Output) -> None:
    for warning in answer.get("warnings") or ():
        out.note(str(warning))
    if out.json:
        return
    for one in answer["runs"]:
        out.line(str(one["id"]))
        if one["existing"] and key:
            out.note(f"run {one['id']} has the key {key!r} already: nothing was queued")
    out.flush()


def _answers(
    given: Namespace, client: Client, out: Output, made: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    if given.each_line:
        with open_file(given.each_line, "--each-line", out) as file:
            lines = _Lines(file)
            yield from client.queue_each(given.job, lines.read(), **made)
        if lines.empty:
            out.note(f"empty lines were left out: {lines.empty}")
        return
    payload = open_payload(given, out)
    if not given.count:
        yield client.queue(given.job, payload, **made)
        return
    # from a pipe it can be read once only, and each request carries it
    data = payload if isinstance(payload, bytes) else payload.read(-1)
    yield from client.queue_many(given.job, given.count, data, **made)


class _Lines:
    """The lines of a file as payloads, without their line ends; empty ones are counted."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.empty = 0

    def read(self) -> Iterator[bytes]:
        for line in self._file:
            line = line.removesuffix(b"\n")
            if line:
                yield line
            else:
                self.empty += 1


def show_queued(runs: list[dict[str, Any]], out: Output) -> None:
    """The JSON of what was queued; in other modes the ids are printed already."""
    if out.mode == "json":
        out.value({"runs": runs})
    elif out.mode == "jsonl":
        out.values(runs)


def _failed(error: JobdError, done: list[dict[str, Any]], out: Output) -> int:
    """An error after some were queued says how many, so that nobody starts from the beginning."""
    if done:
        error = type(error)(f"{len(done)} runs were queued, then: {error}", **error.details)
    return out.fail(error, {"runs": done} if done else None)


def _dry_run(given: Namespace, client: Client, out: Output, made: dict[str, Any]) -> int:
    from jobctl.queueing import BATCH_RUNS

    # more than one request takes are sent in several, which a dry run need not be
    count = given.count and min(given.count, BATCH_RUNS)
    answer = client.queue(given.job, open_payload(given, out), count=count, dry_run=True, **made)
    settings = answer.get("settings") or {}
    if given.count:
        settings["runs"] = given.count
    if out.json:
        out.value({"runs": [], "dry_run": True, "settings": settings})
        return 0
    from jobctl.commands.show import fields

    out.note("nothing was queued")
    for line in fields(settings):
        out.line(line)
    return 0
