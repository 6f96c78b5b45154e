"""`[[alert]]` of a job and `[alerts]` of jobd.toml: read, written back, refused by name."""

from __future__ import annotations

import os
from typing import Any

import pytest

from jobd.core.alertcheck import check_alerts
from jobd.core.alertrules import read_alerts, shown
from jobd.core.alertspec import Destination, deadline, read_all, write_all
from jobd.core.commands import Caller
from jobd.core.policy import Rules
from jobd.core.stored import stored
from jobd.daemon import config
from jobd.errors import InvalidError
from tests.support.core import ANN, Bench

HOOK = "https://hooks.example/services/T0"
ALERTS: list[dict[str, Any]] = [
    {"on": ["dead", "failed"], "url": HOOK, "template": "slack"},
    {"on": ["late"], "to": "ops", "by": "08:30", "timezone": "Europe/Berlin"},
    {"on": ["late", "slow"], "job": "fixer", "within": "1d2h", "factor": 4.5},
    {"on": ["queue"], "command": "page", "waiting": 100},
    {"on": ["breaker", "no-result"], "journal": True},
    {"on": ["dead"], "url": HOOK, "template": '{"t": "${text}", "n": ${count}}'},
]
TABLE: dict[str, Any] = {
    "allow": ["https://hooks.example/*"],
    "to": {"ops": {"url": HOOK, "secret": "ops-key"}, "log": {"journal": True}},
    "commands": {"page": ["/usr/bin/page", "--now"]},
    "on": [{"on": ["engine", "disk", "dead"], "to": "ops"}],
    "rate": "5/m",
    "give_up": "1h",
}


def test_it_is_read_as_it_was_written() -> None:
    read = read_all(ALERTS, "alert")
    assert write_all(read) == ALERTS
    assert read_all(write_all(read), "alert") == read
    assert read[0].to == Destination("url", HOOK, "slack")
    assert (read[2].within, read[2].factor) == (93_600_000, 4.5)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({}, "alert[0].on"),
        ({"on": []}, "alert[0].on"),
        ({"on": ["ded"], "journal": True}, "alert[0].on"),
        ({"on": ["engine"], "journal": True}, "alert[0].on"),
        ({"on": ["dead"]}, "alert[0]"),
        ({"on": ["dead"], "journal": False}, "alert[0]"),
        ({"on": ["dead"], "url": HOOK, "job": "x"}, "alert[0]"),
        ({"on": ["dead"], "url": "https://a@b/"}, "alert[0].url"),
        ({"on": ["dead"], "job": "no job"}, "alert[0].job"),
        ({"on": ["dead"], "ulr": HOOK}, "alert[0].ulr"),
        ({"on": ["dead"], "to": "ops", "template": "slack"}, "alert[0].template"),
        ({"on": ["dead"], "url": HOOK, "template": "slak"}, "alert[0].template"),
        ({"on": ["dead"], "url": HOOK, "template": "${txet}"}, "alert[0].template"),
        ({"on": ["dead"], "url": HOOK, "template": '{"a": ${text}'}, "alert[0].template"),
        ({"on": ["dead"], "url": HOOK, "template": "${text}" * 9}, "alert[0].template"),
        ({"on": ["late"], "journal": True}, "alert[0]"),
        ({"on": ["dead"], "journal": True, "within": "1h"}, "alert[0]"),
        ({"on": ["late"], "journal": True, "by": "25:00"}, "alert[0].by"),
        ({"on": ["late"], "journal": True, "by": "@reboot"}, "alert[0].by"),
        (
            {"on": ["late"], "journal": True, "by": "8:00", "timezone": "Mars/X"},
            "alert[0].timezone",
        ),
        ({"on": ["dead"], "journal": True, "timezone": "UTC"}, "alert[0].timezone"),
        ({"on": ["queue"], "journal": True}, "alert[0]"),
        ({"on": ["dead"], "journal": True, "factor": 2}, "alert[0].factor"),
        ({"on": ["slow"], "journal": True, "factor": 1}, "alert[0].factor"),
        (7, "alert[0]"),
    ],
)
def test_what_is_refused_names_its_key(given: Any, path: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        read_all([given], "alert")
    assert str(refusal.value).startswith(f"{path}: "), str(refusal.value)


def test_there_are_not_too_many() -> None:
    with pytest.raises(InvalidError, match="16 at most"):
        read_all([{"on": ["dead"], "journal": True}] * 17, "alert")


def test_by_goes_by_the_local_day() -> None:
    (spec,) = read_all([{"on": ["late"], "journal": True, "by": "08:30"}], "alert")
    hour = 3_600_000
    since = 1_769_990_400_000  # 2026-02-02 00:00 UTC, 01:00 in Berlin
    assert deadline(spec, since, "UTC") == since + int(32.5 * hour)
    assert deadline(spec, since, "Europe/Berlin") == since + int(31.5 * hour)


# -- jobd.toml -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (7, "alerts"),
        ({"alow": []}, "alerts.alow"),
        ({"allow": "https://x.example/*"}, "alerts.allow"),
        ({"allow": ["https://*/"]}, "alerts.allow[0]"),
        ({"rate": "often"}, "alerts.rate"),
        ({"secret": "../key"}, "alerts.secret"),
        ({"child": "maybe"}, "alerts.child"),
        ({"commands": {"page": "page"}}, "alerts.commands.page"),
        ({"commands": {"page": ["page"]}}, "alerts.commands.page"),
        ({"commands": {"a b": ["/x"]}}, "alerts.commands"),
        ({"to": {"ops": {"url": HOOK}}}, "alerts.to.ops"),
        ({"to": {"ops": {"command": "page"}}}, "alerts.to.ops"),
        ({"to": {"ops": {}}}, "alerts.to.ops"),
        ({"to": {"ops": {"journal": True, "x": 1}}}, "alerts.to.ops.x"),
        ({"on": [{"on": ["dead"], "to": "ops"}]}, "alerts.on[0]"),
        ({"on": [{"on": ["late"], "journal": True, "by": "8:00"}]}, "alerts.on[0].on"),
    ],
)
def test_what_jobd_toml_says_wrong_is_named(given: Any, path: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        read_alerts(given)
    assert str(refusal.value).startswith(f"{path}: "), str(refusal.value)


def test_nothing_may_be_sent_anywhere_by_default() -> None:
    rules = read_alerts({})
    for to in (Destination("url", HOOK), Destination("command", "x"), Destination("to", "x")):
        with pytest.raises(InvalidError):
            rules.resolve(to)
    assert rules.resolve(Destination("journal")) == (Destination("journal"), "")


def test_where_it_goes_and_by_which_secret_it_is_signed() -> None:
    rules = read_alerts({**TABLE, "secret": "all"})
    assert rules.resolve(Destination("to", "ops")) == (Destination("url", HOOK), "ops-key")
    assert rules.resolve(Destination("url", HOOK))[1] == "all"


def test_what_is_in_force_is_shown_without_what_may_be_a_secret() -> None:
    text = str(shown(read_alerts(TABLE)))
    assert "T0" not in text
    assert "https://hooks.example" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others' processes are their own")
def test_who_delivers_is_nobody_that_jobs_run_as() -> None:
    given = {"process": {"enabled": True, "user": "nobody"}, "alerts": {"user": "nobody"}}
    with pytest.raises(InvalidError, match=r"^alerts\.user: processes of jobs run as nobody too"):
        config.read(given)
    assert config.read({"alerts": {"user": "nobody"}}).rules.alerts.uid == 65534
    with pytest.raises(InvalidError, match=r"^alerts\.user: "):
        config.read({"alerts": {"user": "root"}})


# -- against the host ------------------------------------------------------------------------


def check(alert: list[dict[str, Any]], caller: Caller = ANN, **more: Any) -> None:
    one = Bench(Rules(alerts=read_alerts(TABLE)))
    one.register("fixer", access={"submit": ["bob"]})
    spec, _ = stored({"name": "job", "image": "i", "alert": alert, **more}, "job")
    check_alerts(one.state, spec, one.rules, caller)


def test_a_job_may_alert_to_what_is_there() -> None:
    check([one for one in ALERTS if "job" not in one])
    check(ALERTS)


@pytest.mark.parametrize(
    "to", [{"url": "https://evil.example/"}, {"to": "nobody"}, {"command": "rm"}, {"job": "job"}]
)
def test_a_job_may_not_alert_to_what_is_not(to: dict[str, str]) -> None:
    with pytest.raises(InvalidError, match=r"^job job: alert\[0\]\."):
        check([{"on": ["dead"], **to}])


def test_to_manage_a_job_is_no_right_to_have_another_run() -> None:
    bob, eve = (Caller(number, name, 1) for number, name in ((1001, "bob"), (1002, "eve")))
    check([{"on": ["dead"], "job": "fixer"}], bob)
    for caller, job in ((eve, "fixer"), (bob, "not-there")):
        with pytest.raises(InvalidError, match="that you may queue"):
            check([{"on": ["dead"], "job": job}], caller)


def test_of_what_is_on_record_the_readable_is_kept() -> None:
    given = {"name": "job", "image": "i", "alert": [ALERTS[4], {"on": ["telepathy"], "to": "x"}]}
    spec, notes = stored(given, "job")
    assert write_all(spec.alerts) == [ALERTS[4]]
    assert len(notes) == 1
