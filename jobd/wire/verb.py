"""What a verb is: its name, its arguments, who may ask it. On the client's hot path."""

from __future__ import annotations

from typing import Any

from jobd.errors import UsageError

_TYPES: dict[str, Any] = {
    "str": str,
    "bytes": bytes,
    "int": int,
    "bool": bool,
    "list": list,
    "map": dict,
}

#: the module below jobd.wire that declares the verbs of a noun, which is what stands before the dot
NOUN_MODULES = {
    "ping": "hostverbs",
    "status": "hostverbs",
    "host": "hostverbs",
    "events": "hostverbs",
    "job": "jobverbs",
    "run": "runverbs",
    "schedule": "scheduleverbs",
    "topic": "topicverbs",
    "alert": "alertverbs",
    "log": "transferverbs",
    "upload": "transferverbs",
    "image": "transferverbs",
}

#: keys in answers whose values are times in integer milliseconds UTC (or None)
TIME_KEYS = frozenset(
    {"at", "queued_at", "not_before", "started_at", "finished_at", "scheduled_at", "expires_at"}
    | {"estimated_start", "loaded_at", "next_at", "last_at", "problem_at", "since_at"}
    | {"estimated_earliest", "estimated_latest", "ends_at", "peak_at"}
    | {"raised_at", "resolved_at", "due_at", "done_at", "until"}
)

#: rights, as core/access.py has them (which the client must not load)
LOOK, SUBMIT, READ, OWN, MANAGE, ADMIN = "look", "submit", "read", "own", "manage", "admin"
NOTIFY = "notify"


class Verb:
    """One thing that can be asked of the daemon.

    A verb that declares no right is for administrators. `overrides` are arguments that set what
    the job says otherwise: from others only what its `access.override` names is let through.
    """

    __slots__ = ("arguments", "changes", "manual", "name", "overrides", "required", "right")

    def __init__(
        self,
        name: str,
        changes: bool,
        arguments: dict[str, str],
        manual: str,
        right: str = ADMIN,
        overrides: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        #: whether it changes anything: then it carries a key and may be asked again for 24 hours
        self.changes = changes
        self.arguments = {key: _TYPES[text.rstrip("?")] for key, text in arguments.items()}
        self.required = frozenset(key for key, text in arguments.items() if text[-1] != "?")
        self.manual = manual
        self.right = right
        self.overrides = overrides

    def check(self, given: dict[str, Any]) -> None:
        """Raises UsageError naming the argument that is unknown, missing or of a wrong type."""
        known = self.arguments
        for key, value in given.items():
            wanted = known.get(key)
            if wanted is None:
                raise UsageError(f"{self.name}: unknown argument {key!r:.60}")
            if type(value) is not wanted:
                raise UsageError(
                    f"{self.name}: argument {key!r} is {type(value).__name__}, "
                    f"expected {wanted.__name__}"
                )
        if not self.required <= given.keys():
            missing = sorted(self.required - given.keys())
            raise UsageError(f"{self.name}: argument {missing[0]!r} is missing")


def find(name: str) -> Verb:
    """The declaration of one verb, with no module loaded but its noun's; KeyError where none is.

    However many nouns there are, `jobctl queue` pays for one (tests/unit/test_jobctl_imports.py).
    """
    from importlib import import_module

    module = import_module(f"jobd.wire.{NOUN_MODULES[name.partition('.')[0]]}")
    for verb in module.VERBS:
        if verb.name == name:
            found: Verb = verb
            return found
    raise KeyError(name)
