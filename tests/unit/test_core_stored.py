"""A definition that was accepted once is read for ever, whatever is refused today."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.core import events as e
from jobd.core import spec as spec_module
from jobd.core import specvalues as v
from jobd.core.machine import TransitionError
from jobd.core.model import JobSpec, Mount
from jobd.core.spec import ACCESS_KEYS, KEYS, RETRY_KEYS, Key, parse, to_mapping
from jobd.core.state import State
from jobd.core.states import Outcome
from jobd.core.stored import _FORMS, stored
from jobd.errors import InvalidError
from tests.support.core import Bench

PLAIN: dict[str, Any] = {"name": "job", "image": "busybox"}
ALL = [*KEYS.values(), *RETRY_KEYS.values(), *ACCESS_KEYS.values()]

#: what an earlier jobd might have taken and this one refuses -> what is read of it
REFUSED: list[tuple[dict[str, Any], str, Any]] = [
    ({"priority": 5_000}, "priority", 5_000),
    ({"timeout": "0s"}, "timeout", 0),
    ({"image": "x" * 600}, "image", "x" * 600),
    ({"user": "with\ttab"}, "user", "with\ttab"),
    ({"command": [""]}, "command", ("",)),
    ({"resources": {"memory": "1KiB"}}, "memory", 1024),
    ({"resources": {"cpus": 9_999}}, "cpus", 9_999),
    ({"env": {"not-a-name": "x"}}, "env", {"not-a-name": "x"}),
    ({"devices": ["/etc/passwd"]}, "devices", ("/etc/passwd",)),
    (
        {"mounts": [{"source": "/a", "target": "/proc/x"}]},
        "mounts",
        (Mount("/a", "/proc/x", True),),
    ),
    ({"pull": "sometimes"}, "pull", "missing"),
    ({"timeout": {"of": "another form"}}, "timeout", 3_600_000),
]


def with_(said: dict[str, Any]) -> dict[str, Any]:
    return {**to_mapping(parse(PLAIN)), **said}


@pytest.mark.parametrize(("said", "attribute", "read"), REFUSED)
def test_what_is_refused_today_is_read(said: dict[str, Any], attribute: str, read: Any) -> None:
    with pytest.raises(InvalidError):
        parse(with_(said))
    spec, notes = stored(with_(said), "job")
    assert getattr(spec, attribute) == read
    assert len(notes) == 1
    assert next(iter(said)) in notes[0]


def test_what_is_accepted_is_the_same_and_has_no_notes() -> None:
    for mapping in (PLAIN, {"name": "p", "command": ["true"]}, with_({"retry": {"attempts": 3}})):
        assert stored(mapping, str(mapping["name"])) == (parse(mapping), [])


def test_a_key_of_a_newer_jobd_is_left_out_with_a_note() -> None:
    given = with_({"telepathy": True, "limits": {"moons": 3, "concurrency": 2}, "access": 7})
    spec, notes = stored(given, "job")
    assert spec.concurrency == 2
    assert sorted(notes) == [
        "access: is no table, and left out",
        "limits.moons: not known to this jobd, and left out",
        "telepathy: not known to this jobd, and left out",
    ]


def test_of_what_is_retried_the_known_is_kept() -> None:
    spec, notes = stored(with_({"retry": {"on": ["failed", "bored", 75, 999]}}), "job")
    assert spec.retry.on == {Outcome.FAILED}
    assert spec.retry.statuses == ((75, 75),)
    assert len(notes) == 2


def test_a_process_with_what_only_containers_have_is_read() -> None:
    given = {"name": "job", "command": ["bin/tool"], "network": "host"}
    with pytest.raises(InvalidError):
        parse(given)
    assert stored(given, "job")[0].command == ("bin/tool",)


def test_every_way_of_writing_a_key_is_read_by_its_form() -> None:
    assert {key.write for key in ALL} <= _FORMS.keys()


def test_rules_that_became_stricter_keep_no_queue_from_being_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    bench.register("job", priority=7, env={"A": "b"})
    bench.queue()
    monkeypatch.setitem(spec_module.KEYS, "priority", Key("priority", v.whole(0, 5)))
    bench.restart()
    job = bench.state.jobs["job"]
    assert job.spec.priority == 7
    assert job.spec.env == {"A": "b"}
    assert bench.state.notes == [
        "job job, revision 1: priority: 7: expected a whole number, 0 to 5; "
        "taken as it was registered"
    ]
    assert bench.claim() == [1]


def test_no_table_is_no_definition() -> None:
    with pytest.raises(TransitionError, match="no table"):
        State().apply(e.JobRegistered(1, "job", 1, 7, 0, [0, "root", 1, ""]))  # type: ignore[arg-type]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from([key.path for key in ALL] + ["retry.on", "x"]), values))
def test_nothing_in_a_table_is_beyond_reading(flat: dict[str, Any]) -> None:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        table, _, last = path.rpartition(".")
        (nested.setdefault(table, {}) if table else nested)[last] = value
    spec, _ = stored(nested, "job")
    assert isinstance(spec, JobSpec)
