"""What `jobctl init` writes is what jobd reads: every key, and no other."""

from __future__ import annotations

import tomllib

from jobctl.starter import CONFIG, JOB
from jobd.core import alertrules
from jobd.core.jobfile import read_one
from jobd.daemon import config
from jobd.daemon.effective import SHOWN, lines


def uncommented() -> str:
    """The configuration with its examples in force."""
    made = []
    for line in CONFIG.splitlines():
        key = line.removeprefix("# ").partition(" ")[0]
        example = line.startswith("# ") and " = " in line and key.replace("_", "").isalpha()
        made.append(line[2:] if example else line)
    return "\n".join(made)


def test_as_it_is_written_it_says_nothing() -> None:
    assert config.read(tomllib.loads(CONFIG)) == config.read({})


def test_every_key_is_shown_and_can_be_used() -> None:
    given = tomllib.loads(uncommented())
    paths = {f"{table}.{key}" for table, keys in given.items() for key in keys}
    free = ("defaults.", "groups.")
    known = set(config._KEYS) | {f"alerts.{key}" for key in alertrules.KEYS}
    assert {path for path in paths if not path.startswith(free)} == known
    given["capacity"] = {}  # of a large host, this one may be small
    given["maxima"].pop("cpus")
    given["maxima"].pop("memory")
    config.read(given)


def test_the_example_is_a_job() -> None:
    job, wrong = read_one("hello.toml", "hello", JOB.encode())
    assert not wrong
    assert job is not None
    assert job.name == "hello"


def test_check_prints_every_key_in_a_form_that_is_read_again() -> None:
    assert set(SHOWN) == set(config._KEYS)
    text = 'capacity = { cpus = 3.0, memory = "1G" }\nlogs = { per_attempt = "1M" }\n'
    text += '[defaults]\nenv = { "A" = "b c" }\nretry = { attempts = 2, on = ["failed", 75] }\n'
    text += '[groups]\ngpu = { concurrency = 1, rate = "5/s", burst = 9 }\n'
    text += '[access]\nadmin = ["@x"]\n[maxima]\ntimeout = "1h"\n'
    one = config.read(tomllib.loads(text))
    again = config.read(tomllib.loads("\n".join(lines(one))))
    assert lines(again) == lines(one)
    assert again.host == one.host
    assert again.rules.max_timeout == one.rules.max_timeout
