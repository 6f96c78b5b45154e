"""A job's definition: in and out again without loss, and each refusal names its key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.codec import pack, unpack
from jobd.core import spec as spec_module
from jobd.core.model import Access, Api, JobSpec, Mount, Retry
from jobd.core.spec import ACCESS_KEYS, KEYS, RETRY_KEYS, check_name, parse, to_mapping
from jobd.core.specaccess import OVERRIDES
from jobd.core.specvalues import MAX_TEXT
from jobd.core.states import Outcome
from jobd.errors import InvalidError
from jobd.units import MAX_MS

PLAIN: dict[str, Any] = {"name": "job", "image": "busybox"}

names = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,62}", fullmatch=True).filter(
    lambda name: name not in ("last", "all")
)
printable = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).filter(str.isprintable)
free = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
variables = st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True), free)
files = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)
paths = st.from_regex(r"[a-z]{1,8}(/[a-z.]{2,8}x)?", fullmatch=True)
people = st.lists(
    st.sampled_from(["*", "alice", "@ops", "1000", "@100", "token:ci", "host$"]), max_size=3
).map(tuple)
exits = st.tuples(st.integers(1, 255), st.integers(1, 255)).map(lambda pair: tuple(sorted(pair)))


@st.composite
def retries(draw: st.DrawFn) -> Retry:
    delay, most = sorted((draw(st.integers(0, MAX_MS)), draw(st.integers(0, MAX_MS))))
    return Retry(
        attempts=draw(st.integers(1, 1000)),
        delay=delay,
        factor=draw(st.floats(1, 1000)),
        max_delay=most,
        jitter=draw(st.floats(0, 1)),
        on=frozenset(draw(st.sets(st.sampled_from(spec_module._RETRIED)))),
        statuses=tuple(draw(st.lists(exits, max_size=4))),
        interrupted=draw(st.sampled_from(["retry", "hold", "dead"])),
    )


specs = st.builds(
    JobSpec,
    name=names,
    image=printable,
    command=st.none() | st.lists(free, min_size=1).filter(lambda words: words[0]).map(tuple),
    pull=st.sampled_from(["missing", "always", "never"]),
    user=st.none() | printable,
    env=variables,
    secrets=st.dictionaries(files.map(lambda name: f"file:{name}"), files),
    config=free,
    network=printable,
    mounts=st.lists(
        st.builds(Mount, paths.map("/srv/{}".format), paths.map("/data/{}".format), st.booleans()),
        max_size=3,
        unique_by=lambda mount: mount.target,
    ).map(tuple),
    devices=st.lists(paths.map("/dev/{}".format), max_size=2).map(tuple),
    access=st.builds(
        Access,
        submit=st.none() | people,
        override=st.sets(st.sampled_from(OVERRIDES)).map(tuple),
        read=st.none() | people,
        manage=people,
    ),
    api=st.sampled_from([Api(), Api(True), Api(True, ("a", "*"), ("t",), 7, 3)]),
    priority=st.integers(-1000, 1000),
    timeout=st.integers(1, MAX_MS),
    expires=st.none() | st.integers(1, MAX_MS),
    stop_signal=st.sampled_from(["SIGTERM", "SIGINT", "SIGUSR1", "SIGKILL"]),
    stop_grace=st.integers(0, MAX_MS),
    stdin=st.sampled_from(["none", "payload"]),
    cpus=st.floats(0.01, 4096),
    memory=st.integers(6 << 20, (1 << 62) - 1),
    pids=st.integers(1, 1 << 22),
    concurrency=st.none() | st.integers(1, 1 << 20),
    queue=st.none() | st.integers(1, 1 << 31),
    retry=retries(),
)


processes = st.builds(
    lambda spec, program, words: replace(
        spec,
        image=None,
        command=(program, *words),
        pull="missing",
        network="bridge",
        mounts=(),
        devices=(),
    ),
    specs,
    st.from_regex(r"/?[a-z]{1,8}", fullmatch=True),
    st.lists(free),
)


@given(specs | processes)
def test_what_goes_out_comes_in_again(spec: JobSpec) -> None:
    mapping = to_mapping(spec)
    assert parse(mapping) == spec
    assert parse(unpack(pack(mapping))) == spec, "also by way of the queue on disk"


def test_every_field_of_a_definition_has_a_key() -> None:
    assert set(JobSpec.__dataclass_fields__) == {*KEYS, "name", "retry", "access"}
    assert set(Access.__dataclass_fields__) == set(ACCESS_KEYS)
    assert set(Retry.__dataclass_fields__) == {*RETRY_KEYS, "on", "statuses"}


def test_a_plain_job_gets_the_defaults_of_the_contract() -> None:
    spec = parse(PLAIN)
    assert spec == JobSpec("job", "busybox")
    assert (spec.cpus, spec.memory, spec.pids, spec.timeout) == (1.0, 512 << 20, 512, 3_600_000)
    assert spec.retry.attempts == 1
    assert spec.retry.interrupted == "hold"


def test_the_job_file_of_the_contract() -> None:
    spec = parse(
        {
            "name": "sendemail",
            "image": "127.0.0.1:5000/sendemail:0.0.1",
            "command": ["ruby", "sendemail.rb"],
            "env": {"LANG": "C.UTF-8", "N": 1, "ON": True, "OFF": False, "F": 0.5},
            "secrets": {"SENDGRID_API_KEY": "sendgrid", "file:key.pem": "key"},
            "config": {"a": [1]},
            "stop_signal": "term",
            "resources": {"cpus": 0.5, "memory": "128M", "pids": 256},
            "limits": {"concurrency": 2, "queue": 10000},
            "retry": {"attempts": 5, "delay": "10s", "on": ["failed", 75, "1-10", "80"]},
        }
    )
    assert spec.env == {"LANG": "C.UTF-8", "N": "1", "ON": "true", "OFF": "false", "F": "0.5"}
    assert spec.config == '{"a": [1]}'
    assert spec.stop_signal == "SIGTERM"
    assert spec.memory == 128 << 20
    assert spec.retry.on == {Outcome.FAILED}
    assert spec.retry.statuses == ((75, 75), (1, 10), (80, 80))
    assert spec.retry.interrupted == "retry", "more than one attempt: may be run twice"
    assert to_mapping(spec)["retry"]["on"] == ["failed", 75, "1-10", 80]


def test_a_long_delay_lifts_the_default_of_the_longest() -> None:
    assert parse({**PLAIN, "retry": {"delay": "1h"}}).retry.max_delay == 3_600_000


def test_defaults_fill_in_what_a_job_leaves_out_and_no_more() -> None:
    defaults = {"timeout": "5m", "resources": {"cpus": 2, "memory": "1G"}, "network": "none"}
    spec = parse({**PLAIN, "resources": {"cpus": 1}, "network": "bridge"}, defaults)
    assert (spec.timeout, spec.cpus, spec.memory, spec.network) == (300_000, 1.0, 1 << 30, "bridge")


def test_a_default_of_none_stands_for_no_limit() -> None:
    spec = parse({**PLAIN, "limits": {"concurrency": None}, "user": None})
    assert spec.concurrency is None
    assert spec.user is None


#: value -> the path that the refusal names first
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"image": ""}, "image"),
    ({"image": 5}, "image"),
    ({"image": "a\nb"}, "image"),
    ({"image": "x" * 513}, "image"),
    ({"command": []}, "command"),
    ({"command": [""]}, "command"),
    ({"command": "ls"}, "command"),
    ({"command": ["ls", 5]}, "command"),
    ({"command": ["ls", "a\0b"]}, "command"),
    ({"command": ["x" * (MAX_TEXT + 1)]}, "command"),
    ({"pull": "sometimes"}, "pull"),
    ({"pull": ["missing"]}, "pull"),
    ({"user": "a\x1bb"}, "user"),
    ({"api": "yes"}, "api"),
    ({"env": []}, "env"),
    ({"env": {"1A": "x"}}, "env"),
    ({"env": {"A B": "x"}}, "env"),
    ({"env": {"A": ["x"]}}, "env.A"),
    ({"env": {"A": None}}, "env.A"),
    ({"env": {"A": "\0"}}, "env"),
    ({"env": {"A": "x" * MAX_TEXT}}, "env"),
    ({"env": {5: "x"}}, "env"),
    ({"secrets": "x"}, "secrets"),
    ({"secrets": {"A": "../x"}}, "secrets.A"),
    ({"secrets": {"A": "/x"}}, "secrets.A"),
    ({"secrets": {"A": ".x"}}, "secrets.A"),
    ({"secrets": {"A": 5}}, "secrets.A"),
    ({"secrets": {"A-B": "x"}}, "secrets"),
    ({"secrets": {"file:../x": "x"}}, "secrets"),
    ({"secrets": {5: "x"}}, "secrets"),
    ({"config": 5}, "config"),
    ({"config": "x" * (MAX_TEXT + 1)}, "config"),
    ({"config": {"a": b"bytes"}}, "config"),
    ({"network": ""}, "network"),
    ({"stdin": "tty"}, "stdin"),
    ({"mounts": {"source": "/a", "target": "/b"}}, "mounts"),
    ({"mounts": ["/a:/b"]}, "mounts[0]"),
    ({"mounts": [{"source": "/a", "target": "/b"}, {"source": "/a"}]}, "mounts[1].target"),
    ({"mounts": [{"target": "/b"}]}, "mounts[0].source"),
    ({"mounts": [{"source": "a", "target": "/b"}]}, "mounts[0].source"),
    ({"mounts": [{"source": "/a/../etc", "target": "/b"}]}, "mounts[0].source"),
    ({"mounts": [{"source": "/a\n", "target": "/b"}]}, "mounts[0].source"),
    ({"mounts": [{"source": 5, "target": "/b"}]}, "mounts[0].source"),
    ({"mounts": [{"source": "/a", "target": "/job/x"}]}, "mounts[0].target"),
    ({"mounts": [{"source": "/a", "target": "/./job"}]}, "mounts[0].target"),
    ({"mounts": [{"source": "/a", "target": "//proc/1"}]}, "mounts[0].target"),
    ({"mounts": [{"source": "/a", "target": "/sys"}]}, "mounts[0].target"),
    ({"mounts": [{"source": "/a", "target": "/x/../sys"}]}, "mounts[0].target"),
    ({"mounts": [{"source": "/a", "target": "/"}]}, "mounts[0].target"),
    ({"mounts": [{"source": "/a", "target": "/b", "read_only": "no"}]}, "mounts[0].read_only"),
    (
        {"mounts": [{"source": "/a", "target": "/b", "propagation": "shared"}]},
        "mounts[0].propagation",
    ),
    ({"mounts": [{"source": "/a", "target": "/b"}, {"source": "/c", "target": "/b/"}]}, "mounts"),
    ({"mounts": [{"source": "/a", "target": "/b"}] * 65}, "mounts"),
    ({"devices": "/dev/kvm"}, "devices"),
    ({"devices": ["/tmp/kvm"]}, "devices"),
    ({"devices": ["/dev"]}, "devices"),
    ({"devices": ["/dev/../etc/passwd"]}, "devices"),
    ({"access": {"submit": "alice"}}, "access.submit"),
    ({"access": {"submit": [-1]}}, "access.submit"),
    ({"access": {"submit": [True]}}, "access.submit"),
    ({"access": {"submit": ["a b"]}}, "access.submit"),
    ({"access": {"read": ["@"]}}, "access.read"),
    ({"access": {"manage": [""]}}, "access.manage"),
    ({"access": {"override": ["image"]}}, "access.override"),
    ({"access": {"override": "env"}}, "access.override"),
    ({"access": {"admin": ["alice"]}}, "'access.admin'"),
    ({"access": ["alice"]}, "access"),
    ({"priority": 1001}, "priority"),
    ({"priority": 1.5}, "priority"),
    ({"priority": True}, "priority"),
    ({"timeout": "0s"}, "timeout"),
    ({"timeout": "soon"}, "timeout"),
    ({"timeout": "101w1x"}, "timeout"),
    ({"expires": 0}, "expires"),
    ({"stop_signal": "SIGBOGUS"}, "stop_signal"),
    ({"stop_signal": "SIGRTMIN"}, "stop_signal"),
    ({"stop_signal": 15}, "stop_signal"),
    ({"stop_grace": -1}, "stop_grace"),
    ({"resources": {"cpus": 0}}, "resources.cpus"),
    ({"resources": {"cpus": "1"}}, "resources.cpus"),
    ({"resources": {"cpus": float("nan")}}, "resources.cpus"),
    ({"resources": {"cpus": True}}, "resources.cpus"),
    ({"resources": {"memory": "1M"}}, "resources.memory"),
    ({"resources": {"memory": "much"}}, "resources.memory"),
    ({"resources": {"pids": 0}}, "resources.pids"),
    ({"resources": {"gpus": -1}}, "resources.gpus"),
    ({"resources": {"shm": "1K"}}, "resources.shm"),
    ({"resources": {"ulimits": 1024}}, "resources.ulimits"),
    ({"resources": 5}, "resources"),
    ({"resources": None}, "resources"),
    ({"limits": {"concurrency": 0}}, "limits.concurrency"),
    ({"limits": {"queue": 0}}, "limits.queue"),
    ({"limits": {"rate": "100"}}, "limits.rate"),
    ({"limits": {"burst": 0}}, "limits.burst"),
    ({"limits": {"group": ""}}, "limits.group"),
    ({"limits": {"mutex": "{x}"}}, "limits.mutex"),
    ({"limits": []}, "limits"),
    ({"overlap": "maybe"}, "overlap"),
    ({"retry": {"attempts": 0}}, "retry.attempts"),
    ({"retry": {"attempts": 1001}}, "retry.attempts"),
    ({"retry": {"delay": -1}}, "retry.delay"),
    ({"retry": {"factor": 0.5}}, "retry.factor"),
    ({"retry": {"jitter": 1.1}}, "retry.jitter"),
    ({"retry": {"max_delay": "soon"}}, "retry.max_delay"),
    ({"retry": {"delay": "1m", "max_delay": "10s"}}, "retry.max_delay"),
    ({"retry": {"interrupted": "ignore"}}, "retry.interrupted"),
    ({"retry": {"memory_step": "x", "memory_max": "1G"}}, "retry.memory_step"),
    ({"retry": {"memory_step": "64M"}}, "retry.memory_step"),
    ({"retry": {"memory_step": "64M", "memory_max": "1M"}}, "retry.memory_max"),
    ({"retry": {"memory_step": "64M", "memory_max": "256M"}}, "retry.memory_max"),
    ({"breaker": {"failures": 0}}, "breaker.failures"),
    ({"breaker": {"probe_after": 0}}, "breaker.probe_after"),
    ({"breaker": 3}, "breaker"),
    ({"idle_timeout": "10ms"}, "idle_timeout"),
    ({"total_timeout": 0}, "total_timeout"),
    ({"retry": {"on": "failed"}}, "retry.on"),
    ({"retry": {"on": ["succeeded"]}}, "retry.on"),
    ({"retry": {"on": ["cancelled"]}}, "retry.on"),
    ({"retry": {"on": [0]}}, "retry.on"),
    ({"retry": {"on": [256]}}, "retry.on"),
    ({"retry": {"on": ["10-1"]}}, "retry.on"),
    ({"retry": {"on": ["1-"]}}, "retry.on"),
    ({"retry": {"on": ["-1"]}}, "retry.on"),
    ({"retry": {"on": [True]}}, "retry.on"),
    ({"retry": {"on": [None]}}, "retry.on"),
    ({"retry": "x"}, "retry"),
    ({"on": {}}, "on"),
    ({"schedule": {}}, "schedule"),
    ({"schedule": ["x"]}, "schedule[0]"),
    ({"schedule": [{"cron": "61 * * * *"}]}, "schedule[0].cron"),
    ({"schedule": [{"cron": "* * * * *", "every": "1m"}]}, "schedule[0]"),
    ({"schedule": [{"every": "1m"}, {"every": "2m"}]}, "schedule[1].name"),
    ({"schedule": [{"every": "1m", "timezone": "Mars/Base"}]}, "schedule[0].timezone"),
    ({"schedule": [{"evry": "1m"}]}, "schedule[0].evry"),
    ({"schedule": [{"at": "soon"}]}, "schedule[0].at"),
    ({"schedule": [{"every": "1m", "payload": "x" * 4097}]}, "schedule[0].payload"),
    ({"on": "x"}, "on"),
    ({"alert": {}}, "alert"),
    ({"tpyo": 1}, "'tpyo'"),
    ({"resources": {"cpu": 1}}, "'resources.cpu'"),
    ({"resources": {1: 1}}, "'resources.1'"),
    ({b"name": 1}, "b'name'"),
    ({5: 1}, "5"),
    ({"retry.attempts": 3}, "'retry.attempts'"),
    ({"name": "1job"}, "name"),
]


@pytest.mark.parametrize(("given_", "path"), REFUSED, ids=lambda value: f"{value!r:.40}")
def test_what_is_refused_names_its_key(given_: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        parse({**PLAIN, **given_})
    assert str(refusal.value).startswith(f"{path}: ")
    assert len(str(refusal.value)) < 700


def test_every_key_is_refused_somewhere_above() -> None:
    wanted = {key.path for key in (*KEYS.values(), *RETRY_KEYS.values(), *ACCESS_KEYS.values())}
    assert wanted | {"name", "retry.on"} <= {path for _, path in REFUSED}


def test_a_job_without_image_and_command_is_refused() -> None:
    for image in ({}, {"image": None}):
        with pytest.raises(InvalidError, match=r"^job job: image and command are missing"):
            parse({"name": "job", **image})


NO_NAMES = ["", "1a", "last", "all", "a b", "a/b", "x" * 64, "ä", "a\n", None, 5, b"a", "-a"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_is_refused(name: object) -> None:
    with pytest.raises(InvalidError, match=r"^name: "):
        check_name(name)
    with pytest.raises(InvalidError, match=r"^name: "):
        parse({"name": name, "image": "busybox"})


def test_an_unknown_key_is_told_what_it_resembles() -> None:
    with pytest.raises(InvalidError, match="did you mean timeout"):
        parse({**PLAIN, "timeuot": 5})
    with pytest.raises(InvalidError, match="known are access"):
        parse({**PLAIN, "zzzzzz": 5})


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 64) | st.floats() | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
ALL_KEYS = st.sampled_from(
    sorted({key.path for key in (*KEYS.values(), *RETRY_KEYS.values())} | {"name", "retry.on"})
)


@given(st.dictionaries(ALL_KEYS, junk, max_size=3))
def test_junk_is_refused_as_invalid_or_reads_back(values: dict[str, Any]) -> None:
    given_: dict[str, Any] = dict(PLAIN)
    for path, value in values.items():
        table, _, last = path.rpartition(".")
        (given_.setdefault(table, {}) if table else given_)[last] = value
    try:
        spec = parse(given_)
    except InvalidError:
        return
    assert parse(unpack(pack(to_mapping(spec)))) == spec
