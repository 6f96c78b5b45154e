"""What the real driver sends for any job whatsoever, taken where the engine would take it.

The rules here are written from INTERFACE and DURABILITY (security checklist 11 to 20), not from
the code: what is not named is not allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobd.core.entities import Run
from jobd.core.model import JobSpec, Mount
from jobd.core.policy import Rules
from jobd.core.specaccess import OVERRIDES
from jobd.daemon.orders import admitted, build
from jobd.engine.base import Order, StartRefusedError
from jobd.engine.containers import ContainerEngine
from jobd.engine.docker import Api
from jobd.engine.usage import CgroupSettings
from jobd.errors import JobdError
from tests.support.core import Bench
from tests.support.engine_door import IMAGE_ID, Door

STORE = bytes(16)
STATE = "/srv/jobd/state"
#: a host that is set up tightly
TIGHT = Rules(
    images=("reg/*",),
    users=("1000:1000",),
    networks=frozenset({"none", "jobs"}),
    mounts=(("/srv/data", True), ("/srv/read", False)),
    devices=("/dev/kvm",),
    protected=(STATE, "/run/docker.sock"),
)
#: what it was when the job came: all is let through, so that nothing but the last door is left
OPEN = Rules(
    networks=frozenset({"none", "jobs", "host", "bridge", "x"}),
    devices=("*",),
    mounts=(("/", True),),
)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    one = Door(tmp_path_factory.mktemp("d") / "s")
    yield one
    one.close()


@pytest.fixture(scope="module")
def engine(door: Door) -> Iterator[ContainerEngine]:
    api = Api(door.url, None, 5.0, 5.0, 5.0)
    one = ContainerEngine(api, STORE, CgroupSettings(parents=False), 1.0, lambda: TIGHT)
    one.connect()
    yield one
    one.close()


# -- the rules, once more --------------------------------------------------------------------

EXACTLY: dict[str, Any] = {
    "Privileged": False,
    "AutoRemove": False,
    "RestartPolicy": {"Name": "no"},
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
    "Init": True,
    "IpcMode": "private",
    "CgroupnsMode": "private",
    "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
    "OomScoreAdj": 500,
}
CAPS = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL", "NET_BIND_SERVICE"}
LIMITS = ("Memory", "MemorySwap", "NanoCpus", "PidsLimit")
OTHERS = {"CapAdd", "Mounts", "Devices", "NetworkMode", "LogConfig", *LIMITS}
TOP = {
    *("Image", "Cmd", "Env", "User", "Labels", "Tty", "OpenStdin", "StdinOnce", "StopSignal"),
    "HostConfig",
}
LABELS = {"jobd.store", "jobd.job", "jobd.run", "jobd.attempt"}
PATHS = re.compile(
    r"(/v[0-9.]+)?/(version|info|containers/create\?name=jobd-[0-9a-f]{8}-[0-9]+-[0-9]+"
    r"|containers/jobd-[0-9a-f]{8}-[0-9]+-[0-9]+/(json|start|attach\?[a-z0-9=&]*)"
    r"|images/create\?fromImage=reg(%2F[a-z0-9._-]+)+&tag=[A-Za-z0-9._:%-]+"
    r"|images/reg/[a-z0-9./:@_-]+/json|images/sha256:1+/json)"
)


def wrong(made: dict[str, Any]) -> list[str]:
    """What a container's settings have that no job may have."""
    host = made["HostConfig"]
    found = [f"unknown {key}" for key in made.keys() - TOP]
    found += [f"unknown {key}" for key in host.keys() - EXACTLY.keys() - OTHERS]
    found += [key for key, value in EXACTLY.items() if host.get(key) != value]
    found += [key for key in LIMITS if not (type(host[key]) is int and host[key] > 0)]
    if not set(host["CapAdd"]) <= CAPS:
        found.append("CapAdd")
    if made["Labels"].keys() != LABELS:
        found.append("Labels")
    if not made["Image"].startswith("reg/") and made["Image"] != IMAGE_ID:
        found.append(f"Image {made['Image']}")
    if made.get("User") != "1000:1000":
        found.append(f"User {made.get('User')}")
    if host["NetworkMode"] not in ("none", "jobs"):
        found.append(f"NetworkMode {host['NetworkMode']}")
    if host["MemorySwap"] != host["Memory"] or made["Tty"]:
        found.append("MemorySwap or Tty")
    for device in host.get("Devices", ()):
        if set(device.values()) != {"/dev/kvm", "rw"}:
            found.append(f"Devices {device}")
    own = [f"{STATE}/work/1.1/job", f"{STATE}/work/1.1/secrets"]
    found += [f"Mounts {mount}" for mount in host["Mounts"] if not mount_is_right(mount, own)]
    return found


def mount_is_right(mount: dict[str, Any], own: list[str]) -> bool:
    """Below a folder that may be mounted, as it may be; or the attempt's own."""
    source = mount["Source"]
    parts = [part for part in source.split("/") if part not in ("", ".")]
    below = (parts[:2] == ["srv", "data"]) or (parts[:2] == ["srv", "read"] and mount["ReadOnly"])
    return (
        mount.keys() == {"Type", "Source", "Target", "ReadOnly", "BindOptions"}
        and mount["Type"] == "bind"
        and mount["BindOptions"] == {"Propagation": "rprivate"}
        and ".." not in parts
        and "docker.sock" not in parts
        and (below or source in own)
    )


# -- jobs ------------------------------------------------------------------------------------

odd = st.sampled_from(
    ["", "/", "..", "host", "container:1", "ns:/proc/1/ns/net", "default", "none", "jobs", "x",
     "reg/app", "reg/../x", "reg/app:1@sha256:" + "2" * 64, "other/app", "sha256:" + "1" * 64,
     "reg/a?x=1", "reg/a/json/../../containers", "0", "root", "1000:1000", "1000:0", "1000:1000 ",
     "\n", "a=b", "SIGKILL", "TERM;x", "--privileged", "seccomp=unconfined"],
)  # fmt: skip
texts = odd | st.text(max_size=12)
part = st.sampled_from(
    ["srv", "data", "read", "database", "jobd", "state", "work", "etc", "proc", "run", "dev", "kvm",
     "sda", "docker.sock", "..", ".", "", "1.1", "job"],
)  # fmt: skip
places = st.one_of(
    st.lists(part, max_size=5).map(lambda parts: "/" + "/".join(parts)),
    st.sampled_from(
        [
            "/srv/data/in",
            "/srv/read/x",
            "/srv/database",
            "/home/x",
            "/srv/datax/y",
            "/dev/kvm",
            "/dev/../dev/kvm",
            "relative",
        ]
    ),
)
mounts = st.builds(Mount, places, st.just("/in") | places, st.booleans())
devices = st.lists(places | st.sampled_from(["/dev/kvm", "/dev/sda"]), max_size=2)
numbers = st.sampled_from([0, -1, 1, 64, 1 << 70, 0.5, 1e-12, float("nan"), float("inf"), True])
#: what makes a container today, one value of which is put in the other's place
GOOD: dict[str, Any] = {
    "image": "reg/app",
    "user": "1000:1000",
    "network": "none",
    "mounts": (Mount("/srv/data/in", "/in", False), Mount("/srv/read/x", "/x", True)),
    "devices": ("/dev/kvm",),
    "pull": "missing",
}
#: not what `parse` would let through: as if it had been fooled, or the queue on disk been edited
HOSTILE: dict[str, st.SearchStrategy[Any]] = {
    "image": texts,
    "user": st.none() | texts,
    "network": st.sampled_from(["x", "host", "bridge", "jobs"]) | texts,
    "mounts": st.lists(mounts, max_size=3).map(tuple),
    "devices": devices.map(tuple),
    "command": st.none() | st.lists(texts, max_size=3).map(tuple),
    "env": st.dictionaries(texts, texts, max_size=3),
    "cpus": numbers,
    "memory": numbers,
    "pids": numbers,
    "stop_signal": texts,
    "stdin": st.just("none"),
    "secrets": st.dictionaries(texts | st.just("file:x"), texts, max_size=2),
    "pull": st.sampled_from(["missing", "always", "never", "x"]),
}
#: mostly one alone, as whatever else is wrong hides it
changes = st.one_of(
    *(
        st.fixed_dictionaries({key: HOSTILE[key]})
        for key in ("image", "user", "network", "mounts", "devices")
    ),
    st.lists(st.sampled_from(sorted(HOSTILE)), max_size=3, unique=True).flatmap(
        lambda keys: st.fixed_dictionaries({key: HOSTILE[key] for key in keys})
    ),
)


def queued(spec: JobSpec, **options: Any) -> Run:
    """The first run of a job of that definition, with an attempt claimed."""
    bench = Bench(OPEN)
    bench.register("job", resources={"cpus": 0.1, "memory": "64M"})
    run = bench.queue("job", **options)
    bench.claim()
    run.job.revisions[run.revision] = spec
    return run


PLAIN = Bench(OPEN).register("job", resources={"cpus": 0.1, "memory": "64M"}).spec


def sent(door: Door, engine: ContainerEngine, order: Order) -> dict[str, Any] | None:
    """What the engine was given, or None where it was given nothing."""
    door.forget()
    try:
        engine.start(order, lambda text: None)
    except (StartRefusedError, JobdError):
        pass
    for method, path, _ in door.said:
        assert PATHS.fullmatch(path), f"{method} {path}"
    bodies = [body for method, path, body in door.said if "/containers/create" in path]
    assert len(bodies) <= 1
    return bodies[0] if bodies else None


def test_a_job_that_is_allowed_gets_there(door: Door, engine: ContainerEngine) -> None:
    """Or nothing below would say anything."""
    run = queued(replace(PLAIN, **GOOD))
    order = admitted(build(STORE, run, run.attempt, Path(STATE, "work"), 1 << 20), TIGHT)
    made = sent(door, engine, order)
    assert made is not None
    assert wrong(made) == []
    assert len(made["HostConfig"]["Mounts"]) == 3


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes)
def test_no_job_leads_past_the_lists(
    door: Door, engine: ContainerEngine, change: dict[str, Any]
) -> None:
    """Not even one that neither registration nor launch has looked at: the last door is enough."""
    run = queued(replace(PLAIN, **(GOOD | change)))
    made = sent(door, engine, build(STORE, run, run.attempt, Path(STATE, "work"), 1 << 20))
    if made is not None:
        assert wrong(made) == []


#: what a submitter may say, and more
said = st.recursive(
    texts | numbers | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
KEYS = (
    *("image", "command", "user", "network", "mounts", "devices", "privileged", "cap_add", "pid"),
    *("security_opt", "HostConfig", "Binds", "runtime", "labels", "init", "access", "stop_signal"),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.sampled_from(KEYS), said, max_size=3),
    st.fixed_dictionaries({}, optional={"env": said, "args": said, "labels": said}),
)
def test_no_submission_leads_past_the_lists(
    door: Door, engine: ContainerEngine, settings_: dict[str, Any], options: dict[str, Any]
) -> None:
    """From what a client sends to what the engine is given: refused somewhere, or harmless."""
    bench = Bench(TIGHT)
    good = {"image": "reg/app", "user": "1000:1000", "network": "none"}
    try:
        bench.register("job", resources={"cpus": 0.1, "memory": "64M"}, **(good | settings_))
    except JobdError:
        if settings_:
            return
        raise
    env, args = options.get("env"), options.get("args")
    run = bench.queue(
        "job",
        env={str(k): str(v) for k, v in env.items()} if isinstance(env, dict) else {},
        args=tuple(map(str, args)) if isinstance(args, list) else (),
    )
    bench.claim()
    order = build(STORE, run, run.attempt, Path(STATE, "work"), 1 << 20)
    try:
        order = admitted(order, TIGHT)
    except StartRefusedError:
        return
    made = sent(door, engine, order)
    if made is not None:
        assert wrong(made) == []
        json.dumps(made)


def test_what_may_be_overridden_is_no_container_setting() -> None:
    """A submitter sets nothing that decides what the container may do."""
    assert set(OVERRIDES) <= {"priority", "timeout", "env", "args", "labels", "payload", "key",
                              "not_before", "delay", "expires", "after", "queue"}  # fmt: skip
