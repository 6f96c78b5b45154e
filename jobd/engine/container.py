"""An order becomes a container's settings: nothing but what is written here gets through.

The settings are those of the engine's API, built from an allow-list of keys and checked again in
their final form before they are sent (DURABILITY, security checklist 11-20: refuse, never
silently repair, and look at the final settings, not at the request).
"""

from __future__ import annotations

import math
import os
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobd.core.allowed import (
    ENGINE_SOCKETS,
    device_problem,
    image_problem,
    mount_problem,
    network_problem,
    user_problem,
)
from jobd.core.policy import Rules
from jobd.core.specaccess import ULIMITS
from jobd.engine.base import Order, StartRefusedError

#: INTERFACE, "What an attempt finds"
CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "SETUID",
    "SETGID",
    "KILL",
    "NET_BIND_SERVICE",
)
TASK_DIR = "/job"
SECRETS_DIR = "/job/secrets"
API_DIR = "/job/api"
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_ID = re.compile(r"[0-9a-f]{64}")
_CGROUP = re.compile(r"/[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")
_SIGNAL = re.compile(r"(?:SIG)?[A-Z][A-Z0-9+-]{1,12}|[0-9]{1,2}")
#: nobody mounts these, whatever the configuration allows: each gives the host away
_NEVER_MOUNTED = frozenset({"/", "/etc", "/proc", "/sys", "/dev", "/run", "/var/run", "/boot"})
_NEVER_BELOW = ("/proc/", "/sys/")


class ForbiddenSettingError(StartRefusedError):
    """A setting that no attempt may have would have reached the engine; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the engine's kind decides, the same for all attempts."""

    #: `local`, or `json-file` where the engine has no `local` (Podman)
    log_driver: str = "local"
    #: cgroup that the container is put under (absolute), or None for the engine's own choice
    cgroup_parent: str | None = None
    #: limits of files and of processes by user, by their names; without: the engine's own choice
    limits: tuple[tuple[str, int], ...] = ()
    #: what the engine puts before the name of an image that was made on this host
    local_prefix: str = ""
    #: what the host's configuration allows, or None where nobody has said
    rules: Rules | None = None
    #: id of the container whose network namespace attempts of network `none` join, or None
    joined: str | None = None


def body(order: Order, image: str, settings: Settings) -> dict[str, object]:
    """The body of the engine's create request for `order`, checked by :func:`validate`.

    Raises ForbiddenSettingError.
    """
    host = _host_config(order, settings)
    # looked at as what it is: whose namespace is joined is jobd's own word, and an id
    validate({**host, "NetworkMode": order.network})
    if settings.joined is not None and not _ID.fullmatch(settings.joined):
        raise ForbiddenSettingError(f"{order.ref}: joins {settings.joined!r:.80}: not an id")
    if not _SIGNAL.fullmatch(order.stop_signal):
        raise ForbiddenSettingError(f"{order.ref}: stop_signal {order.stop_signal!r}: no signal")
    for name in order.env:
        if not name or "=" in name or "\0" in name:
            raise ForbiddenSettingError(f"{order.ref}: env {name!r}: not a variable's name")
    config: dict[str, object] = {
        "Image": image,
        "Env": [f"{name}={value}" for name, value in order.env.items()],
        "Labels": dict(order.labels),
        # a terminal would merge the two streams
        "Tty": False,
        "OpenStdin": order.stdin is not None,
        # without it the end of the payload would not be the end of the input (facts, 1.5)
        "StdinOnce": order.stdin is not None,
        "StopSignal": order.stop_signal,
        "HostConfig": host,
    }
    if order.command is not None:
        config["Cmd"] = list(order.command)
    if order.user is not None:
        config["User"] = order.user
    if settings.rules is not None:
        _check_allowed(order, config, settings.rules)
    return config


def _check_allowed(order: Order, config: Mapping[str, Any], rules: Rules) -> None:
    """Refuse final settings that the host's lists do not allow. Raises ForbiddenSettingError.

    The image is told by the order: a retry names it by the id that it had.
    """
    host = config["HostConfig"]
    own = {str(order.task_dir), str(order.secrets_dir), str(order.api_dir), str(order.payload)}
    problems = [
        image_problem(order.image, rules),
        user_problem(config.get("User"), rules),
        network_problem(order.network, rules),
    ]
    for mount in host["Mounts"]:
        if mount["Source"] not in own:
            problems.append(mount_problem(mount["Source"], mount["ReadOnly"], rules))
    for device in host.get("Devices", ()):
        problems.append(device_problem(device["PathOnHost"], rules))
    for problem in problems:
        if problem is not None:
            raise ForbiddenSettingError(f"{order.ref}: {problem}")


def check_sources(order: Order) -> None:
    """Refuse a mount that a link has been put in the place of. Raises ForbiddenSettingError.

    The sources of an order are resolved, so each must still be itself. The engine resolves them
    once more when it starts the container: between the two lie some milliseconds that only the
    engine could close, so who may write to a folder above a mount's source is trusted (README).
    """
    for mount in order.mounts:
        if os.path.realpath(mount.source) != posixpath.normpath(mount.source):
            raise ForbiddenSettingError(f"{order.ref}: mount {mount.source}: is a link by now")


def _host_config(order: Order, settings: Settings) -> dict[str, object]:
    joined = settings.joined if order.network == "none" else None
    host: dict[str, object] = {
        "Privileged": False,
        # an engine that removes by itself destroys the exit status (DURABILITY, finding 6)
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no"},
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": ["no-new-privileges"],
        # without an init a program without a handler sleeps through SIGTERM
        "Init": True,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Mounts": _mounts(order),
        "Memory": order.memory,
        # no swap beside the memory, or an attempt may use as much again
        "MemorySwap": order.memory,
        "NanoCpus": _nano_cpus(order.cpus),
        "PidsLimit": order.pids,
        # what the job says goes before what the engine's kind needs
        "Ulimits": _ulimits(sorted({**dict(settings.limits), **dict(order.ulimits)}.items())),
        "OomScoreAdj": 500,
        "NetworkMode": order.network if joined is None else f"container:{joined}",
        "LogConfig": _log_config(order.log_bytes, settings.log_driver),
    }
    if settings.cgroup_parent is not None:
        host["CgroupParent"] = settings.cgroup_parent
    if order.devices:
        host["Devices"] = [
            {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rw"}
            for path in order.devices
        ]
    if order.shm is not None:
        host["ShmSize"] = order.shm
    if order.gpus:
        host["DeviceRequests"] = [
            {
                "Driver": "nvidia",
                "DeviceIDs": [str(gpu) for gpu in order.gpus],
                "Capabilities": [["gpu"]],
            }
        ]
    return host


def _ulimits(limits: Sequence[tuple[str, int]]) -> list[dict[str, object]]:
    # one number for both: Podman 4.3 takes the one for the other
    return [{"Name": name, "Soft": most, "Hard": most} for name, most in (("core", 0), *limits)]


def _nano_cpus(cpus: float) -> int:
    """Billionths of a core; 0, which :func:`validate` refuses, for what is no number of them."""
    nanos = cpus * 1_000_000_000
    return round(nanos) if math.isfinite(nanos) else 0


def _mounts(order: Order) -> list[dict[str, object]]:
    """Bind mounts; `mounts` refuses a missing source where `binds` would create it, as root."""
    wanted = [(str(order.task_dir), TASK_DIR, False)]
    if order.secrets_dir is not None:
        wanted.append((str(order.secrets_dir), SECRETS_DIR, True))
    if order.payload is not None:
        wanted.append((str(order.payload), f"{TASK_DIR}/payload", True))
    if order.api_dir is not None:
        # of its own and read-only: who could put another socket there would speak for jobd
        wanted.append((str(order.api_dir), API_DIR, True))
    wanted += [(mount.source, mount.target, mount.read_only) for mount in order.mounts]
    return [
        {
            "Type": "bind",
            "Source": source,
            "Target": target,
            "ReadOnly": read_only,
            # nothing that an attempt mounts may show up on the host
            "BindOptions": {"Propagation": "rprivate"},
        }
        for source, target, read_only in wanted
    ]


def _log_config(log_bytes: int, driver: str) -> dict[str, object]:
    """Two files that hold `log_bytes` of output after any turn of the files, for usual lines.

    The driver counts its own frame of 30 to 40 bytes a line as well, so a half is added: right for
    lines of 80 bytes and more. At a turn the older file goes, so one must be enough by itself.
    """
    size = max(log_bytes, 1 << 20)
    config = {"max-size": str(size + size // 2), "max-file": "2"}
    if driver == "local":
        # packing the older file costs a core for a second and makes reading it back slow
        config["compress"] = "false"
    return {"Type": driver, "Config": config}


def validate(host_config: Mapping[str, object]) -> None:
    """Refuse settings that are not exactly what an attempt may have.

    Every key must be known and every value pass its rule; keys that keep the host safe must be
    there. Raises ForbiddenSettingError naming the key.
    """
    for key, value in host_config.items():
        rule = _RULES.get(key)
        if rule is None or not rule(value):
            raise ForbiddenSettingError(f"container setting {key} = {value!r}: not allowed")
    missing = _RULES.keys() - host_config.keys() - _OPTIONAL
    if missing:
        raise ForbiddenSettingError(f"container setting {min(missing)}: missing")
    if host_config["MemorySwap"] != host_config["Memory"]:
        raise ForbiddenSettingError("container setting MemorySwap: differs from Memory")


def _exactly(wanted: object) -> Callable[[object], bool]:
    return lambda value: type(value) is type(wanted) and value == wanted


def _is_positive(value: object) -> bool:
    """Zero and below mean "no limit" to the engine."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 63


def _is_network(value: object) -> bool:
    """A name; `container:` and `ns:` would join another's network, `default` says nothing."""
    return isinstance(value, str) and _NETWORK.fullmatch(value) is not None and value != "default"


def _is_cgroup(value: object) -> bool:
    return isinstance(value, str) and _CGROUP.fullmatch(value) is not None and "/.." not in value


def _are_ulimits(value: object) -> bool:
    """No core files; beside that, only what a job may set, each once."""
    if not isinstance(value, list) or value[:1] != _ulimits(()):
        return False
    names = [str(each.get("Name")) for each in value if isinstance(each, dict)]
    return names == ["core", *sorted(set(names[1:]) & set(ULIMITS))] and all(
        each.keys() == {"Name", "Soft", "Hard"}
        and _is_positive(each["Hard"])
        and each["Soft"] == each["Hard"]
        for each in value[1:]
    )


def _are_mounts(value: object) -> bool:
    return isinstance(value, list) and all(_is_mount(mount) for mount in value)


def _is_mount(mount: object) -> bool:
    if not isinstance(mount, dict) or mount.keys() != {
        "Type",
        "Source",
        "Target",
        "ReadOnly",
        "BindOptions",
    }:
        return False
    return (
        mount["Type"] == "bind"
        and isinstance(mount["ReadOnly"], bool)
        and mount["BindOptions"] == {"Propagation": "rprivate"}
        and _is_source(mount["Source"])
        and _is_target(mount["Target"])
    )


def _is_source(source: object) -> bool:
    """A path without tricks: the caller resolved it, so one that still has `..` is not its own."""
    if not isinstance(source, str) or not source.startswith("/") or "\0" in source:
        return False
    plain = posixpath.normpath("/" + source.lstrip("/"))
    return (
        ".." not in source.split("/")
        and plain not in _NEVER_MOUNTED
        and not plain.startswith(_NEVER_BELOW)
        and posixpath.basename(plain) not in ENGINE_SOCKETS
    )


def _is_target(target: object) -> bool:
    if not isinstance(target, str) or not target.startswith("/") or "\0" in target:
        return False
    plain = posixpath.normpath("/" + target.lstrip("/"))
    return ".." not in target.split("/") and plain not in {"/", "/proc", "/sys", "/dev"}


def _are_devices(value: object) -> bool:
    """Devices under their own names, to be read and written and not made (no `m`)."""
    return isinstance(value, list) and all(
        isinstance(device, dict)
        and device.keys() == {"PathOnHost", "PathInContainer", "CgroupPermissions"}
        and device["PathOnHost"] == device["PathInContainer"]
        and device["CgroupPermissions"] == "rw"
        and isinstance(device["PathOnHost"], str)
        and device["PathOnHost"].startswith("/dev/")
        and ".." not in device["PathOnHost"].split("/")
        for device in value
    )


def _are_gpus(value: object) -> bool:
    """GPUs by their numbers, each once; never `all`, nor a count, which the engine would choose."""
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], dict):
        return False
    ids = value[0].get("DeviceIDs")
    return (
        value[0] == {"Driver": "nvidia", "DeviceIDs": ids, "Capabilities": [["gpu"]]}
        and isinstance(ids, list)
        and 0 < len(set(ids)) == len(ids)
        and all(isinstance(one, str) and one.isdecimal() for one in ids)
    )


def _is_log_config(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() != {"Type", "Config"}:
        return False
    config = value["Config"]
    if value["Type"] not in ("local", "json-file") or not isinstance(config, dict):
        return False
    size = config.get("max-size")
    return (
        config.keys() <= {"max-size", "max-file", "compress"}
        and isinstance(size, str)
        and size.isdecimal()
        and int(size) > 0
        and config.get("max-file") == "2"
        and config.get("compress", "false") == "false"
    )


_RULES: dict[str, Callable[[object], bool]] = {
    "Privileged": _exactly(False),
    "AutoRemove": _exactly(False),
    "RestartPolicy": _exactly({"Name": "no"}),
    "CapDrop": _exactly(["ALL"]),
    "CapAdd": _exactly(list(CAPABILITIES)),
    "SecurityOpt": _exactly(["no-new-privileges"]),
    "Init": _exactly(True),
    "IpcMode": _exactly("private"),
    "CgroupnsMode": _exactly("private"),
    "Mounts": _are_mounts,
    "Memory": _is_positive,
    "MemorySwap": _is_positive,
    "NanoCpus": _is_positive,
    "PidsLimit": _is_positive,
    "Ulimits": _are_ulimits,
    "OomScoreAdj": _exactly(500),
    "NetworkMode": _is_network,
    "LogConfig": _is_log_config,
    "CgroupParent": _is_cgroup,
    "Devices": _are_devices,
    "ShmSize": _is_positive,
    "DeviceRequests": _are_gpus,
}
#: what is there only where an order asks for it
_OPTIONAL = {"CgroupParent", "Devices", "ShmSize", "DeviceRequests"}
