"""The exit statuses of jobctl and what each means (INTERFACE, "Exit statuses").

`jobctl help` prints the table, README has it; a test compares, and another produces each of them.
"""

from __future__ import annotations

#: status, meaning; a word stands for several
STATUSES: tuple[tuple[int | str, str], ...] = (
    (0, "done"),
    (
        "the attempt's own",
        "`run`, `wait` of one run, `queue --wait` of one, `logs -f`, when the run failed by its "
        "own exit status (128+n for a signal)",
    ),
    (
        1,
        "the run ended otherwise (timed-out, oom-killed, cancelled, expired, skipped, lost), or "
        "one of several did not succeed",
    ),
    (2, "wrong usage"),
    (65, "what the daemon has kept of a run is damaged"),
    (66, "no such job, run, schedule or result"),
    (69, "the daemon cannot be reached: the message says whether it is not running or silent"),
    (70, "a bug"),
    (73, "not possible in this state"),
    (74, "the output could not be written"),
    (75, "refused for now, try again (queue full, disk full)"),
    (76, "versions of the protocol do not fit"),
    (77, "not permitted"),
    (78, "a bad job file or value; the message names the key"),
    (124, "the time given to `wait --timeout` or `drain --wait --timeout` is over"),
    (130, "Ctrl-C; what was queued goes on, and the message says how to get back to it"),
    (141, "whoever read the output is gone (`jobctl ls | head`)"),
)


def rows() -> list[str]:
    """The rows of the table in README."""
    return [f"| {status} | {meaning} |" for status, meaning in STATUSES]


def lines(width: int) -> list[str]:
    """The table for a terminal of so many columns."""
    from textwrap import wrap

    made: list[str] = []
    for status, meaning in STATUSES:
        head = f"  {'own' if isinstance(status, str) else status:<5}"
        made += wrap(
            meaning.replace("`", ""), width, initial_indent=head, subsequent_indent=" " * len(head)
        )
    return made
