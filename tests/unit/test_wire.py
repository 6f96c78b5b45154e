"""The envelope and the verbs: no frame ends the daemon, and both sides read one declaration."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd import codec
from jobd.errors import InternalError, NotFoundError, UsageError, VersionError
from jobd.wire import envelope, verbs
from jobd.wire.verb import NOUN_MODULES, find

KEY = bytes(range(envelope.KEY_BYTES))


@given(st.integers(0, 1 << 32), st.text(), st.dictionaries(st.text(), st.integers() | st.text()))
def test_a_request_arrives_as_it_was_sent(
    number: int, verb: str, arguments: dict[str, Any]
) -> None:
    arguments = {key: value for key, value in arguments.items() if _fits(value)}
    for key in (KEY, None):
        frame = envelope.request(number, verb, arguments, key)
        assert envelope.read_request(frame) == (number, verb, arguments, key)


def _fits(value: Any) -> bool:
    return not isinstance(value, int) or -(1 << 63) <= value < 1 << 64


@given(st.binary(max_size=100))
def test_no_bytes_do_more_than_be_refused(frame: bytes) -> None:
    with pytest.raises((UsageError, VersionError)):
        envelope.read_request(frame)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [1],
        {},
        [1, 7, "ping", {}],
        [1, 7, "ping", {}, None, None],
        [1, "7", "ping", {}, None],
        [1, True, "ping", {}, None],
        [1, 7, b"ping", {}, None],
        [1, 7, "ping", [], None],
        [1, 7, "ping", {}, "k" * envelope.KEY_BYTES],
        [1, 7, "ping", {}, KEY[:-1]],
        [1, 7, "ping", {}, KEY + b"x"],
    ],
)
def test_a_request_of_another_form_is_refused(value: Any) -> None:
    with pytest.raises(UsageError):
        envelope.read_request(codec.pack(value))


@pytest.mark.parametrize("version", [0, 2, "1", None, "x" * 1000])
def test_another_version_is_named(version: Any) -> None:
    with pytest.raises(VersionError) as caught:
        envelope.read_request(codec.pack([version, 7, "whatever", "a later form"]))
    assert caught.value.details == {"request": 7}, "the refusal has to find its request"
    assert len(str(caught.value)) < 200
    with pytest.raises(VersionError):
        envelope.read_request(codec.pack([version, "no number", 1]))


def test_replies_arrive_as_they_were_sent() -> None:
    assert envelope.read_reply(envelope.result(7, {"a": 1})) == (7, envelope.RESULT, {"a": 1})
    assert envelope.read_reply(envelope.part(7, [1])) == (7, envelope.PART, [1])
    number, kind, error = envelope.read_reply(envelope.error(7, NotFoundError("run 9: no", run=9)))
    assert (number, kind, type(error)) == (7, envelope.ERROR, NotFoundError)
    assert (str(error), error.details) == ("run 9: no", {"run": 9})


def test_a_reply_of_another_form_or_version_is_refused() -> None:
    for value in (None, [1, 2, 0], [1, 2, 0, None, None]):
        with pytest.raises(InternalError):
            envelope.read_reply(codec.pack(value))
    with pytest.raises(VersionError):
        envelope.read_reply(codec.pack([2, 7, envelope.RESULT, None]))


def test_an_error_of_another_version_is_still_read() -> None:
    # a daemon that does not speak our version says so in its own
    body = {"code": "version", "message": "speaks 2", "details": None}
    _, kind, error = envelope.read_reply(codec.pack([2, 7, envelope.ERROR, body]))
    assert (kind, type(error)) == (envelope.ERROR, VersionError)


def test_verbs_have_one_name_and_a_manual() -> None:
    assert len(verbs.BY_NAME) == len(verbs.VERBS)
    for verb in verbs.VERBS:
        assert verb.manual
        assert verb.required <= set(verb.arguments)


@pytest.mark.parametrize("verb", verbs.VERBS, ids=lambda verb: verb.name)
def test_a_verb_is_found_by_its_noun(verb: verbs.Verb) -> None:
    assert find(verb.name) is verb


def test_every_module_of_verbs_is_in_the_table() -> None:
    there = {path.stem for path in Path(verbs.__file__).parent.glob("*verbs.py")} - {"verbs"}
    assert there == set(NOUN_MODULES.values())
    declared = {verb.name for name in there for verb in import_module(f"jobd.wire.{name}").VERBS}
    assert declared == verbs.BY_NAME.keys()
    with pytest.raises(KeyError):
        find("run.frobnicate")


EXAMPLES: dict[type, Any] = {str: "x", bytes: b"x", int: 1, bool: True, list: [], dict: {}}


@pytest.mark.parametrize("verb", verbs.VERBS, ids=lambda verb: verb.name)
def test_arguments_are_held_to_their_declaration(verb: verbs.Verb) -> None:
    full = {name: EXAMPLES[kind] for name, kind in verb.arguments.items()}
    verb.check(full)
    verb.check({name: full[name] for name in verb.required})
    with pytest.raises(UsageError, match="unknown argument 'nonsense'"):
        verb.check({**full, "nonsense": 1})
    for name in verb.required:
        with pytest.raises(UsageError, match=f"'{name}' is missing"):
            verb.check({key: value for key, value in full.items() if key != name})
    for name, kind in verb.arguments.items():
        for other, value in EXAMPLES.items():
            if other is not kind:
                with pytest.raises(UsageError, match=f"{verb.name}: argument '{name}' is"):
                    verb.check({**full, name: value})
