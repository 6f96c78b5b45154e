"""Answers in parts, as the desk goes through them: a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jobd.server.kernel import Request


class Last:
    """The last word of an answer in parts."""

    __slots__ = ("body",)

    def __init__(self, body: Any) -> None:
        self.body = body


class Stream:
    """An answer in parts, and what its iterator is to be sent (None: nothing)."""

    __slots__ = ("parts", "request", "value")

    def __init__(self, request: Request, parts: Iterator[Any]) -> None:
        self.request = request
        self.parts: Any = parts
        self.value: Any = None

    def next(self) -> Any:
        """Its next part, or its :class:`Last` word; raises as a handler does."""
        value, self.value = self.value, None
        try:
            return next(self.parts) if value is None else self.parts.send(value)
        except StopIteration as stop:
            return Last(stop.value)
