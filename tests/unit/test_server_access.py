"""Who asks, what each verb needs, and what the log is told of refusals."""

from __future__ import annotations

import logging
import os
import pwd
from typing import Any

import pytest

from jobd.core import access
from jobd.core.access import Policy, Right
from jobd.core.commands import Caller
from jobd.core.model import Access
from jobd.core.policy import Rules
from jobd.daemon.cli import OneLine
from jobd.errors import ConflictError, ForbiddenError, NotFoundError
from jobd.server import access as door
from jobd.server.access import HiddenError, Refusals, Users, authorize, groups_of
from jobd.server.handlers import HANDLERS
from jobd.server.kernel import Request
from jobd.wire.verb import Verb
from jobd.wire.verbs import BY_NAME, VERBS
from tests.support.core import Bench

ALICE = Caller(1002, "alice", 5)

#: verbs whose right is to something that no argument of theirs names; each has its own rule
ELSEWHERE = {"alert.take", "alert.settle", "job.register", "job.apply", "topic.emit", "upload.put"}


class FakeKernel:
    """State and rules, as authorize() asks for them."""

    def __init__(self, **policy: Any) -> None:
        self.bench = Bench()
        self.rules = Rules(access=Policy(**policy))
        self.state = self.bench.state

    def is_admin(self, caller: Caller) -> bool:
        return access.is_admin(caller, self.rules.access)


def ask(kernel: FakeKernel, verb: Verb, caller: Caller = ALICE, **arguments: Any) -> None:
    request = Request(1, 1, verb.name, arguments, None, caller)
    authorize(kernel, request, verb)  # type: ignore[arg-type]


def test_all_groups_count_by_name_and_number() -> None:
    me = pwd.getpwuid(os.geteuid())
    found = groups_of(me.pw_uid)
    assert {str(gid) for gid in os.getgrouplist(me.pw_name, me.pw_gid)} <= found
    assert groups_of(4_000_000_000 - 7) == frozenset()


def test_users_are_looked_up_anew_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = frozenset({"a"})
    clock = [100.0]
    monkeypatch.setattr(door, "groups_of", lambda uid: groups)
    users = Users(lambda: clock[0])
    first = users.caller(7, 1)
    assert first.groups == {"a"}
    groups = frozenset({"b"})
    assert users.caller(7, 1) is first
    assert users.caller(7, 2).groups == {"a"}, "one look for all of a user's clients"
    clock[0] += 31
    assert users.caller(7, 1).groups == {"b"}


def test_many_clients_do_not_fill_the_memory() -> None:
    users = Users(lambda: 1.0)
    for pid in range(10_050):
        users.caller(7, pid)
    assert len(users._callers) < 10_000


def test_names_that_are_not_here_are_told() -> None:
    here = Access(
        submit=("root", "@root", "*", "77", "@77", "token:x"), manage=("nosuch", "@nosuch")
    )
    assert door.unknown_people(here) == [
        "access: there is no user nosuch here",
        "access: there is no group nosuch here",
    ]


# -- what each verb needs ------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_declares_a_right_that_can_be_enforced(verb: Verb) -> None:
    right = Right(verb.right)
    assert verb.name in HANDLERS
    assert set(verb.overrides) <= set(verb.arguments)
    if right not in (Right.LOOK, Right.ADMIN):
        named = {"job", "run", "runs", "alert"} & set(verb.arguments)
        assert named or verb.name in ELSEWHERE, "to what is the right?"
    if verb.changes:
        assert right is not Right.LOOK, "whoever reaches the socket could change something"


def test_a_verb_that_declares_nothing_is_for_administrators() -> None:
    verb = Verb("host.burn", True, {"job": "str?", "runs": "list?"}, "New.")
    kernel = FakeKernel(submit=("alice",), read=("alice",))
    kernel.bench.register(access={"submit": ["alice"], "read": ["alice"], "manage": ["alice"]})
    for arguments in ({}, {"job": "job"}, {"runs": ["1"]}):
        with pytest.raises(ForbiddenError, match="not an administrator"):
            ask(kernel, verb, **arguments)
    ask(kernel, verb, Caller(0, "root", 1))


@pytest.mark.parametrize("right", [Right.READ, Right.OWN, Right.MANAGE])
def test_a_right_to_nothing_that_is_named_is_refused(right: Right) -> None:
    kernel = FakeKernel()
    kernel.bench.register(access={"submit": ["*"], "read": ["*"], "manage": ["*"]})
    with pytest.raises(ForbiddenError):
        ask(kernel, Verb("run.new", True, {"which": "str?"}, "New.", right))


def test_hidden_and_absent_jobs_are_told_alike() -> None:
    kernel = FakeKernel()
    kernel.bench.register("secret")
    for verb in ("job.show", "job.pause", "run.queue", "run.list", "run.cancel"):
        with pytest.raises(HiddenError) as hidden:
            ask(kernel, BY_NAME[verb], job="secret")
        with pytest.raises(NotFoundError) as absent:
            ask(kernel, BY_NAME[verb], job="nothing")
        assert str(hidden.value) == str(absent.value).replace("nothing", "secret")
        assert (hidden.value.code, hidden.value.status) == ("not-found", 66)
        assert type(absent.value) is NotFoundError


def test_overrides_are_refused_by_name() -> None:
    kernel = FakeKernel()
    kernel.bench.register(access={"submit": ["alice"], "override": ["env"]})
    verb = BY_NAME["run.queue"]
    free = {"payload": b"x", "labels": {"a": "b"}, "key": "k", "delay": 5, "count": 3}
    ask(kernel, verb, job="job", **free, env={"A": "b"}, args=[])
    for name, value in (("priority", 0), ("timeout", 5), ("args", ["x"]), ("expires", 0)):
        with pytest.raises(ForbiddenError, match=f"job job: {name}: "):
            ask(kernel, verb, job="job", **{name: value})
        ask(kernel, verb, Caller(0, "root", 1), job="job", **{name: value})


def test_uploads_are_for_those_who_may_submit_something() -> None:
    kernel = FakeKernel()
    kernel.bench.register()
    with pytest.raises(ForbiddenError):
        ask(kernel, BY_NAME["upload.put"])
    kernel.bench.register("other", access={"submit": ["alice"]})
    ask(kernel, BY_NAME["upload.put"])


# -- the log -------------------------------------------------------------------------------


def test_refusals_are_logged_at_a_bounded_rate(caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    refusals = Refusals(lambda: clock[0])
    request = Request(1, 1, "run.queue", {}, None, ALICE)
    with caplog.at_level(logging.WARNING):
        refusals.note(request, ConflictError("not possible: no affair of access"))
        assert not caplog.messages
        for _ in range(1000):
            refusals.note(request, ForbiddenError("no\nroot logged in \x1b[1m"))
        assert len(caplog.messages) == 20
        first = "access: refused alice (uid 1002, pid 5): run.queue: no?root logged in ?[1m"
        assert OneLine("%(message)s").format(caplog.records[0]) == first
        clock[0] += 61
        refusals.note(request, HiddenError("run 5: no such run"))
    assert caplog.messages[20] == "access: 980 more requests were refused"
    assert "hidden from them" in caplog.messages[21]
