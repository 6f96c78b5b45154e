"""What this host lets a job be: limits, images, networks, users, mounts, devices. Pure.

Refused, never repaired (DURABILITY, "Docker socket = root": a list that filters can be passed by).
The same rules are asked when a job is registered, when a run is queued, when its attempt is about
to start, and of the container's final settings (engine/container.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from jobd.core.alertcheck import problems as alert_problems
from jobd.core.masking import MASK
from jobd.core.model import JobSpec
from jobd.core.policy import Rules
from jobd.core.specaccess import components
from jobd.errors import InvalidError
from jobd.units import duration_text, size_text

#: never mounted, nor anything below or above: each gives the host away, whatever is configured
NEVER = (
    "/etc",
    "/proc",
    "/sys",
    "/dev",
    "/boot",
    "/run/docker.sock",
    "/run/docker",
    "/run/containerd",
    "/run/podman",
    "/var/run",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
)
#: an engine's socket is root's equal, wherever it lies
ENGINE_SOCKETS = frozenset({"docker.sock", "podman.sock", "containerd.sock", "crio.sock"})


def check_rules(spec: JobSpec, rules: Rules) -> None:
    """Refuse what this host's configuration does not let a job be. Raises InvalidError.

    Mounts and devices are not looked at: what they name has to be resolved first.
    """
    for problem in _problems(spec, rules):
        raise InvalidError(f"job {spec.name}: {problem}")


def all_problems(spec: JobSpec, rules: Rules) -> list[str]:
    """Everything that this host does not let the job be: for who mends a file."""
    problems = [*_problems(spec, rules), *alert_problems(spec, rules)]
    for look in (_look_unmasked, check_places):
        try:
            look(spec, rules)
        except InvalidError as error:
            problems.append(str(error).removeprefix(f"job {spec.name}: "))
    return problems


def _look_unmasked(spec: JobSpec, rules: Rules) -> None:
    check_unmasked(spec)


def check_places(spec: JobSpec, rules: Rules) -> None:
    """Refuse mounts and devices, resolved, that this host does not give. Raises InvalidError."""
    for index, mount in enumerate(spec.mounts):
        problem = mount_problem(rules.resolve(mount.source), mount.read_only, rules)
        if problem:
            raise InvalidError(f"job {spec.name}: mounts[{index}].source {mount.source}: {problem}")
    for device in spec.devices:
        problem = device_problem(rules.resolve(device), rules)
        if problem:
            raise InvalidError(f"job {spec.name}: devices: {device}: {problem}")


def check_unmasked(spec: JobSpec) -> None:
    """Refuse what was copied from a listing: the mask is not the value. Raises InvalidError."""
    for name, value in spec.env.items():
        if MASK in value:
            raise InvalidError(
                f"job {spec.name}: env.{name}: {MASK} is what listings show in place of the value"
            )
    if MASK in spec.config:
        raise InvalidError(
            f"job {spec.name}: config: {MASK} is what listings show in place of a value"
        )


def _limits(spec: JobSpec, rules: Rules) -> Iterator[str]:
    if rules.max_cpus is not None and spec.cpus > rules.max_cpus:
        yield (
            f"resources.cpus {spec.cpus:g}: this host lets a run have {rules.max_cpus:g} at most"
        )
    if rules.max_memory is not None and spec.memory > rules.max_memory:
        yield (
            f"resources.memory {size_text(spec.memory)}: this host lets a run "
            f"have {size_text(rules.max_memory)} at most"
        )
    most = spec.retry.memory_max
    if rules.max_memory is not None and most is not None and most > rules.max_memory:
        yield (
            f"retry.memory_max {size_text(most)}: this host lets a run "
            f"have {size_text(rules.max_memory)} at most"
        )
    if rules.max_timeout is not None and spec.timeout > rules.max_timeout:
        yield (
            f"timeout {duration_text(spec.timeout)}: "
            f"{duration_text(rules.max_timeout)} at most here (maxima.timeout)"
        )
    if rules.max_attempts is not None and spec.retry.attempts > rules.max_attempts:
        yield (
            f"retry.attempts {spec.retry.attempts}: "
            f"{rules.max_attempts} at most here (maxima.attempts)"
        )


def _problems(spec: JobSpec, rules: Rules) -> Iterator[str]:
    yield from _names(spec, rules)
    yield from _limits(spec, rules)
    yield from _container_limits(spec, rules)


def _container_limits(spec: JobSpec, rules: Rules) -> Iterator[str]:
    if rules.max_gpus is not None and spec.gpus > rules.max_gpus:
        yield f"resources.gpus {spec.gpus}: this host lets a run have {rules.max_gpus} at most"
    if rules.max_pids is not None and spec.pids > rules.max_pids:
        yield f"resources.pids {spec.pids}: {rules.max_pids} at most here (maxima.pids)"
    if rules.max_shm is not None and spec.shm is not None and spec.shm > rules.max_shm:
        yield (
            f"resources.shm {size_text(spec.shm)}: "
            f"{size_text(rules.max_shm)} at most here (maxima.shm)"
        )
    for name, value in spec.ulimits.items():
        most = rules.max_ulimits.get(name)
        if most is not None and value > most:
            yield (f"resources.ulimits.{name} {value}: {most} at most here (maxima.ulimits.{name})")


def _names(spec: JobSpec, rules: Rules) -> Iterator[str]:
    if spec.image is None:
        yield from _process(spec, rules)
        return
    problems = (
        network_problem(spec.network, rules),
        image_problem(spec.image, rules),
        user_problem(spec.user, rules),
    )
    yield from (problem for problem in problems if problem)


def _process(spec: JobSpec, rules: Rules) -> Iterator[str]:
    """A process of the host runs as one user, or not at all."""
    if rules.no_processes:
        yield f"has no image, so it would be a process of the host: {rules.no_processes}"
    if spec.user is not None and spec.user != rules.process_user:
        who = rules.process_user or "the user of jobd itself"
        yield f"user {spec.user!r:.80}: processes run as {who} here: leave it out"


def network_problem(network: str, rules: Rules) -> str | None:
    """Why no attempt may have that network, or None."""
    if network in rules.networks:
        return None
    return (
        f"network {network!r} is not allowed here "
        f"(allow.networks: {', '.join(sorted(rules.networks))})"
    )


def image_problem(image: str, rules: Rules) -> str | None:
    """Why no attempt may use that image, or None.

    A pattern is held against the whole reference, and against it with the tag `latest` where it has
    none. `*` stands for anything, slashes too.
    """
    forms = {image}
    if "@" not in image and ":" not in image.rpartition("/")[2]:
        forms.add(f"{image}:latest")
    if any(fnmatchcase(form, pattern) for form in forms for pattern in rules.images):
        return None
    return f"image {image!r} is not allowed here (images.allow: {_listed(rules.images)})"


def user_problem(user: str | None, rules: Rules) -> str | None:
    """Why no attempt may run as that user, or None. Said of a container's user, `uid[:gid]`.

    `*` does not go over the colon: who may be user 1000 may not therefore be of group 0.
    """
    if "*" in rules.users:
        return None
    if user is None:
        return (
            "user is missing: the image's own is not allowed here "
            f"(allow.users: {_listed(rules.users)})"
        )
    wanted = user.split(":")
    for pattern in rules.users:
        parts = pattern.split(":")
        if len(parts) == len(wanted) and all(map(fnmatchcase, wanted, parts)):
            return None
    return f"user {user!r} is not allowed here (allow.users: {_listed(rules.users)})"


def mount_problem(source: str, read_only: bool, rules: Rules) -> str | None:
    """Why that folder or file of the host, links resolved, may not be mounted, or None."""
    if ".." in components(source) or not source.startswith("/"):
        return f"{source} is no plain absolute path"
    for never in (*NEVER, *rules.protected):
        if inside(source, never) or inside(never, source):
            return f"{source} is never mounted: it is, holds or lies in {never}"
    if components(source)[-1] in ENGINE_SOCKETS:
        return f"{source} is never mounted: an engine's socket is root's equal"
    allowed = [root for root, _ in rules.mounts]
    for root, writable in rules.mounts:
        if inside(source, root) and (writable or read_only):
            return None
    if not read_only and mount_problem(source, True, rules) is None:
        return f"{source} may be mounted with read_only = true alone (allow.mounts)"
    return f"{source} lies in no folder that may be mounted (allow.mounts: {_listed(allowed)})"


def device_problem(device: str, rules: Rules) -> str | None:
    """Why no attempt may have that device of the host, links resolved, or None."""
    if inside(device, "/dev") and any(fnmatchcase(device, each) for each in rules.devices):
        return None
    return f"{device} is not allowed here (allow.devices: {_listed(rules.devices)})"


def inside(path: str, root: str) -> bool:
    """Whether `path` is `root` or lies in it, by the names of its folders and not as text."""
    names = components(root)
    return components(path)[: len(names)] == names


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words) or "none"
