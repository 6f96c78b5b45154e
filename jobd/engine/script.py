"""The words that the fake engine's attempts understand, each a step, done in order.

| word | what it does |
|---|---|
| `lines=N` | writes `line 0` … `line N-1`, every third one to stderr |
| `print=TEXT` `eprint=TEXT` | writes a line to stdout, to stderr |
| `part=TEXT` | writes TEXT to stdout without a newline |
| `flood=BYTES` | writes numbered lines of 100 bytes |
| `payload` | writes the payload's lines to stdout |
| `stdin` | writes the lines of its standard input to stdout |
| `result=TEXT` | leaves TEXT as the result |
| `out=NAME:TEXT` | leaves TEXT in a file in the output folder |
| `env=NAME` | writes the value of a variable |
| `digest=NAME` | writes the SHA-256 of a variable, or of a secret file |
| `memory=BYTES` | uses so much from now on |
| `sleep=SECONDS` `hang` | does nothing for a time, for ever |
| `ignore-term` | only SIGKILL ends it from now on |
| `fail-until=N` | exits 1 in attempts before the N-th |
| `exit=N` | ends |
| `oom` | ends as one that is killed for memory |
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

from jobd.engine.base import Order, StartRefusedError, Stream


class Killed(Exception):
    """The attempt was ended by a signal, or by the engine."""

    def __init__(self, code: int) -> None:
        super().__init__(f"ended with {code}")
        self.code = code


class Scripted(Protocol):
    """What a step needs of the attempt that it is part of."""

    order: Order
    oom: bool
    ignore_term: bool
    memory: int

    def stdin(self) -> bytes: ...

    def write(self, stream: Stream, data: bytes, partial: bool = False) -> None: ...

    def rest(self, seconds: float | None) -> None: ...


#: does its part; a number is the exit status with which the attempt ends
Step = Callable[[Scripted], int | None]


def steps(order: Order) -> list[Step]:
    """The steps that a command's words make. Raises StartRefusedError for an unknown word."""
    made: list[Step] = []
    for word in order.command or ():
        name, _, value = word.partition("=")
        make = _WORDS.get(name)
        if make is None:
            known = ", ".join(sorted(_WORDS))
            raise StartRefusedError(
                f"no such command: {word!r}; the fake engine knows {known}", 127
            )
        try:
            made.append(make(value))
        except ValueError:
            raise StartRefusedError(f"{word!r}: the value is not a number", 126) from None
    return made


def _lines(value: str) -> Step:
    count = int(value)

    def step(attempt: Scripted) -> None:
        for index in range(count):
            stream = Stream.STDERR if index % 3 == 2 else Stream.STDOUT
            attempt.write(stream, b"line %d" % index)

    return step


def _flood(value: str) -> Step:
    count = int(value) // 100

    def step(attempt: Scripted) -> None:
        for index in range(count):
            attempt.write(Stream.STDOUT, b"%099d" % index)

    return step


def _print(stream: Stream, partial: bool = False) -> Callable[[str], Step]:
    return lambda value: lambda attempt: attempt.write(stream, value.encode(), partial)


def _payload(value: str) -> Step:
    def step(attempt: Scripted) -> None:
        order = attempt.order
        data = (order.payload or order.task_dir / "payload").read_bytes()
        rows = data.split(b"\n")
        for row in rows[:-1]:
            attempt.write(Stream.STDOUT, row)
        if rows[-1]:
            attempt.write(Stream.STDOUT, rows[-1], True)

    return step


def _stdin(value: str) -> Step:
    def step(attempt: Scripted) -> None:
        for row in attempt.stdin().splitlines():
            attempt.write(Stream.STDOUT, row)

    return step


def _result(value: str) -> Step:
    def step(attempt: Scripted) -> None:
        (attempt.order.task_dir / "result").write_bytes(value.encode())

    return step


def _out(value: str) -> Step:
    name, _, text = value.partition(":")

    def step(attempt: Scripted) -> None:
        (attempt.order.task_dir / "out" / name).write_text(text)

    return step


def _env(value: str) -> Step:
    def step(attempt: Scripted) -> None:
        attempt.write(Stream.STDOUT, attempt.order.env.get(value, "").encode())

    return step


def _digest(value: str) -> Step:
    """Tells that a secret arrived, and not what it is: its SHA-256, of a variable or a file."""

    def step(attempt: Scripted) -> None:
        file = (attempt.order.secrets_dir or attempt.order.task_dir) / value
        data = file.read_bytes() if file.is_file() else attempt.order.env.get(value, "").encode()
        attempt.write(Stream.STDOUT, hashlib.sha256(data).hexdigest().encode())

    return step


def _memory(value: str) -> Step:
    size = int(value)

    def step(attempt: Scripted) -> None:
        attempt.memory = size

    return step


def _sleep(value: str) -> Step:
    seconds = float(value)
    return lambda attempt: attempt.rest(seconds)


def _hang(value: str) -> Step:
    return lambda attempt: attempt.rest(None)


def _ignore_term(value: str) -> Step:
    def step(attempt: Scripted) -> None:
        attempt.ignore_term = True

    return step


def _fail_until(value: str) -> Step:
    wanted = int(value)
    return lambda attempt: 1 if attempt.order.attempt < wanted else None


def _exit(value: str) -> Step:
    code = int(value)
    return lambda attempt: code


def _oom(value: str) -> Step:
    def step(attempt: Scripted) -> int:
        attempt.oom = True
        return 137

    return step


_WORDS: dict[str, Callable[[str], Step]] = {
    "lines": _lines,
    "print": _print(Stream.STDOUT),
    "eprint": _print(Stream.STDERR),
    "part": _print(Stream.STDOUT, partial=True),
    "flood": _flood,
    "payload": _payload,
    "stdin": _stdin,
    "result": _result,
    "out": _out,
    "env": _env,
    "digest": _digest,
    "memory": _memory,
    "sleep": _sleep,
    "hang": _hang,
    "ignore-term": _ignore_term,
    "fail-until": _fail_until,
    "exit": _exit,
    "oom": _oom,
}
