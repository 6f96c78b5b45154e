"""Users x jobs x verbs, as real users through the real socket."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from jobd.core import events as e
from tests.support.faked import Faked
from tests.support.people import People, Said, is_root

pytestmark = pytest.mark.skipif(not is_root(), reason="needs root, to become other users")

#: users that every Debian has; what they may is below
ALICE, BOB, OPS, AUDITOR, BOSS, EVE = "www-data", "backup", "games", "mail", "proxy", "nobody"
PEOPLE = ("root", BOSS, ALICE, BOB, OPS, AUDITOR, EVE)
#: a group of this test's own, for a user who is in it beside the primary one
GROUP = f"jobdt{os.getpid()}"

CONFIG = """
[access]
admin = ["proxy"]
submit = ["backup"]
read = ["mail"]
socket_mode = "0666"
"""
JOBS = {
    "team": ["--access-submit", f"@{ALICE},34", "--access-manage", f"@{GROUP}",
             "--access-override", "env"],
    "open": ["--access-submit", "*"],
    "plain": [],
    "closed": ["--access-submit", "", "--access-read", ""],
}  # fmt: skip

#: s submit, r read others' runs, m manage, a administer; nothing: the job looks as if absent
RIGHTS = {
    "root": {"team": "srma", "open": "srma", "plain": "srma", "closed": "srma"},
    BOSS: {"team": "srma", "open": "srma", "plain": "srma", "closed": "srma"},
    ALICE: {"team": "s", "open": "s", "plain": "", "closed": ""},
    BOB: {"team": "s", "open": "s", "plain": "s", "closed": ""},
    OPS: {"team": "rm", "open": "s", "plain": "", "closed": ""},
    AUDITOR: {"team": "r", "open": "sr", "plain": "r", "closed": ""},
    EVE: {"team": "", "open": "s", "plain": "", "closed": ""},
}


def expected(verb: str, rights: str) -> int:
    """The exit status that the documents tell."""
    hidden, forbidden = 66, 77
    if not rights:
        return forbidden if verb in ("unregister", "change", "image") else hidden
    wanted, status = {
        "show job": ("srm", 0),
        "queue": ("s", 0),
        "queue --priority": ("a", 0),
        "queue --env": ("s", 0),
        "pause": ("m", 0),
        "unregister": ("a", 73),
        "change": ("m", 0),
        "image": ("a", 0),
        "show run": ("r", 0),
        "logs": ("r", 0),
        "payload": ("r", 0),
        "result": ("r", 73),
        "wait": ("r", 124),
        "cancel": ("m", 0),
        "last": ("r", 0),
        "ls": ("srm", 0),
    }[verb]
    if set(wanted) & set(rights):
        return status
    return hidden if wanted == "r" or (verb == "cancel" and "r" not in rights) else forbidden


@pytest.fixture(scope="module")
def daemon() -> Iterator[Faked]:
    one = Faked(CONFIG)
    subprocess.run(["groupadd", GROUP], check=True)
    try:
        subprocess.run(["gpasswd", "-a", OPS, GROUP], check=True, stdout=subprocess.DEVNULL)
        one.start()
        yield one
    finally:
        one.close()
        subprocess.run(["groupdel", GROUP], check=True)


@pytest.fixture(scope="module")
def people(daemon: Faked) -> Iterator[People]:
    them = People(daemon.home)
    for job, options in JOBS.items():
        for words in (
            ("register", "--name", job, *options, "img", "print=x"),
            ("pause", job),
            ("queue", job, "-p", "root's own"),
        ):
            assert them.say("root", *words).status == 0
    yield them
    them.close()


def _command(verb: str, job: str, run: str, victim: str) -> list[str]:
    options = JOBS[job]
    return {
        "show job": ["show", job],
        "queue": ["queue", job, "--dry-run", "--label", "a=b", "--in", "1h", "--key", "k"],
        "queue --priority": ["queue", job, "--dry-run", "--priority", "0"],
        "queue --env": ["queue", job, "--dry-run", "--env", "A=b"],
        "pause": ["pause", job],
        "unregister": ["unregister", job],
        # by who may, it leaves the job as it is
        "change": ["register", "--name", job, *options, "img", "print=x"],
        "image": ["register", "--name", job, *options, "other", "print=x"],
        "show run": ["show", run],
        "logs": ["logs", run],
        "payload": ["payload", run],
        "result": ["result", run],
        "wait": ["wait", run, "--timeout", "1ms"],
        "cancel": ["cancel", victim],
        "last": ["show", f"last:{job}"],
        "ls": ["ls", "--job", job, "-o", "id"],
    }[verb]


VERBS = (
    "show job", "queue", "queue --priority", "queue --env", "pause", "unregister", "change",
    "image", "show run", "logs", "payload", "result", "wait", "cancel", "last", "ls",
)  # fmt: skip


@pytest.mark.parametrize("user", PEOPLE)
def test_the_matrix(people: People, user: str) -> None:
    wrong = []
    for number, job in enumerate(JOBS, 1):
        rights = RIGHTS[user][job]
        victim = people.say("root", "queue", job).out.strip()
        for verb in VERBS:
            wanted = expected(verb, rights)
            if verb == "queue --env" and job != "team" and rights and "a" not in rights:
                wanted = 77
            said = people.say(user, *_command(verb, job, str(number), victim))
            if said.status != wanted:
                wrong.append((verb, job, rights, wanted, said))
            assert rights or "print=x" not in said.out
    assert not wrong, "\n".join(map(str, wrong))
    people.say("root", "register", "--name", "x", "img")  # nothing a wrong verb did may linger
    for job, options in JOBS.items():
        people.say("root", "register", "--name", job, *options, "img", "print=x")


@pytest.mark.parametrize("user", PEOPLE)
def test_lists_show_what_one_may_see(people: People, user: str) -> None:
    rights = RIGHTS[user]
    listed = people.say(user, "jobs", "-o", "id").out.split()
    assert [job for job in JOBS if job in listed] == [job for job in JOBS if rights[job]]
    rows = people.say(user, "ls", "--all", "--json").json
    roots = {row["job"] for row in rows if row["submitted_by"]["user"] == "root"}
    assert roots - {"x"} == {job for job in JOBS if "r" in rights[job]}
    if "r" not in "".join(rights.values()):
        assert people.say(user, "show", "1-400").status == 66


def test_alices_run_from_end_to_end(people: People) -> None:
    words = ("queue", "team", "-p", "to: ops", "--env", "A=b")
    run = people.say(ALICE, *words).out.strip()
    assert people.say(ALICE, "payload", run).out == "to: ops"
    assert people.say(ALICE, "show", run, "--json").json["submitted_by"]["user"] == ALICE
    assert run in people.say(ALICE, "ls", "-o", "id").out.split()
    assert people.say(AUDITOR, "payload", run).out == "to: ops"
    for verb in ("show", "payload", "logs", "cancel"):
        assert people.say(BOB, verb, run).status == 66, "a submitter of the same job"
    assert people.say(AUDITOR, "cancel", run).status == 77
    # of several, one that may not be cancelled is all of the answer
    assert people.say(ALICE, "cancel", "1", run).status == 66
    assert people.say(ALICE, "show", run, "--json").json["status"] == "queued"
    assert people.say(ALICE, "cancel", run).status == 0
    assert people.say(OPS, "show", run, "--json").json["status"] == "cancelled"


def test_cancelling_a_job_takes_ones_own_runs_alone(people: People) -> None:
    mine = people.say(ALICE, "queue", "team").out.strip()
    theirs = people.say(BOB, "queue", "team").out.strip()
    assert people.say(ALICE, "cancel", "--job", "team").out == f"{mine} cancelled\n"
    assert people.say(BOB, "show", theirs, "--json").json["status"] == "queued"
    assert people.say(EVE, "cancel", "--job", "team").status == 66
    assert theirs in people.say(OPS, "cancel", "--job", "team").out


def test_a_key_tells_nothing_of_anothers_payload(people: People) -> None:
    first = people.say(ALICE, "queue", "team", "--key", "same", "-p", "a")
    second = people.say(BOB, "queue", "team", "--key", "same", "-p", "b")
    assert second.out == first.out
    assert "payload" not in second.err
    assert "another payload" in people.say(ALICE, "queue", "team", "--key", "same", "-p", "b").err


def test_large_payloads_are_uploaded_by_who_may_submit(people: People, daemon: Faked) -> None:
    big = daemon.base / "big"
    big.write_bytes(b"x" * 700_000)
    run = people.say(EVE, "queue", "open", "-f", str(big)).out.strip()
    assert len(people.say(EVE, "payload", run).out) == 700_000
    assert people.say(EVE, "queue", "team", "-f", str(big)).status == 66


def test_a_manager_changes_what_is_not_an_administrators(people: People) -> None:
    options = ["register", "--name", "team", *JOBS["team"], "--timeout", "5m"]
    assert people.say(OPS, *options, "img", "print=x").status == 0
    said = people.say(OPS, *options, "--network", "none", "--secret", "A=a", "img", "print=x")
    assert said.status == 77
    assert "job team: network, secrets: " in said.err
    assert people.say(OPS, "register", "--name", "new", "img").status == 77
    assert people.say(ALICE, *options, "img", "print=x").status == 77


def test_names_of_hidden_jobs_are_not_in_the_status(people: People) -> None:
    def seen(user: str) -> set[str]:
        status = people.say(user, "status", "--json").json
        return {*status["paused"], *(row["job"] for row in status["waiting"])}

    assert seen("root") >= set(JOBS)
    assert seen(EVE) == {"open"}
    assert people.say(EVE, "status", "--json").json["jobs"] > 1, "figures are everybody's"


def test_refusals_are_in_the_log(people: People, daemon: Faked) -> None:
    before: Said = people.say(EVE, "unregister", "open")
    assert before.status == 77
    # the log is bounded, and the matrix above has used up its share of this minute
    assert daemon.logged("access: refused ")
    assert "(hidden from them)" in daemon.log


def test_every_change_is_in_the_trail_with_who_made_it(people: People, daemon: Faked) -> None:
    # last in this file: it ends the daemon
    run = people.say(ALICE, "queue", "team").out.strip()
    people.say(OPS, "resume", "team")
    people.say(ALICE, "cancel", run)
    daemon.stop()
    found = daemon.events()
    uid = {OPS: 5, ALICE: 33}
    queued = next(x for x in found if isinstance(x, e.RunQueued) and x.run == int(run))
    assert queued.caller[:2] == [uid[ALICE], ALICE]
    assert queued.caller[2] > 1, "the pid that asked"
    resumed = [x for x in found if isinstance(x, e.JobResumed)]
    assert resumed[-1].caller[:2] == [uid[OPS], OPS]
    for event in found:
        if isinstance(event, e.JobRegistered | e.JobPaused | e.JobResumed | e.RunQueued):
            assert len(event.caller) == 4
            assert event.caller[1] in PEOPLE
        if isinstance(event, e.RunFinished) and event.outcome == "cancelled":
            assert event.caller is not None
    by = {x.caller[1] for x in found if isinstance(x, e.RunFinished) and x.caller}
    assert {ALICE, OPS, "root"} <= by
