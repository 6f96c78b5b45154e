"""`jobctl result`: writes what a run gave back to stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobctl import values
from jobctl.arguments import typed
from jobctl.output import Output
from jobd.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from jobctl.client import Client

MANUAL = """\
Writes the result of a run (what it wrote to RESULT_FILE) to stdout, byte for byte. 73: it has not
ended; 66: it gave none.

  jobctl result 42 > answer.json
  jobctl result 42 --out results/42

With --out: the files that it left in OUTPUT_DIR, in a folder of their own, which is made.

On a terminal control characters are escaped; --raw lets them through.
JSON: {"run", "size", "encoding": "utf-8" or "base64", "data"}; with --out {"run", "attempt",
"files", "size", "out"}."""


def add_arguments(parser: ArgumentParser) -> None:
    """All of `result`."""
    add_common(parser)
    parser.add_argument("--out", metavar="DIR", help="the output files, into a new folder")
    parser.add_argument(
        "--attempt", metavar="N", type=typed(values.positive), help="of that attempt (with --out)"
    )


def add_common(parser: ArgumentParser) -> None:
    """What `result` and `payload` have."""
    parser.add_argument("run", metavar="RUN", type=typed(values.selector))
    parser.add_argument("--raw", action="store_true", help="bytes as they are, on a terminal too")


def check(given: Namespace, out: Output) -> None:
    """One run has one result."""
    if not values.is_single(given.run):
        raise UsageError(f"{given.run}: expected one run")
    if getattr(given, "attempt", None) is not None and given.out is None:
        raise UsageError("--attempt: goes with --out; a result is the last attempt's")


def run(given: Namespace, client: Client, out: Output) -> int:
    """Writes the result."""
    if given.out is not None:
        answer = client.save_output(given.run, given.out, attempt=given.attempt)
        if out.json:
            out.value({**answer, "out": given.out})
        else:
            what = f"{answer['files']} file{'' if answer['files'] == 1 else 's'}"
            out.note(f"run {answer['run']}, attempt {answer['attempt']}: {what} in {given.out}")
        return 0
    return write("run.result", given, client, out)


def write(verb: str, given: Namespace, client: Client, out: Output) -> int:
    """Writes the bytes that `verb` gives, as they come where they go to no terminal."""
    escaped = out.terminal and not given.raw
    if not out.json and not escaped:
        client.fetch(verb, given.run, out.data)
        return 0
    chunks: list[bytes] = []
    client.fetch(verb, given.run, chunks.append)
    data = b"".join(chunks)
    if out.json:
        out.value({"run": given.run, **_as_json(data)})
        return 0
    from jobctl.render import escape

    text = data.decode("utf-8", "backslashreplace")
    for line in text.removesuffix("\n").split("\n") if text else ():
        out.line(escape(line, tabs=True))
    return 0


def _as_json(data: bytes) -> dict[str, Any]:
    try:
        return {"size": len(data), "encoding": "utf-8", "data": data.decode("utf-8")}
    except UnicodeDecodeError:
        from base64 import b64encode

        return {"size": len(data), "encoding": "base64", "data": b64encode(data).decode()}
