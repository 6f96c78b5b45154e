"""The program `jobd`: run, check, version. Exit statuses as in INTERFACE."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from jobd import VERSION
from jobd.daemon import config as configuration
from jobd.daemon.places import Places, is_system, under, usual
from jobd.errors import JobdError, QueueDamagedError
from jobd.units import duration_text, size_text

_MANUAL = """\
jobd runs container jobs on this host: durably queued, started as capacity allows.
`jobctl` talks to it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.work(arguments)
        return status
    except JobdError as error:
        print(f"jobd: {error}", file=sys.stderr)
        if isinstance(error, QueueDamagedError):
            from jobd.daemon.fsck import named

            for line in named(error.details):
                print(f"jobd: {line}", file=sys.stderr)
        return error.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("jobd", description=_MANUAL)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    run = verbs.add_parser("run", help="run the daemon, in the foreground")
    _add_places(run)
    run.add_argument(
        "--engine", choices=configuration.ENGINES, help="overrides engine.kind in jobd.toml"
    )
    run.add_argument("--verbose", action="store_true", help="log more")
    run.set_defaults(work=_run)
    check = verbs.add_parser("check", help="check configuration and folders")
    _add_places(check)
    check.set_defaults(work=_check)
    fsck = verbs.add_parser("fsck", help="read the queue of a stopped daemon, tell what is sound")
    _add_places(fsck)
    fsck.add_argument("--json", action="store_true", help="one JSON value on stdout")
    fsck.set_defaults(work=_fsck)
    version = verbs.add_parser("version", help="print the version")
    version.set_defaults(work=lambda arguments: print(f"jobd {VERSION}") or 0)
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, metavar="DIR", help="keep everything under DIR")
    parser.add_argument("--config", type=Path, metavar="FILE", help="instead of jobd.toml")


def _settings(arguments: argparse.Namespace) -> tuple[configuration.Config, Places]:
    places = under(arguments.home) if arguments.home else usual()
    path = arguments.config or places.config
    engine = getattr(arguments, "engine", None)
    config = configuration.load(
        path,
        places,
        must_exist=arguments.config is not None,
        engine=engine,
        # a system's daemon serves many: there somebody has to say so
        processes=arguments.home is not None or not is_system(),
    )
    return config, places


def _run(arguments: argparse.Namespace) -> int:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if arguments.verbose else logging.WARNING,
        format="jobd: %(levelname)s: %(message)s",
    )
    config, places = _settings(arguments)
    # here, not above: `jobd version` need not load the whole daemon
    from jobd.daemon.assembly import Daemon

    daemon = Daemon(config, places)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    daemon.run(lambda line: print(line, flush=True))
    return 0


def _fsck(arguments: argparse.Namespace) -> int:
    from jobd.daemon import fsck

    places = under(arguments.home) if arguments.home else usual()
    return fsck.main(places.state, arguments.json)


def _check(arguments: argparse.Namespace) -> int:
    config, places = _settings(arguments)
    host = config.host
    print(f"configuration  {arguments.config or places.config}: sound")
    print(f"queue          {places.state}")
    print(f"socket         {places.socket}")
    print(f"logs           {places.logs}")
    print(f"engine         {config.engine} {config.engine_socket or ''}".rstrip())
    who = config.process
    print(f"processes      {who if isinstance(who, str) else f'run as {who.name}, not isolated'}")
    print(f"credentials    {config.docker_config or 'those of this user: ~/.docker/config.json'}")
    print(f"pulled images  {_images(config)}")
    print(f"capacity       {host.cpus:g} cpus, {host.memory >> 20} MiB of memory")
    print(f"reserve        {host.reserve_cpus:g} cpus, {host.reserve_memory >> 20} MiB")
    rules = config.rules
    for what, words in (
        ("networks", sorted(rules.networks)),
        ("images", rules.images),
        ("users", rules.users),
        ("mounts", [root if writable else f"{root}:ro" for root, writable in rules.mounts]),
        ("devices", rules.devices),
        ("admin", rules.access.admin),
        ("submit", rules.access.submit),
        ("read", rules.access.read),
    ):
        print(f"{what:14} {', '.join(words) or 'none'}")
    return 0


def _images(config: configuration.Config) -> str:
    """What becomes of images that jobd has pulled."""
    keep = config.keep_images
    parts = []
    if keep.age is not None:
        parts.append(f"not used for {duration_text(round(keep.age * 1000))}")
    if keep.size is not None:
        parts.append(f"beyond {size_text(keep.size)} in all")
    return f"pulled ones are removed: {', '.join(parts)}" if parts else "kept"
