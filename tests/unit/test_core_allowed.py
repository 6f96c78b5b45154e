"""What this host lets a job be: lists that refuse, and what no list can allow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.core import allowed
from jobd.core.allowed import (
    device_problem,
    image_problem,
    inside,
    mount_problem,
    user_problem,
)
from jobd.core.commands import RegisterJob
from jobd.core.masking import MASK
from jobd.core.policy import Rules
from jobd.errors import InvalidError
from tests.support.core import Bench, queueing

OWN = ("/srv/jobd/state", "/opt/jobd/jobd.toml", "/var/tmp/je/docker.sock")


@pytest.mark.parametrize(
    ("image", "patterns", "fine"),
    [
        ("busybox", ("*",), True),
        ("reg:5000/a/b:1", ("*",), True),
        ("busybox", (), False),
        ("busybox", ("busybox",), True),
        ("busybox", ("busybox:latest",), True),
        ("busybox", ("busybox:*",), True),
        ("busybox:1", ("busybox",), False),
        ("busybox:1", ("busybox:*",), True),
        ("busyboxx", ("busybox",), False),
        ("evil.example/busybox", ("busybox", "busybox:*"), False),
        ("reg:5000/team/app:1", ("reg:5000/team/*",), True),
        ("reg:5000/teamX/app:1", ("reg:5000/team/*",), False),
        ("reg:5000/team", ("reg:5000/team:latest",), True),
        ("app@sha256:ab", ("app@sha256:*",), True),
        ("app@sha256:ab", ("app:*",), False),
        ("BUSYBOX", ("busybox",), False),
    ],
)
def test_images_by_pattern(image: str, patterns: tuple[str, ...], fine: bool) -> None:
    problem = image_problem(image, Rules(images=patterns))
    assert (problem is None) is fine
    assert fine or "images.allow" in str(problem)


@pytest.mark.parametrize(
    ("user", "patterns", "fine"),
    [
        (None, ("*",), True),
        ("0", ("*",), True),
        (None, ("1000:1000",), False),
        ("1000:1000", ("1000:1000",), True),
        ("1000", ("1000:1000",), False),
        ("1000:0", ("1000:1000",), False),
        ("1000:0", ("1000*",), False),
        ("1001", ("1???",), True),
        ("1001:5", ("1???:*",), True),
        ("1001:5:0", ("1???:*",), False),
        ("root", ("app",), False),
        ("0", (), False),
    ],
)
def test_users_by_pattern(user: str | None, patterns: tuple[str, ...], fine: bool) -> None:
    problem = user_problem(user, Rules(users=patterns))
    assert (problem is None) is fine
    assert fine or "allow.users" in str(problem)


ALL = (("/", True),)


@pytest.mark.parametrize(
    "source",
    [
        "/", "//", "/.", "/etc", "/etc/", "/etc/ssl", "/proc", "/proc/1/root", "/sys", "/sys/fs",
        "/dev", "/dev/shm", "/boot", "/run", "/run/docker.sock", "/var/run", "/var/run/docker.sock",
        "/run/containerd/containerd.sock", "/var", "/var/lib", "/var/lib/docker",
        "/var/lib/docker/overlay2", "/srv/x/docker.sock", "/home/a/podman.sock", "/srv",
        "/srv/jobd", "/srv/jobd/state", "/srv/jobd/state/work", "/opt", "/opt/jobd",
        "/opt/jobd/jobd.toml", "/var/tmp/je", "/var/tmp/je/docker.sock", "/var/tmp", "relative",
        "/srv/data/../jobd/state", "",
    ],
)  # fmt: skip
def test_what_is_never_mounted_whatever_is_allowed(source: str) -> None:
    for read_only in (True, False):
        assert mount_problem(source, read_only, Rules(mounts=ALL, protected=OWN)) is not None


@pytest.mark.parametrize(
    ("source", "fine"),
    [
        ("/srv/data", True),
        ("/srv/data/", True),
        ("/srv//data/./x", True),
        ("/srv/data/x/y", True),
        ("/srv/database", False),
        ("/srv/dat", False),
        ("/srv", False),
        ("/mnt/in/a", True),
        ("/mnt/out", False),
    ],
)
def test_roots_are_compared_by_names_and_not_as_text(source: str, fine: bool) -> None:
    rules = Rules(mounts=(("/srv/data", True), ("/mnt/in", True)))
    assert (mount_problem(source, False, rules) is None) is fine


def test_a_root_may_be_for_reading_only() -> None:
    rules = Rules(mounts=(("/srv/data", False), ("/srv/data/out", True)))
    assert mount_problem("/srv/data/in", True, rules) is None
    assert "read_only" in str(mount_problem("/srv/data/in", False, rules))
    assert mount_problem("/srv/data/out/x", False, rules) is None


def test_nothing_is_mounted_by_default() -> None:
    assert "allow.mounts: none" in str(mount_problem("/srv/data", True, Rules()))
    assert "allow.devices: none" in str(device_problem("/dev/null", Rules()))


def test_devices_by_pattern() -> None:
    rules = Rules(devices=("/dev/kvm", "/dev/video*", "/etc/*"))
    assert device_problem("/dev/kvm", rules) is None
    assert device_problem("/dev/video0", rules) is None
    assert device_problem("/dev/kvm0", rules) is not None
    assert device_problem("/etc/passwd", rules) is not None


paths = st.lists(
    st.sampled_from(["srv", "data", "etc", "var", "lib", "docker", ".", "", "..", "state", "jobd"]),
    max_size=6,
).map(lambda names: "/" + "/".join(names))


@given(paths, st.booleans(), st.lists(st.tuples(paths, st.booleans()), max_size=3).map(tuple))
def test_what_passes_lies_in_a_root_and_in_nothing_protected(
    source: str, read_only: bool, roots: tuple[tuple[str, bool], ...]
) -> None:
    rules = Rules(mounts=roots, protected=OWN)
    if mount_problem(source, read_only, rules) is None:
        assert ".." not in source.split("/")
        assert any(inside(source, root) and (write or read_only) for root, write in roots)
        for never in (*allowed.NEVER, *OWN):
            assert not inside(source, never)
            assert not inside(never, source)


@pytest.mark.parametrize(
    ("rules", "settings", "match"),
    [
        (Rules(images=("x",)), {}, "image 'busybox' is not allowed here"),
        (Rules(users=("5",)), {"user": "0"}, "user '0' is not allowed here"),
        (Rules(users=("5",)), {}, "user is missing"),
        (Rules(), {"mounts": [{"source": "/a", "target": "/b"}]}, r"mounts\[0\].source /a: "),
        (Rules(), {"devices": ["/dev/kvm"]}, "devices: /dev/kvm: "),
        (Rules(), {"env": {"A": MASK}}, "env.A: .* what listings show"),
        (Rules(), {"config": f"a: {MASK}"}, "config: .* what listings show"),
        (
            Rules(mounts=(("/a", True),), resolve=lambda path: "/etc"),
            {"mounts": [{"source": "/a", "target": "/b"}]},
            "/etc is never mounted",
        ),
    ],
)
def test_a_registration_that_is_not_allowed(
    rules: Rules, settings: dict[str, Any], match: str
) -> None:
    bench = Bench(rules)
    with pytest.raises(InvalidError, match=match):
        bench.do(RegisterJob({"name": "job", "image": "busybox", **settings}))
    assert not bench.events


def test_what_is_not_allowed_any_more_is_not_queued() -> None:
    bench = Bench()
    bench.register()
    bench.rules = Rules(images=("other",))
    with pytest.raises(InvalidError, match=r"images\.allow: other"):
        bench.do(queueing())
