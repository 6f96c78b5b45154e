"""Where things are written: stdout is data, stderr is talk (INTERFACE, "jobctl").

In the modes `json` and `jsonl` stdout holds JSON and nothing else, an error too.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from jobctl import render
from jobd.errors import JobdError, UsageError

MODES = ("table", "json", "jsonl", "id")

_COLOURS = {
    "red": "\x1b[31m",
    "green": "\x1b[32m",
    "yellow": "\x1b[33m",
    "dim": "\x1b[2m",
    "bold": "\x1b[1m",
}

#: what a status word looks like; the words that are not here are plain
_STATUS_COLOURS = {
    "succeeded": "green",
    "running": "green",
    "failed": "red",
    "timed-out": "red",
    "oom-killed": "red",
    "lost": "red",
    "retrying": "yellow",
    "held": "yellow",
    "stopping": "yellow",
    "cancelled": "dim",
    "expired": "dim",
    "skipped": "dim",
}


class Output:
    """The one place that writes. `mode` is one of MODES."""

    def __init__(self, mode: str = "table", *, colour: bool = True) -> None:
        self.mode = mode
        self.terminal = sys.stdout.isatty()
        self.talk_terminal = sys.stderr.isatty()
        allowed = (
            colour and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
        )
        self.colour = allowed and self.terminal
        self.talk_colour = allowed and self.talk_terminal
        #: nothing is said on stderr but errors
        self.quiet = False
        self._progress = False

    @property
    def json(self) -> bool:
        """Whether stdout must hold JSON alone."""
        return self.mode in ("json", "jsonl")

    # --- data ---------------------------------------------------------------------------------

    def value(self, value: Any) -> None:
        """Writes one JSON value, ASCII only; on a terminal spread over lines."""
        import json

        pretty = 2 if self.mode == "json" and self.terminal else None
        text = json.dumps(value, indent=pretty)
        # the one control character that is ASCII and that JSON need not escape
        self.line(text.replace("\x7f", "\\u007f"))

    def values(self, values: Sequence[Any]) -> None:
        """Writes an array in `json`, one value a line in `jsonl`."""
        if self.mode == "json":
            self.value(list(values))
            return
        for value in values:
            self.value(value)

    def line(self, text: str) -> None:
        """Writes one line of data."""
        self.data(text.encode("utf-8", "backslashreplace") + b"\n")

    def data(self, data: bytes) -> None:
        """Writes bytes as they are."""
        self.clear_progress()
        sys.stdout.buffer.write(data)

    def flush(self) -> None:
        """Sends what was written on its way."""
        sys.stdout.flush()

    def table(self, rows: Sequence[render.Row], columns: Sequence[render.Column]) -> None:
        """Writes a table that fits the terminal; nothing where there is no row."""
        if not rows:
            return
        lines = render.table(rows, columns, self.room(), self._paint_cell)
        self.line(self.paint("bold", lines[0]))
        for line in lines[1:]:
            self.line(line)

    def room(self) -> int | None:
        """Columns of the terminal; None where stdout is none, so that nothing is cut."""
        if not self.terminal:
            return None
        try:
            return os.get_terminal_size(sys.stdout.fileno()).columns or 80
        except OSError:
            return 80

    def paint(self, colour: str, text: str) -> str:
        """`text` in a colour where stdout shows colours."""
        return f"{_COLOURS[colour]}{text}\x1b[0m" if self.colour and text else text

    def _paint_cell(self, heading: str, text: str) -> str:
        colour = _STATUS_COLOURS.get(text) if heading == "STATUS" else None
        return self.paint(colour, text) if colour else text

    def status(self, word: str) -> str:
        """A status word in its colour."""
        return self._paint_cell("STATUS", render.escape(word))

    # --- talk ---------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Says something to a person, on stderr."""
        if not self.quiet:
            self.tell_error(text)

    def tell_error(self, text: str) -> None:
        """Says what went wrong, on stderr, `--quiet` or not."""
        self.flush()
        self.clear_progress()
        self._talk(f"jobctl: {render.escape(text)}\n")

    def progress(self, text: str) -> None:
        """Shows how far something is, in one line of a terminal that is overwritten."""
        if self.quiet or not self.talk_terminal:
            return
        self._talk("\r\x1b[K" + render.shorten(render.escape(text), 79))
        self._progress = True

    def clear_progress(self) -> None:
        """Takes the progress line away, before anything else is written."""
        if self._progress:
            self._progress = False
            self._talk("\r\x1b[K")

    def talk_bytes(self, data: bytes) -> None:
        """Writes bytes to stderr: a run's own stderr."""
        self.flush()
        self.clear_progress()
        sys.stderr.buffer.write(data)
        sys.stderr.flush()

    def _talk(self, text: str) -> None:
        # by the buffer, since a log's stderr goes there too and their order is to stay
        sys.stderr.buffer.write(text.encode("utf-8", "backslashreplace"))
        sys.stderr.flush()

    def fail(self, error: JobdError, more: dict[str, Any] | None = None) -> int:
        """Tells an error, in the form of the mode; its exit status."""
        if self.json:
            body: dict[str, Any] = {"code": error.code, "message": str(error)}
            if error.details:
                body["details"] = {str(k): _plain(v) for k, v in error.details.items()}
            self.value({**(more or {}), "error": body})
            self.flush()
        else:
            for line in _lines(error.details.get("mistakes")):
                self.tell_error(line)
            self.tell_error(str(error))
        return error.status


def _plain(value: Any) -> Any:
    """What JSON can say of a detail: lists of texts and numbers as they are, the rest as text."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, int | str) else str(value)


def _lines(mistakes: Any) -> list[str]:
    """The mistakes that an error lists, a line each; of the wire's `[job, text]` the text."""
    if not isinstance(mistakes, list | tuple) or len(mistakes) < 2:
        return []
    return [str(one[-1] if isinstance(one, list | tuple) else one) for one in mistakes]


def now() -> int:
    """The client's clock, in milliseconds UTC: for ages and for what people type."""
    return time.time_ns() // 1_000_000


def mode_of(given: str | None, as_json: bool) -> str:
    """The mode by flag, else by JOBCTL_OUTPUT, else `table`."""
    if as_json and given not in (None, "json"):
        raise UsageError(f"--json and -o {given} were both given")
    mode = "json" if as_json else given or os.environ.get("JOBCTL_OUTPUT") or "table"
    if mode not in MODES:
        where = "-o" if given else "JOBCTL_OUTPUT"
        raise UsageError(f"{where} {mode!r:.40}: expected one of {', '.join(MODES)}")
    return mode
