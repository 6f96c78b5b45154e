"""`jobctl run`: queues a run, follows its output, and exits as it did."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jobctl import shape
from jobctl.commands.logs import Writer
from jobctl.commands.queue import (
    add_run_arguments,
    check_job,
    open_payload,
    options,
    tell_time,
)
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client
    from jobctl.follow import Followed

MANUAL = """\
Queues a run of JOB, follows its output over all its attempts, and exits as it did. Ctrl-C leaves
it running and says how to return. ARGS behind `--` are put behind the job's command.

  jobctl run sendemail -f mail.json
  jobctl run report -- --month 2026-02

JSON: -o json writes the run once it has ended, and no output of it; -o jsonl one line for each
line of output, then the run."""

USAGE = "JOB [OPTIONS] [-- ARGS...]"
TAKES_REST = True

#: seconds between lines of progress where they are not overwritten in place
_PROGRESS_EVERY = 5.0


def add_arguments(parser: ArgumentParser) -> None:
    """What `queue` has for one run, and --timestamps, --raw of `logs`."""
    add_run_arguments(parser)
    parser.add_argument("--timestamps", action="store_true", help="the time before each line")
    parser.add_argument("--raw", action="store_true", help="bytes as they are, on a terminal too")


def check(given: Namespace, out: Output) -> None:
    """Reads what has a form, before anything is asked."""
    check_job(given.job)
    options(given, out)


def run(given: Namespace, client: Client, out: Output) -> int:
    """Queues, follows, exits as the run did."""
    tell_time(given, out)
    answer = client.queue(given.job, open_payload(given, out), **options(given, out))
    queued = answer["runs"][0]
    for warning in answer.get("warnings") or ():
        out.note(str(warning))
    number = queued["id"]
    if out.mode == "id":
        out.line(str(number))
        out.flush()
    else:
        already = ", queued before with this key" if queued["existing"] else ""
        out.note(f"run {number} of {given.job}{already}")
    try:
        ended = _follow(number, given, client, out)
    except KeyboardInterrupt:
        out.note(f"run {number} goes on; return to it with: jobctl logs -f {number}")
        raise
    if out.json:
        out.value(ended)
    elif ended.get("status") != "succeeded":
        out.note(f"run {number} {shape.ending(ended)}")
    return shape.exit_status(ended)


def _follow(number: int, given: Namespace, client: Client, out: Output) -> dict[str, Any]:
    ended: dict[str, Any]
    if out.mode in ("json", "id"):
        ended = client.wait(number)
        return ended
    writer = _RunWriter(out, client, number, raw=given.raw, stamps=given.timestamps)
    writer.write_all(
        client.follow(
            str(number),
            whole=True,
            follow=True,
            progress=writer.progress,
            next_attempt=writer.between,
        )
    )
    ended = client.show(number)
    return ended


class _RunWriter(Writer):
    """As `logs` writes it, and what happens between two attempts."""

    def __init__(
        self, out: Output, client: Client, number: int, *, raw: bool, stamps: bool
    ) -> None:
        super().__init__(out, raw=raw, stamps=stamps)
        self._client = client
        self._number = number
        # what takes no longer than two seconds is not worth a line in a file
        self._said_at = time.monotonic() - _PROGRESS_EVERY + 2.0

    def progress(self, text: str) -> None:
        """Shows how far the image is; on a terminal in place, elsewhere now and then."""
        if self._out.talk_terminal:
            self._out.progress(text)
        elif time.monotonic() - self._said_at >= _PROGRESS_EVERY:
            self._said_at = time.monotonic()
            self._out.note(text)

    def between(self, state: Followed) -> None:
        """Says why there is, or is not yet, a further attempt."""
        self.finish()
        row = self._client.show(self._number)
        attempts = row.get("attempts") or []
        if row.get("status") in shape.FINAL and state.attempt >= len(attempts):
            return
        why = (row.get("reason") or {}).get("text")
        if state.attempt >= len(attempts) and why:
            # the daemon knows when the next one is due, and what it waits for
            self._out.note(f"run {self._number} is {row.get('status')}: {why}")
            return
        allowed = row.get("attempts_allowed")
        of = f" of {allowed}" if allowed else ""
        last: dict[str, Any] = next((a for a in attempts if a.get("number") == state.attempt), {})
        self._out.note(f"attempt {state.attempt + 1}{of}: {_ended(last)}")


def _ended(attempt: dict[str, Any]) -> str:
    if attempt.get("error"):
        return str(attempt["error"])
    if attempt.get("outcome") == "failed" and attempt.get("exit_code") is not None:
        return f"exit status {attempt['exit_code']}"
    return f"the one before is {attempt.get('outcome') or 'over'}"
