"""Nothing that the host's lists do not allow is in a container's final settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.core import allowed
from jobd.core.allowed import inside
from jobd.core.policy import Rules
from jobd.engine.base import Mount, Order
from jobd.engine.container import ForbiddenSettingError, Settings, body, check_sources

OWN = "/srv/jobd/state"
RULES = Rules(
    images=("reg/*",),
    users=("1000:1000",),
    networks=frozenset({"none"}),
    mounts=(("/srv/data", True), ("/srv/read", False)),
    devices=("/dev/kvm",),
    protected=(OWN,),
)


def order(
    image: str = "reg/app",
    user: str | None = "1000:1000",
    network: str = "none",
    mounts: tuple[Mount, ...] = (),
    devices: tuple[str, ...] = (),
) -> Order:
    return Order(
        ref="jobd-00000000-1-1", labels={}, run=1, attempt=1, job="j", image=image, image_id=None,
        pull="missing", command=None, env={}, user=user, network=network, mounts=mounts, cpus=1,
        memory=64 << 20, pids=64, stop_signal="SIGTERM", log_bytes=1 << 20,
        task_dir=Path(OWN, "work/1.1/job"), secrets_dir=Path(OWN, "work/1.1/secrets"),
        devices=devices,
    )  # fmt: skip


def test_what_is_allowed_passes_with_the_daemons_own_mounts() -> None:
    mounts = (Mount("/srv/data/in", "/in", False), Mount("/srv/read", "/read", True))
    made = body(order(mounts=mounts, devices=("/dev/kvm",)), "sha256:id", Settings(rules=RULES))
    host = made["HostConfig"]
    assert isinstance(host, dict)
    assert [mount["Target"] for mount in host["Mounts"]] == ["/job", "/job/secrets", "/in", "/read"]
    assert host["Devices"] == [
        {"PathOnHost": "/dev/kvm", "PathInContainer": "/dev/kvm", "CgroupPermissions": "rw"}
    ]


@pytest.mark.parametrize(
    ("one", "match"),
    [
        (order(image="other/app"), "images.allow"),
        (order(user="0"), "allow.users"),
        (order(user=None), "allow.users"),
        (order(network="bridge"), "allow.networks"),
        (order(mounts=(Mount("/srv/database", "/x"),)), "allow.mounts"),
        (order(mounts=(Mount("/srv/read", "/x", False),)), "allow.mounts"),
        (order(mounts=(Mount(f"{OWN}/work", "/x"),)), "never mounted"),
        (order(mounts=(Mount("/srv", "/x"),)), "never mounted"),
        (order(devices=("/dev/sda",)), "allow.devices"),
    ],
)
def test_what_is_not_allowed_is_refused_at_the_last_door(one: Order, match: str) -> None:
    with pytest.raises(ForbiddenSettingError, match=match):
        body(one, one.image, Settings(rules=RULES))


@pytest.mark.parametrize(
    "device", ["/etc/passwd", "/dev/../etc/passwd", "dev/kvm", "/dev/../dev/kvm"]
)
def test_no_device_outside_of_dev(device: str) -> None:
    with pytest.raises(ForbiddenSettingError, match="Devices"):
        body(order(devices=(device,)), "reg/app", Settings())


names = st.sampled_from(["srv", "data", "read", "jobd", "state", "etc", "run", "docker.sock", ".."])
paths = st.lists(names, max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(
    st.sampled_from(["reg/app", "other", "reg"]),
    st.sampled_from([None, "0", "1000:1000", "1000:0"]),
    st.sampled_from(["none", "bridge", "host", "container:x"]),
    st.lists(st.builds(Mount, paths, paths, st.booleans()), max_size=3).map(tuple),
    st.lists(st.sampled_from(["/dev/kvm", "/dev/sda", "/dev"]), max_size=2).map(tuple),
)
def test_no_order_leads_past_the_lists(
    image: str,
    user: str | None,
    network: str,
    mounts: tuple[Mount, ...],
    devices: tuple[str, ...],
) -> None:
    one = order(image, user, network, mounts, devices)
    try:
        made = body(one, image, Settings(rules=RULES))
    except ForbiddenSettingError:
        return
    host = made["HostConfig"]
    assert isinstance(host, dict)
    assert (made["Image"], made["User"], host["NetworkMode"]) == ("reg/app", "1000:1000", "none")
    for mount in host["Mounts"][2:]:
        assert inside(mount["Source"], "/srv/data") or (
            inside(mount["Source"], "/srv/read") and mount["ReadOnly"]
        )
        assert not any(inside(never, mount["Source"]) for never in (*allowed.NEVER, OWN))
    assert all(device["PathOnHost"] == "/dev/kvm" for device in host.get("Devices", ()))


def test_a_source_that_became_a_link_is_not_started(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    one = order(mounts=(Mount(str(folder), "/in"),))
    check_sources(one)
    folder.rename(tmp_path / "moved")
    folder.symlink_to("/etc")
    with pytest.raises(ForbiddenSettingError, match="is a link by now"):
        check_sources(one)
    folder.unlink()
    check_sources(one)  # that it is missing is for the engine to say
