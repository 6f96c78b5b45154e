"""The configuration as it is in force, every key of it, in the form of jobd.toml."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from jobd.core.alertrules import shown
from jobd.core.groups import groups_mapping
from jobd.daemon.config import Config
from jobd.units import duration_text, size_text

#: key -> what is in force; None where nothing limits it, or where it is found out at start
SHOWN: dict[str, Callable[[Config], Any]] = {
    "engine.kind": lambda config: config.engine,
    "engine.socket": lambda config: config.engine_socket,
    "engine.docker_config": lambda config: _text(config.docker_config),
    "engine.request_timeout": lambda config: duration_text(config.engine_request),
    "engine.start_timeout": lambda config: duration_text(config.engine_start),
    "engine.concurrency": lambda config: config.pace.containers,
    "engine.share_none": lambda config: config.share_none,
    "process.enabled": lambda config: not isinstance(config.process, str),
    "process.user": lambda config: getattr(config.process, "name", None),
    "process.concurrency": lambda config: config.pace.processes,
    "capacity.cpus": lambda config: config.host.cpus,
    "capacity.memory": lambda config: size_text(config.host.memory),
    "capacity.gpus": lambda config: config.host.gpus,
    "capacity.reserve_cpus": lambda config: config.host.reserve_cpus,
    "capacity.reserve_memory": lambda config: size_text(config.host.reserve_memory),
    "capacity.concurrency": lambda config: config.pace.at_once,
    "admission.pressure_cpu": lambda config: _or_off(config.thresholds.pressure_cpu),
    "admission.pressure_memory": lambda config: _or_off(config.thresholds.pressure_memory),
    "admission.pressure_io": lambda config: _or_off(config.thresholds.pressure_io),
    "admission.load": lambda config: _or_off(config.thresholds.load),
    "admission.disk_free": lambda config: _or_off(
        _optional(config.thresholds.disk_free, size_text)
    ),
    "admission.images_path": lambda config: str(config.images_path),
    "order.reserve_after": lambda config: duration_text(config.pace.reserve_after),
    "order.age_after": lambda config: (
        "never" if config.pace.age_after is None else duration_text(config.pace.age_after)
    ),
    "maxima.cpus": lambda config: config.rules.max_cpus,
    "maxima.memory": lambda config: _optional(config.rules.max_memory, size_text),
    "maxima.gpus": lambda config: config.rules.max_gpus,
    "maxima.pids": lambda config: config.rules.max_pids,
    "maxima.shm": lambda config: _optional(config.rules.max_shm, size_text),
    "maxima.ulimits": lambda config: dict(config.rules.max_ulimits) or None,
    "maxima.timeout": lambda config: _optional(config.rules.max_timeout, duration_text),
    "maxima.attempts": lambda config: config.rules.max_attempts,
    "maxima.payload": lambda config: size_text(config.rules.max_payload),
    "maxima.output": lambda config: size_text(config.output_bytes),
    "maxima.context": lambda config: size_text(config.context_bytes),
    "maxima.uploads": lambda config: size_text(config.upload_bytes),
    "maxima.chain": lambda config: config.rules.max_chain,
    "maxima.user_queue": lambda config: config.rules.max_user_queue,
    "images.allow": lambda config: list(config.rules.images),
    "images.pull": lambda config: config.rules.defaults.get("pull"),
    "images.keep_age": lambda config: _optional(
        config.keep_images.age, lambda seconds: duration_text(round(seconds * 1000))
    ),
    "images.keep_size": lambda config: _optional(config.keep_images.size, size_text),
    "allow.mounts": lambda config: [
        root if writable else f"{root}:ro" for root, writable in config.rules.mounts
    ],
    "allow.networks": lambda config: sorted(config.rules.networks),
    "allow.devices": lambda config: list(config.rules.devices),
    "allow.users": lambda config: list(config.rules.users),
    "logs.per_attempt": lambda config: size_text(config.log_bytes),
    "logs.keep": lambda config: duration_text(config.keep_logs),
    "history.keep": lambda config: duration_text(config.keep.age),
    "history.keep_dead": lambda config: _optional(config.keep.dead, duration_text),
    "history.runs": lambda config: config.keep.runs,
    "history.window": lambda config: config.window.runs,
    "history.window_age": lambda config: duration_text(config.window.age),
    "journal.snapshot_after": lambda config: size_text(config.snapshot_after),
    "access.admin": lambda config: list(config.rules.access.admin),
    "access.submit": lambda config: list(config.rules.access.submit),
    "access.read": lambda config: list(config.rules.access.read),
    "access.socket_mode": lambda config: f"{config.socket_mode:04o}",
    "access.socket_group": lambda config: config.socket_group,
}


def lines(config: Config) -> list[str]:
    """The lines of a jobd.toml that says all of it; what is not limited is a comment."""
    made: list[str] = []
    table = ""
    for path, show in SHOWN.items():
        head, _, key = path.partition(".")
        if head != table:
            table = head
            made.append(f"[{head}]")
        value = show(config)
        made.append(f"# {key}: not set" if value is None else f"{key} = {toml(value)}")
    made.append("[alerts]")
    made += [f"{key} = {toml(value)}" for key, value in shown(config.rules.alerts).items()]
    made.append("[groups]")
    made += [f"{_key(name)} = {toml(t)}" for name, t in groups_mapping(config.groups).items()]
    made.append("[defaults]")
    made += [f"{key} = {toml(_sized(value))}" for key, value in config.rules.defaults.items()]
    return made


def _sized(value: Any) -> Any:
    """[defaults.resources] with its memory as people write it."""
    if isinstance(value, Mapping) and isinstance(value.get("memory"), int):
        return {**value, "memory": size_text(value["memory"])}
    return value


def toml(value: Any) -> str:
    """A value as TOML writes it, tables inline."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _key(name: str) -> str:
    plain = name.replace("_", "").replace("-", "")
    return name if plain.isascii() and plain.isalnum() else json.dumps(name)


def _optional(value: Any, write: Callable[[Any], str]) -> str | None:
    return None if value is None else write(value)


def _or_off(value: Any) -> Any:
    return "off" if value is None else value


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
