"""A corpus of what must not be shown, and of what must be; and texts made to be slow."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.core import masking
from jobd.core.masking import MASK, is_telling, text, variables, words


def _words(text_: str) -> list[str]:
    return text_.split()


VALUE = "hunter2-Zx9"

TELLING = _words("""
password PASSWORD passwd Passwd DB_PASSWORD PGPASSWORD MYSQL_PWD user.password rootPass
pass PASS smtp_pass passphrase token TOKEN authToken x-auth-token access_token secret SECRET
client_secret AWS_SECRET_ACCESS_KEY api_key API_KEY apiKey api-key ApiKey apikey SENDGRID_API_KEY
license LICENSE_KEY licence connectionstring ConnectionString connection_string CONNECTION-STRING
credential credentials privateKey private_key PRIVATE-KEY authorization Authorization cookie
Set-Cookie bearer auth BASIC_AUTH dsn SENTRY_DSN signing_key sshKey""")

INNOCENT = _words("""
name PATH LANG compass bypassed author authority path primary_key key keyboard monkey
user host port passenger classpath scene dsnap level pwdx to subject count""")


@pytest.mark.parametrize("name", TELLING)
def test_telling_names(name: str) -> None:
    assert is_telling(name)
    assert variables({name: VALUE}) == {name: MASK}
    for shape in (
        f"{name}={VALUE}",
        f"--{name}={VALUE} --verbose",
        f"{name}: {VALUE}",
        f"a=1\n{name} = '{VALUE}'\nb=2",
        f'{name} = "{VALUE}"',
        f"http://host/?x=1&{name}={VALUE}&y=2",
        json.dumps({name: VALUE, "a": 1}),
        json.dumps([{"deep": {name: [VALUE, {"x": VALUE}]}}]),
        json.dumps({name: VALUE, "a": 1})[:-3],
        f'{{"{name}": "{VALUE}"}}\n{{"{name}": "{VALUE}"}}',
    ):
        assert VALUE not in text(shape), shape
        assert MASK in text(shape), shape
    assert VALUE not in " ".join(words(["sh", f"--{name}", VALUE, "x"]))
    assert VALUE not in " ".join(words(["sh", f"--{name}={VALUE}", "x"]))


@pytest.mark.parametrize("name", INNOCENT)
def test_innocent_names(name: str) -> None:
    assert not is_telling(name)
    for shape in (f"{name}={VALUE}", f"{name}: {VALUE}", json.dumps({name: VALUE})):
        assert text(shape) == shape
    assert words([f"--{name}", VALUE]) == [f"--{name}", VALUE]
    assert variables({name: VALUE}) == {name: VALUE}


@pytest.mark.parametrize(
    ("given_", "shown"),
    [
        ("postgres://u:pw@db/x", f"postgres://u:{MASK}@db/x"),
        ("see http://host:80/x", "see http://host:80/x"),
        ("curl -H 'X: Bearer abcdefabcdefabcdef'", f"curl -H 'X: Bearer {MASK}'"),
        ("a bearer of news", "a bearer of news"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nx", f"{MASK}\nx"),
        ('{"token": null, "auth": true, "pass": ""}', '{"token": null, "auth": true, "pass": ""}'),
        ('{"pin": 1, "password": 12}', f'{{"pin": 1, "password": "{MASK}"}}'),
        ('{"a": "password=x y"}', f'{{"a": "password={MASK} y"}}'),
        ("args: --password=x", f"args: --password={MASK}"),
        ("password=a b=c", f"password={MASK} b=c"),
        ("", ""),
        ("[1, 2", "[1, 2"),
    ],
)
def test_texts(given_: str, shown: str) -> None:
    assert text(given_) == shown


def test_a_mask_tells_nothing_and_an_empty_value_is_no_secret() -> None:
    assert variables({"TOKEN": "a"})["TOKEN"] == variables({"TOKEN": "a" * 99})["TOKEN"]
    assert variables({"TOKEN": ""}) == {"TOKEN": ""}
    assert variables({"OPTS": "--token=abc -v"}) == {"OPTS": f"--token={MASK} -v"}


def test_a_job_keeps_all_but_the_values() -> None:
    mapping: dict[str, Any] = {
        "name": "j",
        "secrets": {"API_KEY": "sendgrid"},
        "env": {"API_KEY": VALUE, "A": "b"},
        "config": json.dumps({"password": VALUE}),
        "command": ["x", "--token", VALUE],
    }
    shown = masking.job(mapping)
    assert shown["secrets"] == {"API_KEY": "sendgrid"}, "the name of a file, which is none"
    assert VALUE not in json.dumps(shown)
    assert mapping["env"]["API_KEY"] == VALUE, "what is kept is not touched"
    assert masking.job({"env": {}, "config": "", "command": None}) == {
        "env": {},
        "config": "",
        "command": None,
    }


def test_shown_once_is_shown_the_same_again() -> None:
    for shape in ("password=x", '{"token": "y"}', "a://u:p@h", "pass: x y"):
        assert text(text(shape)) == text(shape)


@given(st.text())
def test_any_text_can_be_shown(value: str) -> None:
    assert isinstance(text(value), str)
    assert isinstance(words([value, value]), list)


@pytest.mark.parametrize(
    "piece",
    ["a", "1", "a ", "a=", "a:", " ", "-----BEGIN ", '"', "x ", "http://", 'password="', "pass:'",
     "[", '{"a":', "bearer ", "a://b:c", "aA", "_a", "token"],
)  # fmt: skip
def test_no_text_takes_long(piece: str) -> None:
    # the text is somebody else's, and the loop's thread shows it: what is not linear takes minutes
    started = time.process_time()
    text(piece * (260_000 // len(piece)))
    is_telling(piece * 100_000)
    assert time.process_time() - started < 30, "not a measure, a give-up"
