"""A claimed attempt to the order that an engine gets, and the files that it finds."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobd.core.allowed import (
    device_problem,
    image_problem,
    mount_problem,
    network_problem,
    user_problem,
)
from jobd.core.commands import Body
from jobd.core.drops import drop_of
from jobd.core.entities import Attempt, Run
from jobd.core.policy import Rules
from jobd.core.states import Kind
from jobd.core.topics import chain_of
from jobd.daemon.inbox import SOCKET, TOPIC
from jobd.daemon.stdin import PayloadInput
from jobd.daemon.workdir import Inputs
from jobd.engine.base import Mount, Order, StartRefusedError
from jobd.intake.names import Claimed
from jobd.intake.spool import Spool

#: a secret is a key or a password, not a file system
_LARGEST_SECRET = 1 << 20


def reference(store: bytes, run: int, attempt: int) -> str:
    """The name of an attempt for life (INTERFACE, "What an attempt finds")."""
    return f"jobd-{store.hex()[:8]}-{run}-{attempt}"


def held_payload(run: Run, spool: Spool) -> Path | None:
    """The dropped file that is the run's payload without being copied, or None."""
    drop = drop_of(run)
    if drop is None or drop.held is None:
        return None
    return spool.claimed_path(run.job.name, Claimed(*drop[:3]).file)


def build(
    store: bytes,
    run: Run,
    attempt: Attempt,
    work: Path,
    log_bytes: int,
    payload: Path | None = None,
) -> Order:
    """The order for a run's attempt, without what secrets add. Pure.

    `payload` is the file that is its payload, where that is not copied.
    """
    spec = run.spec
    folder = work / f"{run.id}.{attempt.number}"
    files = any(target.startswith("file:") for target in spec.secrets)
    pinned: str | None = next(
        (a.started.image_id for a in reversed(run.attempts or []) if a.started is not None), None
    )
    args = tuple(run.option("args") or ())
    return Order(
        ref=reference(store, run.id, attempt.number),
        labels={
            "jobd.store": store.hex(),
            "jobd.job": spec.name,
            "jobd.run": str(run.id),
            "jobd.attempt": str(attempt.number),
        },
        run=run.id,
        attempt=attempt.number,
        job=spec.name,
        image=spec.image or "",
        image_id=pinned or None,
        pull=spec.pull,
        command=(spec.command or ()) + args if spec.command or args else None,
        env=environment(
            run,
            attempt,
            "/job" if spec.image else str(folder / "job"),
            "/job/api" if spec.image else str(folder / "api"),
        ),
        user=spec.user,
        network=spec.network,
        mounts=tuple(Mount(*mount) for mount in spec.mounts),
        cpus=spec.cpus,
        memory=run.memory,
        pids=spec.pids,
        stop_signal=spec.stop_signal,
        task_dir=folder / "job",
        log_bytes=log_bytes,
        secrets_dir=folder / "secrets" if files else None,
        stdin=PayloadInput(folder, payload) if spec.stdin == "payload" else None,
        devices=spec.devices,
        gpus=tuple(attempt.gpus or ()),
        shm=spec.shm,
        ulimits=tuple(sorted(spec.ulimits.items())),
        payload=payload,
        idle=None if spec.idle_timeout is None else spec.idle_timeout / 1000,
        api_dir=folder / "api" if spec.api.on else None,
    )


def admitted(order: Order, rules: Rules) -> Order:
    """The order as it may be started now, the links in its mounts resolved.

    What was allowed when the job was registered may not be any more: the configuration changed, or
    somebody put a link in a folder's place. Looks at the disk. Raises StartRefusedError.
    """
    mounts = tuple(replace(mount, source=rules.resolve(mount.source)) for mount in order.mounts)
    devices = tuple(rules.resolve(device) for device in order.devices)
    problems = (
        []
        if not order.image
        else [
            image_problem(order.image, rules),
            network_problem(order.network, rules),
            user_problem(order.user, rules),
            *(mount_problem(mount.source, mount.read_only, rules) for mount in mounts),
            *(device_problem(device, rules) for device in devices),
        ]
    )
    for problem in problems:
        if problem is not None:
            raise StartRefusedError(f"not started: {problem}")
    return replace(order, mounts=mounts, devices=devices)


def environment(run: Run, attempt: Attempt, task_dir: str, api_dir: str) -> dict[str, str]:
    """What an attempt finds in its environment; jobd's own names win over the job's.

    `task_dir` and `api_dir` are where the attempt itself sees its folders.
    """
    env = {**run.spec.env, **(run.option("env") or {})}
    env.update(
        TASK_ID=str(run.id),
        TASK_DIR=task_dir,
        PAYLOAD_FILE=f"{task_dir}/payload",
        CONFIG_FILE=f"{task_dir}/config",
        RESULT_FILE=f"{task_dir}/result",
        OUTPUT_DIR=f"{task_dir}/out",
        JOB_NAME=run.job.name,
        RUN_ID=str(run.id),
        ATTEMPT=str(attempt.number),
        TRIGGER=str(run.origin[0]),
        SCHEDULED_AT=_moment(run.option("source")),
    )
    if run.spec.gpus and run.spec.image is None:
        # a process sees them all; in a container there are no others, and they count from 0
        env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, attempt.gpus or ()))
    env.update(_cause(run))
    if run.spec.api.on:
        env.update(JOBD_SOCKET=f"{api_dir}/{SOCKET}")
    batch = run.option("batch")
    if batch is not None:
        env.update(BATCH_ID=str(batch[0]), BATCH_INDEX=str(run.id - batch[1]))
    return env


def _cause(run: Run) -> dict[str, str]:
    """What a run that follows from another, or from a notification, is told of that."""
    source, chain = run.option("source"), chain_of(run.options, run.id)
    found = {"TRIGGER_NAME": str(source[0])} if source else {}
    if chain.cause is not None:
        found["TRIGGER_RUN"] = str(chain.cause)
        if chain.outcome:
            found["TRIGGER_OUTCOME"] = chain.outcome
    return found


def _moment(source: Sequence[Any] | None) -> str:
    """When the run was meant to be, as ISO 8601 in UTC; empty where nobody meant a time."""
    if not source or source[1] is None:
        return ""
    return f"{datetime.fromtimestamp(source[1] / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def inputs(
    run: Run,
    payload: Callable[[], bytes | Body | Path],
    secrets: Path,
    owner: tuple[int, int] | None = None,
    parents: Mapping[int, bytes | Body] | None = None,
) -> Inputs:
    """The bytes that an attempt finds in its folder. Raises StartRefusedError for a secret.

    `parents` are the results of its parents, by run.
    `owner` is who processes of the host run as, where that is not the daemon's own user.
    """
    files = {
        target.removeprefix("file:"): read_secret(secrets, source)
        for target, source in run.spec.secrets.items()
        if target.startswith("file:")
    }
    process = run.spec.kind is Kind.PROCESS
    found = payload()
    if isinstance(found, Path) and not found.exists():
        raise StartRefusedError(f"not started: its payload, the dropped file {found}, is gone")
    return Inputs(
        payload=found,
        config=run.spec.config.encode(),
        secrets=files,
        parents=parents or {},
        queues=queues(run),
        in_place=process,
        owner=owner if process else None,
    )


def queues(run: Run) -> tuple[str, ...] | None:
    """The jobs, and behind `@` the topics, for which it finds a folder in `queue/`; None where it
    may not ask from inside. A topic with a `/` has none."""
    api = run.spec.api
    if not api.on:
        return None
    topics = tuple(TOPIC + topic for topic in api.emit if topic != "*" and "/" not in topic)
    return tuple(job for job in api.queue if job != "*") + topics


def secret_variables(run: Run, secrets: Path) -> dict[str, str]:
    """Secrets that go into the environment. Raises StartRefusedError."""
    found = {}
    for target, source in run.spec.secrets.items():
        if not target.startswith("file:"):
            value = read_secret(secrets, source).removesuffix(b"\n")
            if b"\0" in value:
                raise StartRefusedError(
                    f"secret {source}: holds a NUL byte, which no variable can: use a secret file"
                )
            found[target] = value.decode("utf-8", "surrogateescape")
    return found


def read_secret(folder: Path, name: str) -> bytes:
    """A file of the secrets folder. Raises StartRefusedError saying what is wrong, not its text."""
    if "/" in name or name.startswith("."):
        raise StartRefusedError(f"secret {name!r:.80}: no name of a file in {folder}")
    try:
        fd = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise StartRefusedError(
            f"secret {name}: cannot be read from {folder}: {error.strerror}"
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise StartRefusedError(f"secret {name}: {folder / name} is no regular file")
        data = os.read(fd, _LARGEST_SECRET + 1)
    finally:
        os.close(fd)
    if len(data) > _LARGEST_SECRET:
        raise StartRefusedError(f"secret {name}: is larger than 1M")
    return data
