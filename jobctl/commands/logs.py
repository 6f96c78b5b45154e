"""`jobctl logs`: shows a run's output, live where asked."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from jobctl import shape, values
from jobctl.arguments import typed
from jobctl.logtext import Entry, Shower
from jobctl.output import Output, now
from jobd.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client
    from jobctl.follow import Followed

MANUAL = """\
Shows the output of a run's last attempt: its stdout on stdout, its stderr on stderr. With -f it
goes on as output comes, over further attempts, and exits as the run did.

  jobctl logs 42
  jobctl logs -f last:sendemail
  jobctl logs 42 --stderr --tail 20 --timestamps

On a terminal control characters are escaped; --raw lets them through. JSON: jsonl only, one
{"time", "stream", "text", "partial", "attempt"} a line."""


def add_arguments(parser: ArgumentParser) -> None:
    """All of `logs`."""
    parser.add_argument("run", metavar="RUN", type=typed(values.selector))
    parser.add_argument("-f", "--follow", action="store_true", help="go on as output comes")
    parser.add_argument("--attempt", metavar="N", type=typed(values.positive), help="not the last")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--stdout", action="store_true", help="stdout alone")
    which.add_argument("--stderr", action="store_true", help="stderr alone")
    parser.add_argument("--tail", metavar="N", type=typed(values.whole), help="the last N lines")
    parser.add_argument("--since", metavar="T", help="what came since (10m looks back; or a date)")
    parser.add_argument("--timestamps", action="store_true", help="the time before each line")
    parser.add_argument("--raw", action="store_true", help="bytes as they are, on a terminal too")


def check(given: Namespace, out: Output) -> None:
    """Refuses what cannot be shown."""
    if out.mode == "json":
        raise UsageError("logs: lines are no single JSON value: use -o jsonl")
    if not values.is_single(given.run):
        raise UsageError(f"logs: {given.run}: expected one run")
    if given.tail is not None and given.tail < 0:
        raise UsageError("logs: --tail: expected 0 or more")
    if given.since is not None:
        values.when(given.since, now(), back=True)


def run(given: Namespace, client: Client, out: Output) -> int:
    """Shows; with -f, exits as the run did."""
    from jobctl.follow import Followed

    since = None
    if given.since is not None:
        since, dated = values.when(given.since, now(), back=True)
        if dated:
            out.note(f"{given.since}: {values.clock(since)}")
    state = Followed()
    pick = "stdout" if given.stdout else "stderr" if given.stderr else None
    writer = Writer(out, raw=given.raw, stamps=given.timestamps, pick=pick)
    # the daemon counts lines of both streams, so the last N of one are counted here
    held = given.tail if pick else None
    pieces = client.follow(
        given.run,
        attempt=given.attempt,
        tail=None if pick else given.tail,
        since=since,
        follow=given.follow,
        next_attempt=writer.between,
        progress=out.progress,
        state=state,
    )
    writer.write_all(pieces, held)
    if not state.attempt:
        out.note(f"run {state.run}: no attempt has begun, it is {state.status}")
    elif not (writer.wrote or given.follow or pick or since or given.tail is not None):
        out.note(f"run {state.run}: attempt {state.attempt} wrote nothing, it is {state.status}")
    if not given.follow:
        return 0
    # by its id: `last` may be another run by now
    ended = client.show(state.run)
    if ended.get("status") != "succeeded":
        out.note(f"run {state.run} {shape.ending(ended)}")
    return shape.exit_status(ended)


class Writer:
    """Writes a log's entries: each stream where it belongs, in order."""

    def __init__(
        self, out: Output, *, raw: bool = False, stamps: bool = False, pick: str | None = None
    ) -> None:
        self._out = out
        self._pick = pick
        #: whether there was anything to write
        self.wrote = False
        self._stdout = Shower(terminal=out.terminal and not raw, stamps=stamps)
        self._stderr = Shower(terminal=out.talk_terminal and not raw, stamps=stamps)
        self._notes = Shower(terminal=out.talk_terminal, stamps=stamps, dim=out.talk_colour)

    def write_all(self, pieces: Any, tail: int | None = None) -> None:
        """Writes all that comes; with `tail`, of what is there already the last lines alone."""
        held: deque[Entry] | None = None if tail is None else deque(maxlen=tail)
        for entries in pieces:
            if held is not None:
                held.extend(e for e in entries if e.stream == self._pick)
                if entries:
                    continue
                entries, held = list(held), None
            self.write(entries)
        self.write(list(held or ()))
        self.finish()

    def write(self, entries: list[Entry]) -> None:
        """Writes a piece; neighbours of one stream in one go, for the sake of floods."""
        self.wrote = self.wrote or bool(entries)
        if self._out.mode == "jsonl":
            for entry in entries:
                if self._pick in (None, entry.stream):
                    self._out.value(entry.shape())
            self._out.flush()
            return
        stream, batch = "", [b""]
        for entry in entries:
            if self._pick not in (None, entry.stream) and entry.stream != "jobd":
                continue
            if entry.stream != stream:
                self._send(stream, b"".join(batch))
                stream, batch = entry.stream, []
            batch.append(self._shower(stream).show(entry))
        self._send(stream, b"".join(batch))
        self._out.flush()

    def _shower(self, stream: str) -> Shower:
        if stream == "stdout":
            return self._stdout
        return self._stderr if stream == "stderr" else self._notes

    def _send(self, stream: str, data: bytes) -> None:
        if data and stream == "stdout":
            self._out.data(data)
        elif data:
            self._out.talk_bytes(data)

    def finish(self) -> None:
        """Ends lines that have no end, where a terminal would go on in them."""
        self._send("stdout", self._stdout.finish())
        self._send("stderr", self._stderr.finish())
        self._out.flush()

    def between(self, state: Followed) -> None:
        """Before a further attempt: nothing to say here (`run` says more)."""
