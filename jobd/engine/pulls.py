"""A pull has a thread of its own: many may wait for it, and each can stop waiting at any time.

So cancelling a run does not take as long as its registry, and what nobody waits for any more is
given up at the engine as well.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from jobd.engine.base import (
    EngineError,
    EngineUnreachableError,
    Progress,
    PullFailedError,
    StartRefusedError,
)
from jobd.engine.refusals import AnswerError, readable

#: seconds between two lines of progress: at most five a second
PROGRESS_S = 0.2
#: the registry's word on the image itself; all else is trouble on the way to it
_UNKNOWN = re.compile(
    r"not found|manifest unknown|no such image|repository does not exist|name unknown"
    r"|no matching manifest|invalid reference|does not match the specified platform",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"denied|unauthorized|no basic auth credentials|authentication required|forbidden",
    re.IGNORECASE,
)
_BUSY = re.compile(r"toomanyrequests|rate limit|no such host|dial tcp|i/o timeout", re.IGNORECASE)


class Client(Protocol):
    """What is asked of the engine's API here; docker.py has it. Both raise AnswerError."""

    def image_id(self, reference: str) -> str | None:
        """The id of the image, or None where the engine has none of that name."""

    def pull(self, repository: str, version: str) -> Generator[Mapping[str, object], None, None]:
        """The messages of a pull, as they come."""


@dataclass(frozen=True, slots=True)
class Present:
    """An image that is on the host; `pull_ms` tells how long the pull took, 0 without one."""

    image_id: str
    pull_ms: int = 0


class Pulls:
    """The pulls under way, one for each reference. For all threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        #: called with the reference, the id, and the id that the reference had before
        self.on_pull: Callable[[str, str, str | None], None] = lambda name, new, old: None
        self._lock = threading.Lock()
        self._under_way: dict[str, _Pull] = {}

    def pull(self, reference: str, repository: str, version: str, progress: Progress) -> Present:
        """Pull an image, or wait for the pull of it that is under way.

        What `progress` raises ends the waiting. Raises StartRefusedError, PullFailedError and
        EngineUnreachableError.
        """
        with self._lock:
            pull = self._under_way.get(reference) or _Pull(reference)
            pull.waiters += 1
            if reference not in self._under_way:
                self._under_way[reference] = pull
                threading.Thread(
                    target=self._drive,
                    args=(pull, repository, version),
                    name=f"pull {reference}"[:60],
                    daemon=True,
                ).start()
        try:
            return pull.wait(progress)
        finally:
            with self._lock:
                pull.waiters -= 1
                if not pull.waiters:
                    # who asks for it from now on begins anew: this one may be given up already
                    self._drop(pull)

    def _drop(self, pull: _Pull) -> None:
        if self._under_way.get(pull.reference) is pull:
            del self._under_way[pull.reference]

    def _drive(self, pull: _Pull, repository: str, version: str) -> None:
        """The body of the pull's thread: whatever happens, those who wait hear of it."""
        try:
            pull.finish(self._pull(pull, repository, version))
        except AnswerError as error:
            pull.fail(pull_error(pull.reference, error.status, error.text))
        except EngineError as error:
            pull.fail(error)
        finally:
            # a bug: whoever waits dies of it, and the daemon with them
            pull.fail(RuntimeError(f"image {pull.reference}: the pull's thread died"))
            with self._lock:
                self._drop(pull)

    def _pull(self, pull: _Pull, repository: str, version: str) -> Present:
        began = time.monotonic()
        before = self._client.image_id(pull.reference)
        with closing(self._client.pull(repository, version)) as messages:
            for message in messages:
                if "error" in message:
                    raise pull_error(pull.reference, 200, str(message["error"]))
                if not pull.waiters:
                    raise PullFailedError(f"image {pull.reference}: given up, nobody waits for it")
                pull.note(message)
        found = self._client.image_id(pull.reference)
        if found is None:
            raise PullFailedError(
                f"image {pull.reference}: pulled, and the engine does not have it; try again"
            )
        if found != before:
            self.on_pull(pull.reference, found, before)
        return Present(found, round((time.monotonic() - began) * 1000))


class _Pull:
    """A pull under way: its thread tells it what happens, others wait for it and show that."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.text = f"pulling {reference}"
        #: how many wait for it; changed under the lock of Pulls
        self.waiters = 0
        self._layers: dict[str, tuple[bool, int, int]] = {}
        self._over = threading.Event()
        self._present: Present | None = None
        self._error: Exception | None = None

    def note(self, message: Mapping[str, object]) -> None:
        """Take in one message of the engine and renew the line."""
        layer, status = message.get("id"), message.get("status")
        if not isinstance(layer, str) or not isinstance(status, str):
            return
        detail = message.get("progressDetail")
        done, have, size = self._layers.get(layer, (False, 0, 0))
        if status in ("Pull complete", "Already exists"):
            done, have = True, size
        elif status in ("Download complete", "Verifying Checksum"):
            have = size
        elif status == "Downloading" and isinstance(detail, dict):
            have, size = _count(detail.get("current")), _count(detail.get("total"))
        elif layer not in self._layers and status not in ("Pulling fs layer", "Waiting"):
            # "Pulling from library/busybox" bears the tag where layers have their id
            return
        self._layers[layer] = (done, have, size)
        layers = self._layers.values()
        total = sum(size for _, _, size in layers)
        amount = f", {_megabytes(sum(have for _, have, _ in layers))} of {_megabytes(total)}"
        self.text = (
            f"pulling {self.reference}: {sum(done for done, _, _ in layers)} of "
            f"{len(layers)} layers{amount if total else ''}"
        )

    def finish(self, present: Present) -> None:
        """It is done."""
        self._present = present
        self._over.set()

    def fail(self, error: Exception) -> None:
        """It is over, and the image is not here; nothing new where it was over before."""
        if not self._over.is_set():
            self._error = error
            self._over.set()

    def wait(self, progress: Progress) -> Present:
        """What came of it, with its progress told on the way, five times a second."""
        began = time.monotonic()
        while True:
            progress(self.text)
            if self._over.wait(PROGRESS_S):
                break
        if self._error is not None:
            raise _own(self._error) from self._error
        assert self._present is not None
        return Present(self._present.image_id, round((time.monotonic() - began) * 1000))


def _own(error: Exception) -> Exception:
    """An error of its own for each thread: a shared one would collect their tracebacks."""
    for kind in (StartRefusedError, PullFailedError, EngineUnreachableError):
        if isinstance(error, kind):
            return kind(str(error))
    return RuntimeError(str(error))


def pull_error(reference: str, status: int, text: str) -> EngineError:
    """What a failed pull means; registries' trouble and wrong credentials are both a 500 [facts].

    A StartRefusedError where trying again cannot help, else a PullFailedError.
    """
    cause = readable(text)
    if _BUSY.search(text):
        return PullFailedError(f"image {reference}: the pull failed: {cause}; it is tried again")
    if _DENIED.search(text):
        # Docker Hub says "denied" of what does not exist, so both remedies are named
        return StartRefusedError(
            f"image {reference}: the registry refuses it: {cause}; "
            "check the name, and the credentials in docker_config"
        )
    if status in (400, 404) or _UNKNOWN.search(text):
        return StartRefusedError(
            f"image {reference}: no such image: {cause}; check the name and the tag"
        )
    return PullFailedError(f"image {reference}: the pull failed: {cause}; it is tried again")


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB"
