"""`jobd check`: is the configuration sound, are the folders usable, does the engine answer?"""

from __future__ import annotations

import os
from pathlib import Path

from jobd.daemon.config import Config
from jobd.daemon.doctor import secrets_trouble
from jobd.daemon.effective import lines
from jobd.daemon.engines import make_containers
from jobd.daemon.places import refuse_open_parents
from jobd.daemon.settings import Source, load
from jobd.engine.base import EngineError, EngineInfo, EngineUnreachableError
from jobd.errors import ConfigError


def main(where: Source) -> int:
    """Print what is in force. Raises ConfigError for what would keep the daemon from starting.

    An engine out of reach is no such thing: runs wait for it.
    """
    settings = load(where)
    places = where.places
    read = "" if where.config.exists() else " (not there: defaults)"
    print(f"# configuration {where.config}{read}: sound")
    print("\n".join(lines(settings.config)))
    print(f"\n# job files {places.jobs}: {len(settings.jobs) or 'none'}")
    for job in settings.jobs:
        print(f"#   {job.name}  {job.file}")
    print(f"# queue {places.state}\n# socket {places.socket}\n# logs {places.logs}")
    print(f"# secrets {places.secrets}\n# drops {places.spool}")
    for folder in (places.state, places.socket.parent, places.logs):
        _usable(folder)
    trouble = secrets_trouble(places.secrets)
    if trouble:
        print(f"# secrets: {trouble}")
    print(f"# engine: {engine_line(settings.config)}")
    read_from = settings.config.docker_config or "those of this user: ~/.docker/config.json"
    print(f"# credentials for registries: {read_from}")
    who = settings.config.process
    said = who if isinstance(who, str) else f"run as {who.name}, not isolated"
    print(f"# processes: {said}")
    return 0


def _usable(folder: Path) -> None:
    """Raises ConfigError where the daemon's user could not make or write this folder, or others
    could put another in its place."""
    refuse_open_parents(folder)
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        what = "cannot be written to" if place == folder else f"cannot be made in {place}"
        raise ConfigError(f"{folder}: {what} by this user")


def ask_engine(config: Config) -> EngineInfo:
    """Who the engine is. Raises EngineError."""
    engine = make_containers(config, bytes(16), lambda: config.rules)
    try:
        return engine.connect()
    finally:
        engine.close()


def engine_line(config: Config) -> str:
    """One line on the engine, reached or not."""
    try:
        info = ask_engine(config)
    except EngineUnreachableError as error:
        return f"{config.engine} does not answer ({error}): runs would wait for it"
    except EngineError as error:
        return f"{config.engine}: {error}"
    notes = "".join(f"; {note}" for note in info.notes)
    return f"{info.name} {info.version} answers{notes}"
