"""jobd.toml: every key with its default, each refused by name where it is wrong.

An unknown key is an error: a setting that is misspelt and silently ignored is worse than none.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobd.capacity import probe
from jobd.capacity.gates import Thresholds
from jobd.capacity.ledger import Host
from jobd.core import specaccess
from jobd.core import specvalues as v
from jobd.core.access import Policy
from jobd.core.alertrules import AlertRules, read_alerts
from jobd.core.archiving import Window
from jobd.core.groups import GroupLimits, read_groups
from jobd.core.limits import PLAIN, Pace
from jobd.core.model import JobSpec
from jobd.core.policy import Rules
from jobd.core.spec import parse
from jobd.core.tomlkeys import line_of, lines_of_keys
from jobd.daemon import configreaders as r
from jobd.daemon import hostzone
from jobd.daemon.configreaders import pace, thresholds
from jobd.daemon.imagegc import Keep
from jobd.daemon.places import Places
from jobd.daemon.uploads import MOST as UPLOADS
from jobd.daemon.workdir import OUTPUT_LIMIT
from jobd.engine.account import Account, NoAccountError, account
from jobd.errors import ConfigError, InvalidError
from jobd.history.retention import Keep as KeepHistory

#: of output that is kept of each attempt
LOG_BYTES = 64 << 20
#: ms for which logs are kept
KEEP_LOGS = 30 * 86_400_000
#: how long the engine may take for a request, and for a create or a start, before it counts as
#: out of reach; a host whose disk is slow needs more
ENGINE_REQUEST_MS, ENGINE_START_MS = 10_000, 30_000
#: bytes written to the queue that are worth a snapshot
SNAPSHOT_AFTER = 128 << 20
#: of a folder that an image is built from
CONTEXT_BYTES = 512 << 20
ENGINES = ("auto", "docker", "podman", "process", "fake")
#: who processes of the host run as where jobd is root and nobody says otherwise (INTERFACE)
PROCESS_USER = "jobd-run"


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration. Sizes in bytes, durations in milliseconds, cpus in cores."""

    host: Host
    rules: Rules
    engine: str = "auto"
    #: None: DOCKER_HOST, then the usual socket
    engine_socket: str | None = None
    docker_config: Path | None = None
    engine_request: int = ENGINE_REQUEST_MS
    engine_start: int = ENGINE_START_MS
    #: attempts of network `none` share one network namespace
    share_none: bool = False
    #: who processes of the host run as, or why there are none here, with the remedy
    process: Account | str = ""
    log_bytes: int = LOG_BYTES
    keep_logs: int = KEEP_LOGS
    #: of the files that an attempt leaves in its output folder, in all
    output_bytes: int = OUTPUT_LIMIT
    #: of what an image is built from
    context_bytes: int = CONTEXT_BYTES
    #: of what a user has uploaded and not used
    upload_bytes: int = UPLOADS
    #: of finished runs: what stays in memory, and what is kept at all
    window: Window = field(default_factory=Window)
    keep: KeepHistory = field(default_factory=KeepHistory)
    #: of the images that jobd has pulled: since their last use, and of all together
    keep_images: Keep = field(default_factory=Keep)
    #: of the socket: 0o660 is for its owner and its group, 0o666 for everybody on the host
    socket_mode: int = 0o660
    #: the socket's group, or None for the daemon's own
    socket_group: str | None = None
    #: when the live host lets nothing start, and where its images are
    thresholds: Thresholds = field(default_factory=Thresholds)
    images_path: Path = Path("/var/lib/docker")
    #: how runs are taken on, and how many at once
    pace: Pace = PLAIN
    #: what jobs share, by name
    groups: Mapping[str, GroupLimits] = field(default_factory=dict)
    #: bytes written to the queue after which a snapshot is made, where a third of it is not more
    snapshot_after: int = SNAPSHOT_AFTER
    #: what [defaults] says, of a job file's form
    defaults: Mapping[str, Any] = field(default_factory=dict)


#: path in the file -> how it is read
_KEYS: dict[str, v.Reader] = {
    "engine.kind": v.choice(*ENGINES),
    "engine.socket": v.text(512),
    "engine.docker_config": v.text(4096),
    "engine.request_timeout": v.duration(100),
    "engine.start_timeout": v.duration(100),
    "engine.concurrency": v.whole(1, 1 << 20),
    "engine.share_none": v.truth,
    "process.enabled": v.truth,
    "process.user": v.text(64),
    "process.concurrency": v.whole(1, 1 << 20),
    "capacity.cpus": v.number(0.01, 4096),
    "capacity.memory": v.size(16 << 20),
    "capacity.gpus": v.whole(0, 1024),
    "capacity.reserve_cpus": v.number(0, 4096),
    "capacity.reserve_memory": v.size(0),
    "capacity.concurrency": v.whole(1, 1 << 20),
    "admission.pressure_cpu": r.off(v.number(0, 1)),
    "admission.pressure_memory": r.off(v.number(0, 1)),
    "admission.pressure_io": r.off(v.number(0, 1)),
    "admission.load": r.off(v.number(0.1, 1000)),
    "admission.disk_free": r.off(v.size(1)),
    "admission.images_path": v.text(4096),
    "order.reserve_after": v.duration(0),
    "order.age_after": r.ages,
    "maxima.cpus": v.number(0.01, 4096),
    "maxima.memory": v.size(6 << 20),
    "maxima.gpus": v.whole(0, 1024),
    "maxima.pids": v.whole(1, 1 << 22),
    "maxima.shm": v.size(64 << 10),
    "maxima.ulimits": specaccess.ulimits,
    "maxima.timeout": v.duration(1),
    "maxima.attempts": v.whole(1, 1000),
    "maxima.payload": v.size(0),
    "maxima.output": v.size(0),
    "maxima.context": v.size(0),
    "maxima.uploads": v.size(0),
    "maxima.user_queue": v.whole(1, 1 << 31),
    "maxima.chain": v.whole(1, 1000),
    "images.allow": r.names,
    "images.pull": v.choice("missing", "always", "never"),
    "images.keep_age": v.duration(1),
    "images.keep_size": v.size(0),
    "allow.mounts": r.roots,
    "allow.networks": r.names,
    "allow.devices": r.names,
    "allow.users": r.names,
    "logs.per_attempt": v.size(64 << 10),
    "logs.keep": v.duration(60_000),
    "history.keep": v.duration(60_000),
    "history.keep_dead": v.duration(60_000),
    "history.runs": v.whole(0, 1 << 40),
    "history.window": v.whole(0, 10_000_000),
    "history.window_age": v.duration(0),
    "journal.snapshot_after": v.size(1 << 20),
    "access.admin": specaccess.people,
    "access.submit": specaccess.people,
    "access.read": specaccess.people,
    "access.socket_mode": r.mode,
    "access.socket_group": v.text(64),
}
_TABLES = {path.partition(".")[0] for path in _KEYS} | {"defaults", "groups", "alerts"}

#: a payload is one argument of one run: what is larger belongs in a file that is mounted
_LARGEST_PAYLOAD = 1 << 30


def load(
    path: Path,
    places: Places,
    *,
    must_exist: bool = False,
    engine: str | None = None,
    processes: bool = False,
) -> Config:
    """The configuration in the file at `path`, or the defaults where there is none.

    `engine` takes precedence over the file's; `processes` is whether jobs may be processes of the
    host where the file does not say; `places` are kept from being mounted. Raises ConfigError
    naming file and key.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(f"{path}: no such file") from None
        text = b""
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        config = read(tomllib.loads(text.decode()), engine, processes)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from None
    except InvalidError as error:
        raise ConfigError(f"{path}{_line(text.decode(), str(error))}: {error}") from None
    beside = path.parent / "docker"
    if config.docker_config is None and beside.is_dir():
        # a system's user has no HOME where credentials for registries could be
        config = replace(config, docker_config=beside)
    protected = _protected(path, places, config)
    rules = replace(config.rules, protected=protected, resolve=os.path.realpath)
    return replace(config, rules=rules)


def _line(text: str, problem: str) -> str:
    """`:LINE` of the key that the problem begins with, as `defaults.timeout: ...`."""
    key = problem.removeprefix("[defaults] ").partition(": ")[0].strip("[]'")
    lines = lines_of_keys(text)
    line = line_of(lines, f"defaults.{key}") if problem.startswith("[defaults] ") else None
    line = line or line_of(lines, key.partition(" ")[0])
    return f":{line}" if line else ""


def _protected(path: Path, places: Places, config: Config) -> tuple[str, ...]:
    """What must never be mounted of the daemon's own, as written and with links resolved."""
    own = {
        path.absolute(),
        places.config,
        places.jobs,
        places.state,
        places.secrets,
        places.spool,
        places.logs,
        places.socket.parent,
    }
    if config.docker_config is not None:
        own.add(config.docker_config)
    for url in (config.engine_socket, os.environ.get("DOCKER_HOST")):
        if url and url.startswith("unix://"):
            own.add(Path(url.removeprefix("unix://")))
    return tuple(sorted({str(each) for each in own} | {os.path.realpath(each) for each in own}))


def read(given: Mapping[str, Any], engine: str | None = None, processes: bool = False) -> Config:
    """The configuration that a parsed file says; `engine` and `processes` as for :func:`load`.

    Raises InvalidError naming the key.
    """
    values: dict[str, Any] = {}
    for table, content in given.items():
        if table not in _TABLES:
            raise InvalidError(f"[{table}]: unknown table{_near(table, _TABLES)}")
        if not isinstance(content, Mapping):
            raise InvalidError(f"{table}: expected a table, got {v.kind(content)}")
        if table in ("defaults", "groups", "alerts"):
            continue
        for key, value in content.items():
            path = f"{table}.{key}"
            if path not in _KEYS:
                raise InvalidError(f"{path}: unknown key{_near(path, _KEYS)}")
            values[path] = _KEYS[path](value, path)
    defaults = given.get("defaults", {})
    _check_defaults(defaults)
    host = _host(values)
    kind = engine or values.get("engine.kind", "auto")
    process = _process(values, processes or kind == "process")
    docker_config = values.get("engine.docker_config")
    return Config(
        host=host,
        rules=replace(
            _rules(values, host, defaults, process),
            alerts=_alerts(given.get("alerts", {}), process),
        ),
        engine=kind,
        engine_socket=values.get("engine.socket"),
        docker_config=Path(docker_config) if docker_config else None,
        engine_request=values.get("engine.request_timeout", ENGINE_REQUEST_MS),
        engine_start=values.get("engine.start_timeout", ENGINE_START_MS),
        share_none=values.get("engine.share_none", False),
        process=process,
        log_bytes=values.get("logs.per_attempt", LOG_BYTES),
        keep_logs=values.get("logs.keep", KEEP_LOGS),
        output_bytes=values.get("maxima.output", OUTPUT_LIMIT),
        context_bytes=values.get("maxima.context", CONTEXT_BYTES),
        upload_bytes=values.get("maxima.uploads", UPLOADS),
        window=r.window(values),
        keep=r.keep_history(values),
        keep_images=_keep_images(values),
        socket_mode=values.get("access.socket_mode", 0o660),
        socket_group=values.get("access.socket_group"),
        thresholds=thresholds(values),
        images_path=Path(values.get("admission.images_path", "/var/lib/docker")),
        pace=pace(values),
        groups=read_groups(given.get("groups", {})),
        snapshot_after=values.get("journal.snapshot_after", SNAPSHOT_AFTER),
        defaults=defaults,
    )


def _alerts(given: Any, process: Account | str) -> AlertRules:
    rules = read_alerts(given)
    uid = r.notifier(rules.user)
    if isinstance(process, Account) and process.changes and process.uid == uid:
        raise InvalidError(
            f"alerts.user: processes of jobs run as {rules.user} too ([process] user), and could "
            "take alerts: name another user"
        )
    return replace(rules, uid=uid)


def _keep_images(values: Mapping[str, Any]) -> Keep:
    age = values.get("images.keep_age")
    return Keep(None if age is None else age / 1000, values.get("images.keep_size"))


def _near(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, known, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"


def _check_defaults(defaults: Mapping[str, Any]) -> None:
    for key in ("name", "image", "command"):
        if key in defaults:
            raise InvalidError(f"defaults.{key}: belongs to each job")
    try:
        parse({"name": "defaults", "image": "none"}, defaults)
    except InvalidError as error:
        raise InvalidError(f"[defaults] {error}") from None


def _host(values: Mapping[str, Any]) -> Host:
    cpus = values.get("capacity.cpus", probe.host_cpus())
    memory = values.get("capacity.memory", probe.host_memory())
    host = Host(
        cpus=cpus,
        memory=memory,
        # on a very small host a fixed reserve would leave nothing for runs
        reserve_cpus=values.get("capacity.reserve_cpus", min(0.25, cpus / 4)),
        reserve_memory=values.get("capacity.reserve_memory", min(512 << 20, memory // 4)),
        gpus=values.get("capacity.gpus", probe.host_gpus()),
    )
    if host.reserve_cpus >= host.cpus:
        raise InvalidError(
            f"capacity.reserve_cpus: {host.reserve_cpus:g} leaves nothing of {host.cpus:g} cpus"
        )
    if host.reserve_memory >= host.memory:
        raise InvalidError("capacity.reserve_memory: leaves nothing of capacity.memory")
    return host


def _process(values: Mapping[str, Any], enabled: bool) -> Account | str:
    if not values.get("process.enabled", enabled):
        return (
            "processes are off here: [process] enabled = true in jobd.toml turns them on, or "
            "`jobd run --engine process`"
        )
    try:
        return account(values.get("process.user", PROCESS_USER))
    except NoAccountError as error:
        return str(error)


def _rules(
    values: Mapping[str, Any], host: Host, defaults: Mapping[str, Any], process: Account | str
) -> Rules:
    plain = Rules()
    payload = values.get("maxima.payload", plain.max_payload)
    if payload > _LARGEST_PAYLOAD:
        raise InvalidError("maxima.payload: at most 1G")
    plain_job = JobSpec("defaults", "none")
    # defaults of a run on a host that is smaller than they are
    resources = {
        "cpus": min(plain_job.cpus, host.cpus),
        "memory": min(plain_job.memory, host.memory),
        **defaults.get("resources", {}),
    }
    filled = {**defaults, "resources": resources}
    if "images.pull" in values:
        filled.setdefault("pull", values["images.pull"])
    return Rules(
        defaults=filled,
        max_cpus=min(values.get("maxima.cpus", host.cpus), host.cpus),
        max_memory=min(values.get("maxima.memory", host.memory), host.memory),
        max_gpus=min(values.get("maxima.gpus", host.gpus), host.gpus),
        max_pids=values.get("maxima.pids"),
        max_shm=values.get("maxima.shm"),
        max_ulimits=values.get("maxima.ulimits", plain.max_ulimits),
        max_timeout=values.get("maxima.timeout"),
        max_attempts=values.get("maxima.attempts"),
        max_payload=payload,
        max_user_queue=values.get("maxima.user_queue"),
        max_chain=values.get("maxima.chain", plain.max_chain),
        networks=frozenset(values.get("allow.networks", plain.networks)),
        images=values.get("images.allow", plain.images),
        users=values.get("allow.users", plain.users),
        devices=values.get("allow.devices", plain.devices),
        mounts=values.get("allow.mounts", plain.mounts),
        access=Policy(
            admin=values.get("access.admin", plain.access.admin),
            submit=values.get("access.submit", plain.access.submit),
            read=values.get("access.read", plain.access.read),
            owner=os.geteuid(),
        ),
        timezone=hostzone.name(),
        no_processes=process if isinstance(process, str) else "",
        process_user=None if isinstance(process, str) else process.name,
    )
