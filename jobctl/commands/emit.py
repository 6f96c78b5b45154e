"""`jobctl emit`: notifies a topic, and prints an id for each run that this makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl import values
from jobctl.commands.queue import open_payload
from jobctl.output import Output

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Notifies TOPIC: each job that listens to it gets a run with the payload and the labels, all or
none of them on disk when it returns. A job listens by its file:

  [[on]]
  topic = "orders"
  labels = { region = "eu" }               # only where these labels are given
  payload = { kind = ["new", "changed"] }  # only where these keys of a JSON payload are so

  jobctl emit orders -p '{"id": 7, "kind": "new"}' --label region=eu

It prints the ids, one a line; where nobody listens it says so, and that is no error. A job that
could not take its run (its queue is full) is named, and the exit status is 1.

JSON: {"topic", "listening", "count", "runs": [{"id", "job"}], "refused": [{"job", "text"}],
"forbidden": [JOB]}."""


def add_arguments(parser: ArgumentParser) -> None:
    """All of `emit`."""
    parser.add_argument("topic", metavar="TOPIC")
    payload = parser.add_mutually_exclusive_group()
    payload.add_argument("-p", "--payload", metavar="TEXT", help="the payload")
    payload.add_argument("-f", "--file", metavar="FILE", help="the payload's file; -: stdin")
    parser.add_argument("--label", metavar="K=V", action="append", help="a label; may be repeated")


def check(given: Namespace, out: Output) -> None:
    """The labels; what a topic may be called is the daemon's to say."""
    values.pairs(given.label, "--label")


def run(given: Namespace, client: Client, out: Output) -> int:
    """Notifies."""
    labels = values.pairs(given.label, "--label")
    answer = client.emit(given.topic, open_payload(given, out), labels=labels)
    if out.mode == "json":
        out.value(answer)
    elif out.mode == "jsonl":
        out.values(answer["runs"])
    else:
        for one in answer["runs"]:
            out.line(str(one["id"]))
    for one in answer["refused"]:
        out.note(f"job {one['job']} got no run: {one['text']}")
    for job in answer["forbidden"]:
        out.note(f"job {job} got no run: you may not queue runs of it (access.submit)")
    if not answer["runs"] and not answer["refused"] and not answer["forbidden"]:
        listening = answer["listening"]
        who = "nobody listens"
        if listening:
            jobs = "1 job listens" if listening == 1 else f"{listening} jobs listen"
            who = f"{jobs}, but not for these labels and this payload"
        out.note(f"topic {answer['topic']}: {who}: nothing was queued")
    return 1 if answer["refused"] else 0
