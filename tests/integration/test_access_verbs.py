"""Who may hold, retry, edit and look into what, as real users through the real socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.faked import Faked
from tests.support.people import People, is_root

pytestmark = pytest.mark.skipif(not is_root(), reason="needs root, to become other users")

#: users that every Debian has: submits, manages, reads, may do nothing
ALICE, OPS, AUDITOR, EVE = "www-data", "games", "mail", "nobody"
CONFIG = '[access]\nsocket_mode = "0666"\n'
OPTIONS = [
    "--access-submit", ALICE, "--access-manage", OPS, "--access-read", AUDITOR,
    "--access-override", "timeout",
]  # fmt: skip


@pytest.fixture(scope="module")
def people() -> Iterator[People]:
    daemon = Faked(CONFIG)
    try:
        daemon.start()
        them = People(daemon.home)
        secret = ["--env", "DB_PASSWORD=hunter2"]
        for job, options in (("team", OPTIONS), ("closed", ["--access-submit", ""])):
            words = ("register", "--name", job, *options, *secret, "img", "print=x")
            assert them.say("root", *words).status == 0
            assert them.say("root", "pause", job).status == 0
        yield them
        them.close()
    finally:
        daemon.close()


@pytest.fixture
def run(people: People) -> str:
    """A waiting run of root's."""
    return people.say("root", "queue", "team").out.strip()


@pytest.fixture
def ended(people: People, run: str) -> str:
    """A cancelled run of root's."""
    people.say("root", "cancel", run)
    return run


@pytest.mark.parametrize(
    "words",
    [
        ["next"],
        ["hold"],
        ["release"],
        ["edit", "--priority", "3"],
        ["edit", "--label", "a=b"],
    ],
    ids=" ".join,
)
def test_changing_others_runs_is_for_managers(people: People, run: str, words: list[str]) -> None:
    if words == ["release"]:
        people.say("root", "hold", run)
    for user, status in ((EVE, 66), (ALICE, 66), (AUDITOR, 77), (OPS, 0)):
        assert people.say(user, words[0], run, *words[1:]).status == status, user


def test_one_s_own_run_can_be_cancelled_and_not_edited(people: People) -> None:
    mine = people.say(ALICE, "queue", "team").out.strip()
    assert people.say(ALICE, "edit", mine, "--priority", "9").status == 77
    assert people.say(ALICE, "why", mine).status == 0
    assert people.say(ALICE, "cancel", mine).status == 0


def test_retry_is_for_who_may_submit_and_read(people: People, ended: str) -> None:
    for user, status in ((EVE, 66), (ALICE, 66), (AUDITOR, 77), (OPS, 77)):
        assert people.say(user, "retry", ended).status == status, user
    mine = people.say(ALICE, "queue", "team", "-p", "x", "--timeout", "5s").out.strip()
    people.say(ALICE, "cancel", mine)
    again = people.say(ALICE, "retry", mine).out.strip()
    row = people.say(ALICE, "show", again, "--json").json
    assert (row["submitted_by"]["user"], row["timeout_ms"]) == (ALICE, 5_000)


def test_what_a_submitter_may_not_set_is_not_retried_either(people: People) -> None:
    mine = people.say(ALICE, "queue", "team").out.strip()
    assert people.say(OPS, "edit", mine, "--priority", "9").status == 0
    people.say(ALICE, "cancel", mine)
    said = people.say(ALICE, "retry", mine)
    assert (said.status, "priority" in said.err) == (77, True)
    assert people.say("root", "retry", mine).status == 0


def test_why_is_for_who_may_read(people: People, run: str) -> None:
    for user, status in ((EVE, 66), (ALICE, 66), (AUDITOR, 0), (OPS, 0)):
        assert people.say(user, "why", run).status == status, user


def test_a_run_waits_for_those_alone_that_one_may_read(people: People, run: str) -> None:
    assert people.say(ALICE, "queue", "team", "--after", run).status == 66
    mine = people.say(ALICE, "queue", "team").out.strip()
    assert people.say(ALICE, "queue", "team", "--after", mine).status == 0


def test_setting_is_for_managers_and_not_all_of_it(people: People) -> None:
    for user, status in ((EVE, 66), (ALICE, 77), (AUDITOR, 77), (OPS, 0)):
        assert people.say(user, "set", "team", "limits.queue=500").status == status, user
    said = people.say(OPS, "set", "team", "network=none")
    assert (said.status, "network: only an administrator" in said.err) == (77, True)
    assert people.say("root", "set", "team", "access.manage=games,mail").status == 0
    assert people.say("root", "set", "team", "access.manage=games").status == 0


def test_secrets_are_in_no_history(people: People) -> None:
    assert people.say("root", "set", "team", "env.DB_PASSWORD=hunter3").status == 0
    for user, status in ((EVE, 66), (ALICE, 0), ("root", 0)):
        said = people.say(user, "history", "team")
        assert said.status == status, user
        assert "hunter" not in said.out
    assert "env.DB_PASSWORD: ******** -> ********" in people.say("root", "history", "team").out


def test_draining_is_for_administrators(people: People) -> None:
    for user in (EVE, ALICE, OPS):
        assert people.say(user, "drain").status == 77, user
        assert people.say(user, "undrain").status == 77, user


def test_events_are_of_what_one_may_see(people: People, run: str) -> None:
    people.say("root", "queue", "closed")
    mine = int(people.say(ALICE, "queue", "team").out)

    def seen(user: str, *words: str) -> list[tuple[str | None, int | None]]:
        rows = people.say(user, "events", "--json", *words).json
        return [(row["job"], row["run"]) for row in rows]

    assert {job for job, _ in seen("root")} == {"team", "closed"}
    assert seen(EVE) == seen(EVE, "--audit") == []
    # its job's own changes, and one's own runs
    assert {job for job, _ in seen(ALICE)} == {"team"}
    assert ("team", mine) in seen(ALICE, "--audit")
    assert ("team", int(run)) not in seen(ALICE)
    assert ("team", int(run)) in seen(AUDITOR)
