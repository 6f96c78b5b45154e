"""Keys of which one run at a time is active, over all jobs (`--mutex KEY`, `limits.mutex`).

A run that finds its key held is set aside, out of the ready index, so that it holds up no run of
its job with another key. When a key is let go, the first of each job that waits for it is put in
front of the index again; the first of those to start has it, and the others are set aside anew.
Who is set aside is no event: it follows from who is active.
"""

from __future__ import annotations

import heapq
import json
import re
from typing import TYPE_CHECKING, Any, Protocol

from jobd.errors import InvalidError

if TYPE_CHECKING:
    from jobd.core.entities import Run

#: characters that a key may have
LONGEST = 200
#: of a payload that is read as JSON for a key's sake, in bytes
_PAYLOAD = 64 << 10

_FIELD = re.compile(r"\{([^{}]*)\}")


class Runs(Protocol):
    """Where a run is found by its id."""

    def get(self, run: int) -> Run | None:
        """The run, or None."""


class Mutexes:
    """Key -> who holds it, and who is set aside for it."""

    __slots__ = ("_aside", "_waiting", "holders")

    def __init__(self) -> None:
        self.holders: dict[str, int] = {}
        #: key -> job -> heap of (-priority, run): by priority, then age
        self._waiting: dict[str, dict[int, list[tuple[int, int]]]] = {}
        self._aside: set[int] = set()

    def __contains__(self, run: int) -> bool:
        """Whether the run is set aside."""
        return run in self._aside

    def claimed(self, run: Run) -> None:
        """A run became active: it holds its key, where it has one."""
        key = run.option("mutex")
        if key is not None:
            self.holders[key] = run.id
            self._aside.discard(run.id)

    def ended(self, run: Run) -> str | None:
        """Its attempt ended: the key that it has let go of, or None."""
        key: str | None = run.option("mutex")
        if key is None or self.holders.get(key) != run.id:
            return None
        del self.holders[key]
        return key

    def set_aside(self, run: Run) -> None:
        """Keep a ready run until its key is free."""
        self._aside.add(run.id)
        heap = self._waiting.setdefault(run.option("mutex"), {}).setdefault(run.job.id, [])
        heapq.heappush(heap, (-run.priority, run.id))

    def leave(self, run: Run) -> None:
        """The run does not wait here any more: it is cancelled, held, put off or changed."""
        self._aside.discard(run.id)

    def woken(self, key: str, runs: Runs) -> list[Run]:
        """The first of each job that wait for a key that is free: no more set aside."""
        if key in self.holders or key not in self._waiting:
            return []
        found: list[Run] = []
        jobs = self._waiting[key]
        for job in list(jobs):
            heap = jobs[job]
            while heap:
                priority, number = heapq.heappop(heap)
                run = runs.get(number)
                if run is not None and number in self._aside and run.priority == -priority:
                    self._aside.discard(number)
                    found.append(run)
                    break
            if not heap:
                del jobs[job]
        if not jobs:
            del self._waiting[key]
        return found


def check_template(value: Any, path: str) -> str:
    """A job's `limits.mutex` as it may be. Raises InvalidError."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST or not value.isprintable():
        raise InvalidError(f"{path}: {value!r:.60}: expected 1 to {LONGEST} printable characters")
    for field in _FIELD.findall(value):
        if field not in ("job", "user", "key") and not field.startswith(
            ("label.", "env.", "payload.")
        ):
            raise InvalidError(
                f"{path}: {{{field:.40}}}: expected {{job}}, {{user}}, {{key}}, {{label.NAME}}, "
                "{env.NAME} or {payload.NAME}"
            )
    return value


def fill(template: str, known: dict[str, Any], payload: Any) -> str:
    """The key that a template stands for; `known` has `job`, `user`, `key`, `label`, `env`.

    `{payload.NAME}` is a field of a JSON object. Raises InvalidError for what is not there.
    """

    def value(found: re.Match[str]) -> str:
        field, _, name = found[1].partition(".")
        source = _fields(payload) if field == "payload" else known.get(field)
        item = source.get(name) if name and isinstance(source, dict) else source
        if item is None or isinstance(item, dict | list) or (field == "payload" and not name):
            raise InvalidError(
                f"mutex: {template!r:.80} needs {found[1]:.60}, which this run does not have"
            )
        return item if isinstance(item, str) else json.dumps(item)

    made = _FIELD.sub(value, template)
    if not 0 < len(made) <= LONGEST or not made.isprintable():
        raise InvalidError(f"mutex: {made!r:.60}: expected 1 to {LONGEST} printable characters")
    return made


def _fields(payload: Any) -> dict[str, Any]:
    if not isinstance(payload, bytes) or len(payload) > _PAYLOAD:
        return {}
    try:
        read = json.loads(payload)
    except ValueError:  # not JSON, or not UTF-8
        return {}
    except RecursionError:
        return {}
    return read if isinstance(read, dict) else {}
