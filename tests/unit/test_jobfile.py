"""Job files: every mistake is named, each by its file, line and key."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.core.jobfile import MAX_FILE, read, read_one
from jobd.core.tomlkeys import line_of, lines_of_keys

ALL = '''\
name = "mail"  # the name
image = "img:1"
env = { LANG = "C", "X" = """a
b = 3
""" }
command = [
  "sh",  # ] = [
  '-c', "a = b",
]

config = \'\'\'
[retry]
attempts = 1
\'\'\'

[resources]
memory = "64M"

[ retry ]
attempts = 5
"max_delay" = "1h"

[secrets]
TOKEN = "t"
'''


def mistakes(text: str, **options: Any) -> list[str]:
    """What is said of one file `f.toml`."""
    return [str(one) for one in read_one("f.toml", "f", text.encode(), **options)[1]]


def test_a_whole_file_is_read_and_its_lines_are_known() -> None:
    job, wrong = read_one("f.toml", "f", ALL.encode())
    assert not wrong
    assert job is not None
    assert job.name == "mail"
    assert job.spec["retry"] == {"attempts": 5, "max_delay": "1h"}
    lines = {
        "name": 1,
        "image": 2,
        "env": 3,
        "env.LANG": 3,
        "env.X": 3,
        "command": 6,
        "config": 11,
        "resources": 16,
        "resources.memory": 17,
        "retry": 19,
        "retry.attempts": 20,
        "retry.max_delay": 21,
        "secrets": 23,
        "secrets.TOKEN": 24,
    }
    assert lines_of_keys(ALL) == lines


def test_the_name_is_the_files_where_it_has_none() -> None:
    job, _ = read_one("f.toml", "f", b'image = "x"')
    assert job is not None
    assert (job.name, job.spec) == ("f", {"image": "x", "name": "f"})


def test_all_that_is_wrong_in_one_file_is_told() -> None:
    text = """\
nam = "x"
timeout = "soon"
[retry]
attempts = 0
delay = "20m"
max_delay = "1m"
[[alert]]
on = ["dead"]
[limits]
rate = "1"
[env]
A = 1
B = [1]
"""
    assert mistakes(text) == [
        "f.toml:1: 'nam': unknown key; did you mean name?",
        "f.toml:2: timeout: 'soon' is not a duration such as 90s or 2h30m",
        "f.toml:4: retry.attempts: 0: expected a whole number, 1 to 1000",
        "f.toml: alert[0]: expected one of url, job, command, journal, to, got none",
        "f.toml:10: limits.rate: '1': expected a rate such as 100/h, 5/s or 3/10m",
        "f.toml:13: env.B: expected text, got a list",
        "f.toml: job f: image and command are missing: say which image to run, or which "
        "command as a process of the host",
    ]


def test_what_is_not_done_yet_is_refused_by_name() -> None:
    (wrong,) = mistakes("image = 'x'\non = [{ hook = 'x' }]\n")
    assert wrong == "f.toml: on[0].hook: not supported by this version of jobd"


def test_keys_that_contradict_each_other_are_told_where_one_stands() -> None:
    text = 'image = "x"\n[retry]\nmax_delay = "1s"\ndelay = "1h"\n'
    assert mistakes(text) == ["f.toml:3: retry.max_delay: 1s is less than retry.delay (1h)"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"image = = 3", "f.toml:1: is not valid TOML: Invalid value"),
        (b'image = "x"\n\n[retry', "f.toml:3: is not valid TOML: Expected ']'"),
        (b'image = "x"\nuser = "\xff"', "f.toml:2: is not UTF-8 text"),
        (b" " * (MAX_FILE + 1), f"f.toml: {MAX_FILE + 1} bytes: at most {MAX_FILE} are read"),
        (b"name = 3\nimage = 'x'", "f.toml:1: name: 3 is not a job name"),
        (b"retry = 3\nimage = 'x'", "f.toml:1: retry: expected a table, got a number"),
    ],
)
def test_what_cannot_be_read_is_told_by_line(content: bytes, said: str) -> None:
    (wrong,) = read_one("f.toml", "f", content)[1]
    assert str(wrong).startswith(said)


def test_files_are_read_to_the_last_and_names_must_differ() -> None:
    def check(spec: Any) -> list[str]:
        return ["network 'host' is not allowed here"] if spec.network == "host" else []

    jobs, wrong = read(
        [
            ("a.toml", "a", b'image = "x"'),
            ("b.toml", "b", b'image = "x"\nname = "a"'),
            ("c.toml", "c", b'image = "x"\n\nnetwork = "host"'),
            ("d.toml", "d", b'image = "x"'),
        ],
        check=check,
    )
    assert [job.file for job in jobs] == ["a.toml", "b.toml", "d.toml"]
    assert [str(one) for one in wrong] == [
        "b.toml:2: name: job a is in a.toml already",
        "c.toml:3: network 'host' is not allowed here",
    ]


def test_a_deep_config_travels_as_text() -> None:
    deep = "config." + ".".join("a" * 1 for _ in range(40)) + " = 1"
    job, wrong = read_one("f.toml", "f", f'image = "x"\n{deep}\n'.encode())
    assert not wrong
    assert job is not None
    assert job.spec["config"].count("{") == 40
    assert mistakes("image = 'x'\nconfig = { at = 2026-01-01 }")[0].startswith("f.toml:2: config: ")


KEYS = st.text("abcdefgh-_", min_size=1, max_size=5)
VALUES = st.sampled_from(
    [
        "1",
        "'a = b'",
        '"[x]"',
        "[1, 2]",
        "{ k = 1 }",
        "[\n 1, # c\n]",
        '"""\nz = 1\n"""',
        "2026-01-01",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=3), max_size=4))
def test_every_key_of_any_text_is_found_on_its_line(tables: dict[str, dict[str, str]]) -> None:
    text, expected = "", {}
    for table, pairs in tables.items():
        expected[table] = text.count("\n") + 1
        text += f"[{table}]\n"
        for key, value in pairs.items():
            expected[f"{table}.{key}"] = text.count("\n") + 1
            text += f"{key} = {value} # {key}\n\n"
    tomllib.loads(text)
    found = lines_of_keys(text)
    assert {path: found.get(path) for path in expected} == expected


@given(st.text(max_size=80) | st.text("ab.=[]{},\"'#\n\\ 0", max_size=60))
def test_no_text_is_too_strange_to_be_looked_at(text: str) -> None:
    lines_of_keys(text)
    assert line_of({}, text) is None
