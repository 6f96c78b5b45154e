"""`[[on]] topic = "orders"`: a run of the job for each notification (`jobctl emit`). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobd.core import onfilter
from jobd.core.specvalues import shown
from jobd.errors import InvalidError

KEYS = ("topic", "labels", "payload")
_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}\Z")


@dataclass(frozen=True, slots=True)
class OnTopic:
    """The topic, by name, and which of its notifications are meant."""

    topic: str
    filter: onfilter.Filter = onfilter.ALL


def check_topic(name: object, path: str = "topic") -> str:
    """A topic's name as it may be. Raises InvalidError."""
    if not isinstance(name, str) or not _TOPIC.match(name):
        raise InvalidError(
            f"{path}: {shown(name)} is not a topic: a letter or digit, then letters, digits, "
            "'.', '_', '/' or '-', 100 in all"
        )
    return name


def parse(given: Mapping[str, Any], path: str) -> OnTopic:
    """Raises InvalidError naming the key below `path`."""
    return OnTopic(
        check_topic(given["topic"], f"{path}.topic"),
        onfilter.parse(given.get("labels"), given.get("payload"), path),
    )


def to_mapping(made: OnTopic) -> dict[str, Any]:
    """As in a job file."""
    return {"topic": made.topic, **onfilter.to_mapping(made.filter)}
