"""The program `jobd`: run, check, version. Exit statuses as in INTERFACE."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jobd import VERSION
from jobd.daemon import config as configuration
from jobd.daemon.places import under, usual
from jobd.daemon.settings import Source, load, source
from jobd.errors import (
    AlreadyRunningError,
    ConfigError,
    DiskFailedError,
    JobdError,
    QueueDamagedError,
)

_MANUAL = """\
jobd runs container jobs on this host: durably queued, started as capacity allows.
`jobctl` talks to it."""

#: exit status and meaning; README has them too (a test compares, another produces each)
STATUSES: tuple[tuple[int, str], ...] = (
    (0, "stopped as it was told, or sound"),
    (2, "wrong usage"),
    (QueueDamagedError.status, "the queue is damaged"),
    (AlreadyRunningError.status, "already running"),
    (DiskFailedError.status, "the disk failed"),
    (ConfigError.status, "configuration"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.work(arguments)
        return status
    except JobdError as error:
        for line in _mistakes(error):
            print(f"jobd: {line}", file=sys.stderr)
        print(f"jobd: {error}", file=sys.stderr)
        if isinstance(error, QueueDamagedError):
            from jobd.daemon.fsck import named, remedy

            for line in (*named(error.details), remedy(getattr(arguments, "home", None))):
                print(f"jobd: {line}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        # `jobd check | head`; what is still buffered would raise again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _mistakes(error: JobdError) -> list[str]:
    """All that is wrong with a configuration, where it is more than the error's sentence tells."""
    lines = error.details.get("mistakes") if isinstance(error, ConfigError) else None
    return lines if isinstance(lines, list) and len(lines) > 1 else []


def _parser() -> argparse.ArgumentParser:
    statuses = "; ".join(f"{status} {meaning}" for status, meaning in STATUSES)
    parser = argparse.ArgumentParser(
        "jobd", description=_MANUAL, epilog=f"exit statuses: {statuses}"
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    run = verbs.add_parser("run", help="run the daemon, in the foreground")
    _add_places(run)
    run.add_argument(
        "--engine", choices=configuration.ENGINES, help="overrides engine.kind in jobd.toml"
    )
    run.add_argument("--verbose", action="store_true", help="log more")
    run.set_defaults(work=_run)
    check = verbs.add_parser(
        "check", help="check configuration, job files and folders; print what is in force"
    )
    _add_places(check)
    check.add_argument(
        "--engine", choices=configuration.ENGINES, help="overrides engine.kind in jobd.toml"
    )
    check.set_defaults(work=_check)
    fsck = verbs.add_parser("fsck", help="read the queue of a stopped daemon, tell what is sound")
    _add_places(fsck)
    fsck.add_argument("--json", action="store_true", help="one JSON value on stdout")
    fsck.add_argument(
        "--salvage",
        action="store_true",
        help="write a damaged queue anew: every run that is intact is kept, damaged ones are held "
        "as suspect, and the files as they were go to quarantine/",
    )
    fsck.set_defaults(work=_fsck)
    backup = verbs.add_parser(
        "backup", help="copy the queue into an empty folder, whether or not its daemon runs"
    )
    _add_places(backup)
    backup.add_argument("dest", type=Path, metavar="DEST", help="empty or new: a `--home` later")
    backup.add_argument("--logs", action="store_true", help="copy the attempts' log files too")
    backup.add_argument("--json", action="store_true", help="one JSON value on stdout")
    backup.set_defaults(work=_backup)
    notify = verbs.add_parser(
        "notify", help="deliver alerts, without rights, as a client of the daemon's socket"
    )
    _add_places(notify)
    notify.add_argument("--socket", type=Path, metavar="PATH", help="the daemon's, else its usual")
    notify.add_argument("--user", metavar="NAME", help="become NAME; as root: [alerts] user")
    notify.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    notify.add_argument("--verbose", action="store_true", help="log more")
    notify.set_defaults(work=_notify)
    version = verbs.add_parser("version", help="print the version")
    version.set_defaults(work=lambda arguments: print(f"jobd {VERSION}") or 0)
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, metavar="DIR", help="keep everything under DIR")
    parser.add_argument("--config", type=Path, metavar="FILE", help="instead of jobd.toml")


def _source(arguments: argparse.Namespace) -> Source:
    return source(arguments.home, arguments.config, getattr(arguments, "engine", None))


def _run(arguments: argparse.Namespace) -> int:
    # what is made of jobd's own is closed by itself; what leads there is nobody else's to write
    os.umask(os.umask(0o022) | 0o022)
    _log_to_stderr("jobd", arguments.verbose)
    where = _source(arguments)
    settings = load(where)
    # here, not above: `jobd version` need not load the whole daemon
    from jobd.daemon.assembly import Daemon

    daemon = Daemon(settings, where.places, lambda: load(where))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    signal.signal(signal.SIGHUP, lambda *_: daemon.reload())
    daemon.run(_say)
    return 0


def _notify(arguments: argparse.Namespace) -> int:
    from jobd.daemon import notify

    _log_to_stderr("jobd notify", arguments.verbose)
    where = _source(arguments)
    user = arguments.user
    if user is None and os.geteuid() == 0:
        user = load(where).config.rules.alerts.user
    return notify.main(arguments.socket or where.places.socket, user or "", arguments.child)


def _log_to_stderr(name: str, verbose: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(f"{name}: %(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO if verbose else logging.WARNING)


class OneLine(logging.Formatter):
    """A message is one line: names in it come from outside, and must not forge a second."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The message with what is not printable shown as `?`; a traceback follows as it is."""
        line = super().formatMessage(record)
        return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)


def _say(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError:
        pass  # whoever started it reads no more: no reason to end


def _fsck(arguments: argparse.Namespace) -> int:
    from jobd.daemon import fsck

    places = under(arguments.home) if arguments.home else usual()
    return fsck.main(places.state, arguments.home, arguments.json, arguments.salvage)


def _backup(arguments: argparse.Namespace) -> int:
    from jobd.daemon import backup

    places = under(arguments.home) if arguments.home else usual()
    if arguments.config is not None:
        places = replace(places, config=arguments.config)
    return backup.main(places, arguments.dest, arguments.logs, arguments.json)


def _check(arguments: argparse.Namespace) -> int:
    from jobd.daemon import check

    return check.main(_source(arguments))
