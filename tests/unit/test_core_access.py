"""Who may do what, as a table; and what no table entry may ever let through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.core.access import (
    ADMINS_KEYS,
    Policy,
    Right,
    is_admin,
    is_named,
    may,
    overridden,
    owns,
    registration,
)
from jobd.core.commands import Caller, RegisterJob
from jobd.core.entities import Run
from jobd.core.model import Access, Api, JobSpec, Mount
from jobd.core.watching import WatchSpec
from jobd.errors import ForbiddenError
from tests.support.core import Bench

LOOK, SUBMIT, READ, OWN, MANAGE, ADMIN, NOTIFY = Right
ROOT = Caller(0, "root", 1)
DAEMON = Caller(990, "jobd", 1)
BOSS = Caller(1001, "boss", 1, groups=frozenset({"jobd-admin", "980"}))
ALICE = Caller(1002, "alice", 1, groups=frozenset({"alice", "1002", "www-data", "33"}))
OPS = Caller(1003, "olga", 1, groups=frozenset({"olga", "ops", "500"}))
STRANGER = Caller(1004, "eve", 1, groups=frozenset({"eve", "1004"}))
TOKEN = Caller(990, "jobd-web", 1, "token:ci")

POLICY = Policy(owner=990)
PLAIN = Access()
TEAM = Access(submit=("alice", "@www-data"), read=("@ops",), manage=())
MANAGED = Access(submit=("@www-data",), manage=("@ops",))
CLOSED = Access(submit=(), read=())
OPEN = Access(submit=("*",))


@pytest.mark.parametrize(
    ("caller", "access", "rights"),
    [
        (ROOT, CLOSED, {LOOK, SUBMIT, READ, OWN, MANAGE, ADMIN, NOTIFY}),
        (DAEMON, CLOSED, {LOOK, SUBMIT, READ, OWN, MANAGE, ADMIN, NOTIFY}),
        (BOSS, CLOSED, {LOOK, SUBMIT, READ, OWN, MANAGE, ADMIN, NOTIFY}),
        (ALICE, PLAIN, set()),
        (ALICE, TEAM, {LOOK, SUBMIT}),
        (OPS, TEAM, {LOOK, READ}),
        (OPS, MANAGED, {LOOK, READ, OWN, MANAGE}),
        (ALICE, MANAGED, {LOOK, SUBMIT}),
        (ALICE, CLOSED, set()),
        (STRANGER, TEAM, set()),
        (STRANGER, OPEN, {LOOK, SUBMIT}),
        (TOKEN, OPEN, set()),
        (TOKEN, Access(submit=("token:ci",)), {LOOK, SUBMIT}),
        (TOKEN, Access(submit=("jobd-web", "990")), set()),
    ],
)
def test_the_table(caller: Caller, access: Access, rights: set[Right]) -> None:
    assert {right for right in Right if may(caller, right, POLICY, access)} == rights


def test_the_hosts_lists_count_where_the_job_says_nothing() -> None:
    policy = Policy(submit=("@www-data",), read=("@ops",))
    assert may(ALICE, SUBMIT, policy, PLAIN)
    assert may(OPS, READ, policy, PLAIN)
    assert not may(ALICE, SUBMIT, policy, CLOSED), "a job's own list takes the place of the host's"
    assert not may(OPS, READ, policy, CLOSED)
    assert not may(ALICE, READ, policy, PLAIN)


@pytest.mark.parametrize("access", [PLAIN, TEAM, CLOSED])
def test_ones_own_runs_are_readable_and_can_be_cancelled(access: Access) -> None:
    own = {right for right in Right if may(STRANGER, right, POLICY, access, own=True)}
    assert own == {READ, OWN}


def test_who_owns_a_run() -> None:
    bench = Bench()
    bench.register()
    run: Run = bench.queue()
    run.origin = ("cli", 1002, "alice", 5, "")
    assert owns(ALICE, run)
    assert owns(replace(ALICE, pid=99, user="renamed"), run)
    assert not owns(STRANGER, run)
    assert not owns(replace(ALICE, principal="token:ci"), run)
    run.origin = ("api", 990, "jobd-web", 5, "token:ci")
    assert owns(TOKEN, run)
    assert not owns(replace(TOKEN, principal="token:other"), run)


@pytest.mark.parametrize(
    ("who", "named"),
    [
        ((), False),
        (("*",), True),
        (("alice",), True),
        (("Alice",), False),
        (("1002",), True),
        (("01002",), True),
        (("1003",), False),
        (("@www-data",), True),
        (("@33",), True),
        (("@1003",), False),
        (("www-data",), False),
        (("@alice",), True),
        (("alic", "alice "), False),
    ],
)
def test_how_a_caller_is_named(who: tuple[str, ...], named: bool) -> None:
    assert is_named(ALICE, who) is named


def test_a_number_is_a_uid_whatever_a_user_is_called() -> None:
    trickster = Caller(1005, "1002", 1)
    assert not is_named(trickster, ("1002",))
    assert is_named(trickster, ("1005",))


entries = st.lists(
    st.sampled_from(["*", "alice", "@ops", "@www-data", "1004", "@500", "token:ci", "root"])
).map(tuple)


@given(
    st.sampled_from([ALICE, OPS, STRANGER, TOKEN]),
    st.builds(
        Access,
        submit=st.none() | entries,
        override=st.just(()),
        read=st.none() | entries,
        manage=entries,
    ),
    st.builds(Policy, admin=st.just(("root",)), submit=entries, read=entries),
)
def test_rights_hang_together(caller: Caller, access: Access, policy: Policy) -> None:
    rights = {right for right in Right if may(caller, right, policy, access)}
    assert ADMIN not in rights
    assert LOOK in rights or not rights, "who may do something sees what it is done to"
    if MANAGE in rights:
        assert {READ, OWN} <= rights
    if not (rights or is_admin(caller, policy)):
        lists = [access.manage, *(own for own in (access.submit, access.read) if own is not None)]
        assert not any(is_named(caller, who) for who in lists)


def spec(**more: Any) -> JobSpec:
    return JobSpec("job", "img", access=MANAGED, **more)


#: a change of each key that is an administrator's
CHANGED: dict[str, Any] = {
    "image": "other",
    "mounts": (Mount("/srv", "/srv"),),
    "devices": ("/dev/kvm",),
    "network": "host",
    "user": "0",
    "access": OPEN,
    "secrets": {"A": "a"},
    "api": Api(on=True, queue=("*",)),
    "watches": (WatchSpec("w", "/srv"),),
}


def test_the_keys_that_managing_does_not_extend_to() -> None:
    assert set(CHANGED) == set(ADMINS_KEYS)
    for key, value in CHANGED.items():
        changed = replace(spec(), **{"on" if key == "watches" else key: value})
        why = registration(OPS, POLICY, spec(), changed)
        assert why is not None, key
        assert f" {'on' if key == 'watches' else key}: " in why
        assert registration(BOSS, POLICY, spec(), changed) is None
    allowed = replace(spec(), command=("x",), env={"A": "b"}, timeout=5, cpus=0.5, priority=3)
    assert registration(OPS, POLICY, spec(), allowed) is None


def test_who_registers() -> None:
    assert registration(BOSS, POLICY, None, spec()) is None
    new = registration(OPS, POLICY, None, spec())
    assert new is not None
    assert registration(STRANGER, POLICY, spec(), spec()) == new, "hidden and absent look alike"
    assert registration(ALICE, POLICY, spec(), spec()) == new, "to submit is not to manage"
    process = replace(spec(), image="", command=("ls",))
    assert "administrators" in str(registration(OPS, POLICY, process, process))


def test_the_core_refuses_by_itself() -> None:
    bench = Bench()
    bench.register(access={"manage": ["@ops"]})
    other = {"name": "job", "image": "busybox", "network": "none", "access": {"manage": ["@ops"]}}
    with pytest.raises(ForbiddenError, match="network: only an administrator"):
        bench.do(RegisterJob(other), OPS)
    same = {"name": "job", "image": "busybox", "access": {"manage": ["@ops"]}, "timeout": "5m"}
    assert bench.do(RegisterJob(same), OPS).answer == (2, True)
    with pytest.raises(ForbiddenError):
        bench.do(RegisterJob({"name": "new", "image": "busybox"}), OPS)
    assert bench.events[-1][5][:2] == [1003, "olga"], "the trail has who"


def test_what_a_submitter_may_override() -> None:
    assert overridden(frozenset(), PLAIN) is None
    assert overridden(frozenset({"env", "args"}), PLAIN) == "args"
    assert overridden(frozenset({"env", "args"}), Access(override=("args",))) == "env"
    assert overridden(frozenset({"env"}), Access(override=("args", "env"))) is None
