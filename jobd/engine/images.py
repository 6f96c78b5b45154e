"""An attempt's image is on the host before its container is made, by the job's pull policy.

One pull for all who wait for the same reference, with its progress in one short line.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from jobd.engine.base import (
    EngineError,
    Progress,
    PullFailedError,
    StartRefusedError,
)
from jobd.engine.refusals import AnswerError, readable

#: seconds between two lines of progress: at most five a second
PROGRESS_S = 0.2
#: the engine's grammar; one that asked for more would be told 400 at each try
_REFERENCE = re.compile(
    r"(?:(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{32,})?"
)
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
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


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name, taken apart as Docker does. `tag` or `digest` is always there."""

    repository: str
    tag: str | None
    digest: str | None

    @property
    def version(self) -> str:
        """What the engine's `tag` parameter takes: a digest is as good as a tag there."""
        return self.digest or self.tag or "latest"


def parse_reference(text: str) -> Reference:
    """`registry:port/name:tag@digest` in its parts; without tag and digest it is `latest`."""
    rest, _, digest = text.partition("@")
    # a colon before the last slash is a port
    slash = rest.rfind("/")
    name, colon, tag = rest[slash + 1 :].partition(":")
    repository = rest[: slash + 1] + name if colon else rest
    if not tag and not digest:
        tag = "latest"
    return Reference(repository, tag or None, digest or None)


def check_reference(text: str) -> None:
    """Raise StartRefusedError where the engine would not take `text` for an image's name or id."""
    if len(text) > 512 or not _REFERENCE.fullmatch(text):
        raise StartRefusedError(
            f"image {text!r}: not an image's name; write [registry/]name[:tag][@digest] in "
            "lower case"
        )


def is_image_id(text: str) -> bool:
    """Whether `text` names an image by its content: such a one cannot be pulled."""
    return _IMAGE_ID.fullmatch(text) is not None


class Client(Protocol):
    """What is asked of the engine's API here; docker.py has it. Both raise AnswerError."""

    def image_id(self, reference: str) -> str | None:
        """The id of the image, or None where the engine has none of that name."""

    def pull(self, repository: str, version: str) -> Iterator[Mapping[str, object]]:
        """The messages of a pull, as they come."""


@dataclass(frozen=True, slots=True)
class Present:
    """An image that is on the host; `pull_ms` tells how long the pull took, 0 without one."""

    image_id: str
    pull_ms: int = 0


class Images:
    """Sees to it that images are there. For all threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        #: called with the reference, the id, and the id that the reference had before
        self.on_pull: Callable[[str, str, str | None], None] = lambda name, new, old: None
        self._lock = threading.Lock()
        self._pulls: dict[str, _Pull] = {}

    def ensure(self, reference: str, policy: str, pin: str | None, progress: Progress) -> Present:
        """The image of `reference` by `policy` (`missing`, `always`, `never`), on the host.

        `pin` is the id that an earlier attempt of the same run used; it is taken where it is
        still there. Raises StartRefusedError (unknown, denied, absent under `never`) and
        PullFailedError.
        """
        check_reference(reference)
        if pin is not None and (found := self._client.image_id(pin)) is not None:
            return Present(found)
        if policy != "always" or is_image_id(reference):
            found = self._client.image_id(reference)
            if found is not None:
                return Present(found)
        if is_image_id(reference):
            raise StartRefusedError(
                f"image {reference}: not on this host, and an image cannot be pulled by its id; "
                "name it by repository and tag or digest"
            )
        if policy == "never":
            raise StartRefusedError(
                f'image {reference}: not on this host, and the job says pull = "never"; '
                "load it, or change pull"
            )
        return self._pull(reference, progress)

    def _pull(self, reference: str, progress: Progress) -> Present:
        with self._lock:
            pull = self._pulls.get(reference)
            leads = pull is None
            if pull is None:
                pull = self._pulls[reference] = _Pull(reference)
        if not leads:
            return pull.wait(progress)
        try:
            present = self._pull_first(pull, progress)
        except EngineError as error:
            pull.fail(error)
            raise
        except BaseException:
            # a bug, or this thread is told to end: those who wait must not wait for ever
            pull.fail(PullFailedError(f"image {reference}: the pull was given up; try again"))
            raise
        else:
            pull.finish(present)
            return present
        finally:
            with self._lock:
                del self._pulls[reference]

    def _pull_first(self, pull: _Pull, progress: Progress) -> Present:
        began = time.monotonic()
        parts = parse_reference(pull.reference)
        told, told_at = "", 0.0
        progress(pull.text)
        try:
            before = self._client.image_id(pull.reference)
            for message in self._client.pull(parts.repository, parts.version):
                if "error" in message:
                    raise pull_error(pull.reference, 200, str(message["error"]))
                pull.note(message)
                now = time.monotonic()
                if pull.text != told and now - told_at >= PROGRESS_S:
                    told, told_at = pull.text, now
                    progress(told)
            found = self._client.image_id(pull.reference)
        except AnswerError as error:
            raise pull_error(pull.reference, error.status, error.text) from error
        if found is None:
            raise PullFailedError(
                f"image {pull.reference}: pulled, and the engine does not have it; try again"
            )
        if found != before:
            self.on_pull(pull.reference, found, before)
        return Present(found, round((time.monotonic() - began) * 1000))


class _Pull:
    """A pull under way: one thread drives it, others wait for it and show what it says."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.text = f"pulling {reference}"
        self._layers: dict[str, tuple[bool, int, int]] = {}
        self._over = threading.Event()
        self._present: Present | None = None
        self._error: EngineError | None = None

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
        self._present = present
        self._over.set()

    def fail(self, error: EngineError) -> None:
        self._error = error
        self._over.set()

    def wait(self, progress: Progress) -> Present:
        """What the thread that drives it found, with its progress shown on the way."""
        began, told = time.monotonic(), ""
        while True:
            if self.text != told:
                told = self.text
                progress(told)
            if self._over.wait(PROGRESS_S):
                break
        if self._error is not None:
            # an error of its own for each thread: a shared one would collect their tracebacks
            refused = isinstance(self._error, StartRefusedError)
            kind = StartRefusedError if refused else PullFailedError
            raise kind(str(self._error)) from self._error
        assert self._present is not None
        return Present(self._present.image_id, round((time.monotonic() - began) * 1000))


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
