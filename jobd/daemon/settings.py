"""All that a daemon reads from its configuration, whole or not at all: jobd.toml and jobs.d/.

Used at start, on reload and by `jobd check`; each mistake is named by file, line and key.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from jobd.core.allowed import all_problems
from jobd.core.jobfile import JobFile, Mistake, read
from jobd.daemon import config as configuration
from jobd.daemon.config import Config
from jobd.daemon.places import Places, is_system, under, usual
from jobd.errors import ConfigError


class Source(NamedTuple):
    """Where the configuration is, as the command line says; `engine` overrides the file's, and
    `processes` is whether jobs may be processes of the host where the file does not say."""

    places: Places
    config: Path
    must_exist: bool
    engine: str | None = None
    processes: bool = False


class Settings(NamedTuple):
    """One whole configuration."""

    config: Config
    jobs: list[JobFile]


def source(home: Path | None, config: Path | None, engine: str | None = None) -> Source:
    """The source that `--home`, `--config` and `--engine` stand for."""
    places = under(home) if home else usual()
    # a system's daemon serves many: there somebody has to say that processes are wanted
    own = home is not None or not is_system()
    return Source(places, config or places.config, config is not None, engine, own)


def load(where: Source) -> Settings:
    """jobd.toml and the job files. Raises ConfigError, all mistakes in `details["mistakes"]`."""
    config = configuration.load(
        where.config,
        where.places,
        must_exist=where.must_exist,
        engine=where.engine,
        processes=where.processes,
    )
    contents, mistakes = _contents(where.places.jobs)
    rules = config.rules
    jobs, wrong = read(contents, rules.defaults, lambda spec: all_problems(spec, rules))
    mistakes += wrong
    if mistakes:
        lines = [str(one) for one in mistakes]
        more = f"; {len(lines)} mistakes in {where.places.jobs} in all" if len(lines) > 1 else ""
        raise ConfigError(f"{lines[0]}{more}", mistakes=lines)
    return Settings(config, jobs)


def _contents(folder: Path) -> tuple[list[tuple[str, str, bytes]], list[Mistake]]:
    """The files `*.toml` of the folder, by name; a folder that is not there is an empty one."""
    found: list[tuple[str, str, bytes]] = []
    mistakes: list[Mistake] = []
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}") from None
    for path in paths:
        if path.name.startswith("."):
            continue  # what editors and package managers leave beside a file
        try:
            found.append((str(path), path.stem, path.read_bytes()))
        except OSError as error:
            mistakes.append(Mistake(str(path), None, f"cannot be read: {error.strerror}"))
    return found, mistakes
