"""Who may see what of runs that have left memory: the same as when they were there."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.faked import Faked
from tests.support.people import People, is_root

pytestmark = pytest.mark.skipif(not is_root(), reason="needs root, to become other users")

#: one who submits, one who may read, one who may nothing
ALICE, AUDITOR, EVE = "www-data", "mail", "nobody"
CONFIG = """
[history]
window = 0
[access]
submit = ["www-data", "backup"]
read = ["mail"]
socket_mode = "0666"
"""


@pytest.fixture(scope="module")
def people() -> Iterator[People]:
    daemon = Faked(CONFIG)
    daemon.start()
    some = People(daemon.home)
    said = some.say(
        "root", "register", "--name", "j", "--env", "DB_PASSWORD=hush", "img", "print=secret"
    )
    assert said.status == 0, said.err
    for user in (ALICE, "root"):
        assert some.say(user, "queue", "j", "-p", "mine", "--key", user, "--wait").status == 0
    deadline = time.monotonic() + 30
    while some.say("root", "status", "--json").json["history"]["in_memory"]:
        assert time.monotonic() < deadline
    yield some
    some.close()
    daemon.close()


@pytest.mark.parametrize(("verb", "words"), [
    ("show", ()), ("logs", ()), ("payload", ()), ("why", ()), ("wait", ()), ("ls", ()),
])  # fmt: skip
def test_ones_own_are_readable_and_others_look_as_if_absent(
    people: People, verb: str, words: tuple[str, ...]
) -> None:
    assert people.say(ALICE, verb, "1", *words).status == 0
    assert people.say(ALICE, verb, "2", *words).status == 66
    for run in ("1", "2"):
        assert people.say(AUDITOR, verb, run, *words).status == 0
        said = people.say(EVE, verb, run, *words)
        assert said.status == 66
        assert f"run {run}: no such run" in said.err
        assert said.out == ""


def test_lists_and_last_show_what_one_may_see(people: People) -> None:
    seen = {user: people.say(user, "ls", "-o", "id").out.split() for user in (ALICE, AUDITOR, EVE)}
    assert seen == {ALICE: ["1"], AUDITOR: ["2", "1"], EVE: []}
    assert people.say(ALICE, "show", "last", "-o", "id").out.strip() == "1"
    assert people.say(ALICE, "ls", "1-2", "-o", "id").out.split() == ["1"]
    assert people.say(EVE, "show", "last").status == 66
    assert people.say(EVE, "show", "1-2").status == 66


def test_events_of_runs_that_have_left(people: People) -> None:
    runs = {}
    for user in (ALICE, AUDITOR, EVE):
        rows = people.say(user, "events", "--since", "1h", "--json").json
        runs[user] = {row["run"] for row in rows if row["run"]}
    assert runs == {ALICE: {1}, AUDITOR: {1, 2}, EVE: set()}


def test_changes_need_the_same_rights(people: People) -> None:
    assert people.say(AUDITOR, "retry", "1").status == 77
    assert people.say(EVE, "retry", "1").status == 66
    assert people.say(ALICE, "cancel", "2").status == 66
    assert people.say(ALICE, "cancel", "1").status == 73
    assert people.say(AUDITOR, "cancel", "1").status == 77


def test_a_key_of_anothers_run_tells_nothing_of_its_payload(people: People) -> None:
    mine = people.say(ALICE, "queue", "j", "-p", "other", "--key", ALICE)
    assert (mine.status, mine.out.strip()) == (0, "1")
    assert "another payload" in mine.err
    said = people.say(ALICE, "queue", "j", "-p", "other", "--key", "root")
    assert said.out.strip() == "2"
    assert "another payload" not in said.err


def test_what_is_telling_is_masked_and_none_of_it_is_in_an_archived_run(people: People) -> None:
    for words in (
        ("show", "1"), ("ls", "--all"), ("why", "1"), ("events", "--since", "1h"), ("show", "j"),
        ("history", "j"), ("wait", "1"), ("logs", "1"),
    ):  # fmt: skip
        mode = () if words[0] == "logs" else ("--json",)
        said = people.say("root", *words, *mode)
        assert said.status == 0, said.err
        assert "hush" not in said.out + said.err, words
    # one that is done again has it still
    again = people.say("root", "queue", "j", "--env", "API_TOKEN=hush2", "-p", "x", "--wait")
    assert again.status == 0, again.err
    deadline = time.monotonic() + 30
    while people.say("root", "status", "--json").json["history"]["in_memory"]:
        assert time.monotonic() < deadline
    last = str(people.say("root", "show", "last", "--json").json["id"])
    for verb in ("show", "why", "ls"):
        assert "hush" not in people.say("root", verb, last, "--json").out
