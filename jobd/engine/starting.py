"""An attempt's container is made and started once, whatever happened to earlier tries.

Decides by what the engine shows under the attempt's name (DURABILITY, "Failure modes"): a create
that timed out may have succeeded, a name may be reserved while nobody bears it yet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jobd.engine.base import (
    EngineTroubleError,
    ForeignError,
    GoneError,
    Order,
    Progress,
    Started,
)
from jobd.engine.container import Settings, body, check_sources
from jobd.engine.feeding import Feeder, Stream
from jobd.engine.images import Images, check_reference, has_registry
from jobd.engine.refusals import AnswerError, is_hosts_fault, readable, refused
from jobd.engine.stream import parse_time

#: how long a name that nobody bears may stay reserved, in seconds
NAME_PATIENCE_S = 30.0


class Client(Protocol):
    """What is asked of the engine's API here; docker.py has it. All raise AnswerError."""

    def inspect(self, name: str) -> dict[str, Any] | None:
        """All that the engine knows of a container, or None where it knows none."""

    def create(self, name: str, body: Mapping[str, object]) -> str:
        """Make a container and return its id."""

    def start(self, engine_id: str) -> None:
        """Start it; one that runs is left alone."""

    def attach_stdin(self, engine_id: str) -> Stream:
        """A connection to the standard input of a container that has not started."""

    def remove_unstarted(self, engine_id: str) -> None:
        """Remove a container; status 409 where it runs."""


def milliseconds(stamp: str) -> int:
    """The engine's RFC 3339 time as milliseconds UTC; 0 for its "never" (the year 1)."""
    return 0 if stamp.startswith("0001-") else parse_time(stamp.encode()) // 1_000_000


def is_labelled(found: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a container bears all of `labels`."""
    present = found["Config"].get("Labels") or {}
    return all(present.get(key) == value for key, value in labels.items())


class Starter:
    """Starts attempts; at most `in_flight` of its creates and starts are under way at once.

    More than twice the cores only makes each of them slower (facts, 1.7).
    """

    def __init__(
        self,
        client: Client,
        images: Images,
        in_flight: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._images = images
        self._slots = threading.BoundedSemaphore(in_flight)
        self._sleep = sleep

    def start(self, order: Order, settings: Settings, progress: Progress) -> Started:
        """As :meth:`jobd.engine.base.Engine.start`."""
        found = self._find(order)
        pull_ms = 0
        if found is not None and milliseconds(found["State"]["StartedAt"]):
            return _started(found, pull_ms)
        if found is not None and order.stdin is not None:
            # its input may have been attached and let go before, and then reads as empty
            self._remove_unstarted(str(found["Id"]))
            found = None
        if found is None:
            engine_id, pull_ms = self._create(order, settings, progress)
        else:
            engine_id = str(found["Id"])
        self._start(order, engine_id)
        found = self._client.inspect(engine_id)
        if found is None:
            raise GoneError(f"{order.ref}: removed by somebody right after it was started")
        if not milliseconds(found["State"]["StartedAt"]):
            raise EngineTroubleError(f"{order.ref}: started, and the engine does not show it")
        return _started(found, pull_ms)

    def _find(self, order: Order) -> dict[str, Any] | None:
        """What bears the attempt's name. Raises ForeignError where that is not the attempt."""
        found = self._client.inspect(order.ref)
        # an id that begins with the name is found as well
        if found is None or found["Name"].lstrip("/") != order.ref:
            return None
        if not is_labelled(found, order.labels):
            raise ForeignError(
                f"{order.ref}: a container of that name is there and is not this attempt's "
                f"({str(found['Id'])[:12]}); it was not touched; rename or remove it"
            )
        return found

    def _create(self, order: Order, settings: Settings, progress: Progress) -> tuple[str, int]:
        """Make the container; its id, and how long a pull took in milliseconds."""
        check_reference(order.image)
        body(order, order.image, settings)  # what is refused is not pulled either
        image, pull_ms = order.image, 0
        if order.pull == "always" or order.image_id is not None:
            present = self._images.ensure(order.image, order.pull, order.image_id, progress)
            pull_ms = present.pull_ms
            if present.image_id == order.image_id:
                image = present.image_id
        try:
            return self._create_as(order, body(order, image, settings)), pull_ms
        except AnswerError as error:
            if not _is_missing_image(error):
                raise self._judged(order, error, None) from error
        made = self._create_local(order, settings)
        if made is not None:
            return made, pull_ms
        # asked for only when it is needed: most images are there
        policy = "missing" if order.pull == "always" else order.pull
        pull_ms += self._images.ensure(order.image, policy, None, progress).pull_ms
        try:
            return self._create_as(order, body(order, order.image, settings)), pull_ms
        except AnswerError as error:
            raise self._judged(order, error, None) from error

    def _create_local(self, order: Order, settings: Settings) -> str | None:
        """Make the container of an image that was made on this host, where that has a prefix."""
        if not settings.local_prefix or order.pull == "always" or has_registry(order.image):
            return None
        try:
            image = settings.local_prefix + order.image
            return self._create_as(order, body(order, image, settings))
        except AnswerError as error:
            if _is_missing_image(error):
                return None
            raise self._judged(order, error, None) from error

    def _create_as(self, order: Order, settings: Mapping[str, object]) -> str:
        """Make the container under the attempt's name, or take the one that is there by now."""
        patience, delay = NAME_PATIENCE_S, 0.1
        while True:
            try:
                with self._slots:
                    return self._client.create(order.ref, settings)
            except AnswerError as error:
                if error.status != 409:
                    raise
                found = self._find(order)
                if found is not None:
                    return str(found["Id"])
                if patience <= 0:
                    raise EngineTroubleError(
                        f"{order.ref}: the engine says that the name is taken, and shows nobody "
                        f"who bears it: {readable(error.text)}"
                    ) from error
            self._sleep(delay)
            patience -= delay
            delay = min(delay * 2, 3.0)

    def _remove_unstarted(self, engine_id: str) -> None:
        try:
            self._client.remove_unstarted(engine_id)
        except AnswerError as error:
            if error.status != 404:
                raise

    def _start(self, order: Order, engine_id: str) -> None:
        check_sources(order)
        feeder = self._feeder(order, engine_id)
        started = False
        try:
            self._start_now(order, engine_id)
            started = True
        finally:
            if feeder is not None:
                feeder.begin() if started else feeder.give_up()

    def _feeder(self, order: Order, engine_id: str) -> Feeder | None:
        if order.stdin is None:
            return None
        try:
            stream = self._client.attach_stdin(engine_id)
            return Feeder(stream, order.stdin, order.ref)
        except AnswerError as error:
            if error.status == 404:
                raise GoneError(f"{order.ref}: removed by somebody before it was started") from None
            raise
        except OSError as error:
            raise EngineTroubleError(
                f"{order.ref}: its payload cannot be opened: {error.strerror}"
            ) from error

    def _start_now(self, order: Order, engine_id: str) -> None:
        try:
            with self._slots:
                self._client.start(engine_id)
        except AnswerError as error:
            if error.status == 404 and "no such container" in error.text.lower():
                raise GoneError(f"{order.ref}: removed by somebody before it was started") from None
            if error.status == 409:
                # marked for removal, or another start is under way: look again later
                raise
            state = (self._client.inspect(engine_id) or {}).get("State", {})
            raise self._judged(order, error, state.get("ExitCode")) from error

    @staticmethod
    def _judged(order: Order, error: AnswerError, exit_code: int | None) -> Exception:
        if is_hosts_fault(error.status, error.text):
            return EngineTroubleError(f"{order.ref}: not started: {readable(error.text)}")
        return refused(order.ref, error.status, error.text, exit_code)


def _is_missing_image(error: AnswerError) -> bool:
    text = error.text.lower()
    return error.status == 404 and ("no such image" in text or "image not known" in text)


def _started(found: Mapping[str, Any], pull_ms: int) -> Started:
    return Started(
        str(found["Id"]), str(found["Image"]), milliseconds(found["State"]["StartedAt"]), pull_ms
    )
