"""Both clients are one table of calls, and the table covers every verb."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from jobctl import (
    alerting,
    calls,
    control,
    jobcalls,
    queueing,
    runcalls,
    scheduling,
    topics,
    transfers,
)
from jobctl.aio import AsyncClient
from jobctl.client import Client
from jobd.wire.verbs import VERBS

ROOT = Path(__file__).resolve().parent.parent.parent

#: where calls are declared; follow.py reads logs for one of them
MODULES = (alerting, control, jobcalls, queueing, runcalls, scheduling, topics, transfers)
SOURCES = (*(f"{module.__name__.rpartition('.')[2]}.py" for module in MODULES), "follow.py")


def public(cls: type) -> dict[str, object]:
    """The calls of a client: what was made from a function of a channel."""
    return {
        name: member.__wrapped__
        for name, member in vars(cls).items()
        if hasattr(member, "__wrapped__")
    }


def test_both_clients_have_the_same_calls() -> None:
    assert public(Client) == public(AsyncClient)
    assert len(public(Client)) > 20


def test_no_call_is_left_out() -> None:
    declared = {
        function
        for module in (calls, *MODULES)
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and not name.startswith("_")
        and next(iter(inspect.signature(function).parameters), "") == "to"
    }
    helpers = {calls.ask, calls.change, calls.collect, calls.each_run, queueing.payload_arguments}
    assert declared - helpers == set(public(Client).values())


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: str(verb.name))
def test_every_verb_is_asked_by_some_call(verb: object) -> None:
    said = {
        node.value
        for name in SOURCES
        for node in ast.walk(ast.parse((ROOT / "jobctl" / name).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert verb.name in said  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", public(Client))
def test_every_call_is_documented_and_keeps_its_signature(name: str) -> None:
    for cls in (Client, AsyncClient):
        method = getattr(cls, name)
        assert (method.__doc__ or "").strip()
        assert "to" not in list(inspect.signature(method).parameters)[1:]
    assert inspect.signature(getattr(Client, name)) == inspect.signature(getattr(AsyncClient, name))
