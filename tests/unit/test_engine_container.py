"""No order whatsoever leads to a setting that would give the host away."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.engine import container
from jobd.engine.base import Mount, Order, StartRefusedError
from jobd.engine.container import ForbiddenSettingError, Settings, body, validate


def order(**changes) -> Order:
    fields = {
        "ref": "jobd-00000000-1-1",
        "labels": {"jobd.store": "0" * 32},
        "run": 1,
        "attempt": 1,
        "job": "test",
        "image": "image",
        "image_id": None,
        "pull": "missing",
        "command": None,
        "env": {},
        "user": None,
        "network": "none",
        "mounts": (),
        "cpus": 0.5,
        "memory": 128 << 20,
        "pids": 256,
        "stop_signal": "SIGTERM",
        "task_dir": Path("/var/lib/jobd/tasks/1.1"),
        "log_bytes": 64 << 20,
    }
    return Order(**(fields | changes))


def host_of(one: Order, settings: Settings | None = None) -> dict:
    made = body(one, one.image, settings or Settings())["HostConfig"]
    assert isinstance(made, dict)
    return made


def test_the_whole_body_of_a_plain_order():
    made = body(order(command=("a", "b c"), env={"K": "v=w"}, user="1:2"), "image", Settings())
    host = made.pop("HostConfig")
    assert made == {
        "Image": "image",
        "Cmd": ["a", "b c"],
        "Env": ["K=v=w"],
        "User": "1:2",
        "Labels": {"jobd.store": "0" * 32},
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "StopSignal": "SIGTERM",
    }
    assert host == {
        "Privileged": False,
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no"},
        "CapDrop": ["ALL"],
        "CapAdd": [
            *("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL", "NET_BIND_SERVICE")
        ],
        "SecurityOpt": ["no-new-privileges"],
        "Init": True,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Mounts": [
            {
                "Type": "bind",
                "Source": "/var/lib/jobd/tasks/1.1",
                "Target": "/job",
                "ReadOnly": False,
                "BindOptions": {"Propagation": "rprivate"},
            }
        ],
        "Memory": 128 << 20,
        "MemorySwap": 128 << 20,
        "NanoCpus": 500_000_000,
        "PidsLimit": 256,
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "OomScoreAdj": 500,
        "NetworkMode": "none",
        "LogConfig": {
            "Type": "local",
            "Config": {"max-size": str(96 << 20), "max-file": "2", "compress": "false"},
        },
    }


def test_the_images_own_command_and_user_are_left_to_it():
    made = body(order(), "image", Settings())
    assert "Cmd" not in made
    assert "User" not in made


def test_secrets_are_read_only_and_below_the_job():
    mounts = host_of(order(secrets_dir=Path("/run/jobd/secrets/1.1")))["Mounts"]
    assert [(m["Source"], m["Target"], m["ReadOnly"]) for m in mounts[1:]] == [
        ("/run/jobd/secrets/1.1", "/job/secrets", True)
    ]


def test_podman_gets_json_file_without_compress():
    log = host_of(order(), Settings(log_driver="json-file"))["LogConfig"]
    assert log == {"Type": "json-file", "Config": {"max-size": str(96 << 20), "max-file": "2"}}


def test_a_parent_cgroup_is_passed_on():
    assert host_of(order(), Settings(cgroup_parent="/jobd/x"))["CgroupParent"] == "/jobd/x"
    for bad in ("jobd", "/", "/a/../b", "/a b", ""):
        with pytest.raises(ForbiddenSettingError, match="CgroupParent"):
            host_of(order(), Settings(cgroup_parent=bad))


@pytest.mark.parametrize(
    "changes",
    [
        {"memory": 0},
        {"memory": -1},
        {"cpus": 0.0},
        {"cpus": -1.0},
        {"pids": 0},
        {"pids": -1},
        {"network": "container:other"},
        {"network": "default"},
        {"network": ""},
        {"network": "ns:/proc/1/ns/net"},
        {"mounts": (Mount("/", "/host"),)},
        {"mounts": (Mount("//", "/host"),)},
        {"mounts": (Mount("/srv/..", "/host"),)},
        {"mounts": (Mount("/etc/", "/x"),)},
        {"mounts": (Mount("/proc/1/root", "/x"),)},
        {"mounts": (Mount("/run/docker.sock", "/x"),)},
        {"mounts": (Mount("/somewhere/docker.sock", "/x"),)},
        {"mounts": (Mount("relative", "/x"),)},
        {"mounts": (Mount("/srv", "relative"),)},
        {"mounts": (Mount("/srv", "/"),)},
        {"mounts": (Mount("/srv", "/x/.."),)},
        {"mounts": (Mount("/srv\0", "/x"),)},
        {"stop_signal": "TERM; rm"},
        {"env": {"A=B": "c"}},
    ],
    ids=str,
)
def test_what_is_refused(changes):
    with pytest.raises(ForbiddenSettingError):
        body(order(**changes), "image", Settings())


FORBIDDEN = {
    "Privileged": True,
    "AutoRemove": True,
    "Binds": ["/:/host"],
    "CapAdd": ["SYS_ADMIN"],
    "CapDrop": [],
    "SecurityOpt": ["seccomp=unconfined"],
    "PidMode": "host",
    "IpcMode": "host",
    "UTSMode": "host",
    "UsernsMode": "host",
    "CgroupnsMode": "host",
    "Devices": [{"PathOnHost": "/dev/sda"}],
    "DeviceRequests": [],
    "DeviceCgroupRules": ["a *:* rwm"],
    "VolumesFrom": ["other"],
    "Runtime": "other",
    "Sysctls": {},
    "OomKillDisable": True,
    "OomScoreAdj": -1000,
    "Init": False,
    "MaskedPaths": [],
    "ReadonlyPaths": [],
    "PortBindings": {},
    "PublishAllPorts": True,
    "RestartPolicy": {"Name": "always"},
    "Memory": 0,
    "MemorySwap": -1,
    "NanoCpus": 0,
    "PidsLimit": -1,
    "Ulimits": [],
    "LogConfig": {"Type": "none", "Config": {}},
    "GroupAdd": ["docker"],
    "Unheard": "of",
}


@pytest.mark.parametrize("key", FORBIDDEN)
def test_no_forbidden_field_passes(key):
    with pytest.raises(ForbiddenSettingError, match=key):
        validate({**host_of(order()), key: FORBIDDEN[key]})


@pytest.mark.parametrize("key", sorted(host_of(order())))
def test_no_field_may_be_missing(key):
    host = host_of(order())
    del host[key]
    with pytest.raises(ForbiddenSettingError, match=key):
        validate(host)


def test_a_mount_may_have_no_further_field():
    host = host_of(order())
    host["Mounts"][0]["VolumeOptions"] = {"DriverConfig": {"Name": "local"}}
    with pytest.raises(ForbiddenSettingError, match="Mounts"):
        validate(host)


texts = st.text(max_size=20) | st.sampled_from(
    [
        "/",
        "/etc",
        "/proc",
        "host",
        "container:x",
        "none",
        "bridge",
        "/srv/in",
        "/var/run/docker.sock",
    ]
)
paths = st.builds(lambda parts: Path("/" + "/".join(parts)), st.lists(texts, max_size=3))
orders = st.builds(
    order,
    image=texts,
    command=st.none() | st.lists(texts, max_size=3).map(tuple),
    env=st.dictionaries(texts, texts, max_size=3),
    labels=st.dictionaries(texts, texts, max_size=3),
    user=st.none() | texts,
    network=texts,
    mounts=st.lists(st.builds(Mount, texts, texts, st.booleans()), max_size=3).map(tuple),
    cpus=st.floats() | st.sampled_from([0.0, 1e-12, 0.5]),
    memory=st.integers(-(1 << 70), 1 << 70),
    pids=st.integers(-5, 1 << 40),
    stop_signal=texts | st.just("SIGTERM"),
    task_dir=paths,
    log_bytes=st.integers(-1, 1 << 50),
    secrets_dir=st.none() | paths,
)


@given(orders, st.sampled_from(["local", "json-file", "none", "syslog"]))
def test_no_order_leads_to_a_forbidden_field(one, driver):
    try:
        made = body(one, one.image, Settings(log_driver=driver))
    except StartRefusedError:
        return
    host = made["HostConfig"]
    assert isinstance(host, dict)
    validate(host)
    assert made.keys() <= {
        *("Image", "Cmd", "Env", "User", "Labels", "Tty", "OpenStdin", "StopSignal", "HostConfig")
    }
    assert not host["Privileged"]
    assert not host.keys() & (FORBIDDEN.keys() - container._RULES.keys())
    assert host["CapDrop"] == ["ALL"]
    assert set(host["CapAdd"]) == set(container.CAPABILITIES)
    assert host["Memory"] == host["MemorySwap"] > 0
    assert host["NanoCpus"] > 0
    assert host["PidsLimit"] > 0
    assert ":" not in host["NetworkMode"]
    for mount in host["Mounts"]:
        assert mount["Type"] == "bind"
        assert mount["Source"].rstrip("/") not in ("", "/etc", "/proc", "/sys", "/dev", "/run")
        assert not mount["Source"].endswith("docker.sock")


@given(st.dictionaries(st.text(max_size=12), st.none() | st.booleans() | texts, min_size=1))
def test_unknown_settings_never_pass(extra):
    with pytest.raises(ForbiddenSettingError):
        validate({**host_of(order()), **{f"X{key}": value for key, value in extra.items()}})


JOINED = "ab" * 32


def test_network_none_joins_who_is_named_and_no_other_does() -> None:
    settings = Settings(joined=JOINED)
    made = body(order(), "image", settings)
    assert made["HostConfig"]["NetworkMode"] == f"container:{JOINED}"
    assert body(order(network="bridge"), "image", settings)["HostConfig"]["NetworkMode"] == "bridge"


@pytest.mark.parametrize("joined", ["", "other", JOINED[1:], JOINED.upper()])
def test_only_an_id_is_joined(joined: str) -> None:
    with pytest.raises(ForbiddenSettingError, match="not an id"):
        body(order(), "image", Settings(joined=joined))


def test_gpus_are_asked_for_by_their_numbers():
    assert "DeviceRequests" not in host_of(order())
    assert host_of(order(gpus=(0, 3)))["DeviceRequests"] == [
        {"Driver": "nvidia", "DeviceIDs": ["0", "3"], "Capabilities": [["gpu"]]}
    ]


@pytest.mark.parametrize(
    "request_",
    [
        [],
        [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}],
        [{"Driver": "nvidia", "DeviceIDs": ["all"], "Capabilities": [["gpu"]]}],
        [{"Driver": "nvidia", "DeviceIDs": [], "Capabilities": [["gpu"]]}],
        [{"Driver": "nvidia", "DeviceIDs": ["0", "0"], "Capabilities": [["gpu"]]}],
        [{"Driver": "cdi", "DeviceIDs": ["0"], "Capabilities": [["gpu"]]}],
    ],
)
def test_no_other_request_for_devices_gets_through(request_):
    with pytest.raises(ForbiddenSettingError, match="DeviceRequests"):
        validate({**host_of(order()), "DeviceRequests": request_})


def test_shared_memory_and_limits_of_the_kernel():
    assert "ShmSize" not in host_of(order())
    made = host_of(order(shm=1 << 30, ulimits=(("memlock", 7), ("nofile", 99))))
    assert made["ShmSize"] == 1 << 30
    names = [(one["Name"], one["Soft"], one["Hard"]) for one in made["Ulimits"]]
    assert names == [("core", 0, 0), ("memlock", 7, 7), ("nofile", 99, 99)]
    podman = Settings(limits=(("nofile", 5), ("nproc", 6)))
    both = host_of(order(ulimits=(("nofile", 3),)), podman)["Ulimits"]
    assert [(one["Name"], one["Hard"]) for one in both] == [
        ("core", 0),
        ("nofile", 3),
        ("nproc", 6),
    ]


@pytest.mark.parametrize(
    "more",
    [
        [{"Name": "core", "Soft": 1, "Hard": 1}],
        [{"Name": "cpu", "Soft": 1, "Hard": 1}],
        [{"Name": "nofile", "Soft": 1, "Hard": 2}],
        [{"Name": "nofile", "Soft": 1, "Hard": 1}, {"Name": "nofile", "Soft": 2, "Hard": 2}],
        [{"Name": "nofile", "Soft": -1, "Hard": -1}],
    ],
)
def test_no_other_limit_gets_through(more):
    host = host_of(order())
    with pytest.raises(ForbiddenSettingError, match="Ulimits"):
        validate({**host, "Ulimits": [*host["Ulimits"], *more]})
