"""The images of an engine: built, tagged, removed. What attempts need of them is in images.py.

Every name is given back as the engine writes it; nothing is ever removed by force.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from jobd.engine.base import EngineError, EngineUnreachableError
from jobd.engine.images import Images
from jobd.engine.refusals import AnswerError, is_hosts_fault, readable

#: what builders say of a step that failed, and of a Dockerfile that cannot be built
_OWN = re.compile(
    r"returned a non-zero code|did not complete successfully|dockerfile|unknown instruction"
    r"|(?:copy|add) failed|forbidden path|build stage|target stage|denied|not found",
    re.IGNORECASE,
)
#: trouble on the way to the registry of an image that is built upon
_REGISTRY = re.compile(
    r"dial tcp|no such host|i/o timeout|toomanyrequests|connection refused", re.IGNORECASE
)


class BuildFailedError(EngineError):
    """The image was not built, by what it is built from: the message is the engine's last word."""


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """What an image is built from. `network` is the engine's word, None its default."""

    #: a tar of the context
    context: Path
    #: `<repository>`; the tag is the image's id
    repository: str
    dockerfile: str = "Dockerfile"
    args: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """An image that was built, by its name (`jobd/hello:3f2a91c0d4e5`) and its whole id."""

    name: str
    image_id: str


class Client(Protocol):
    """What is asked of the engine's API here; docker.py has it. All raise AnswerError."""

    def image_id(self, reference: str) -> str | None:
        """The id of the image, or None where the engine has none of that name."""

    def image_details(self, reference: str) -> tuple[int, list[str]] | None:
        """Its size in bytes and its tags, or None."""

    def build(
        self, context: BinaryIO, settings: Mapping[str, Any]
    ) -> Iterator[Mapping[str, object]]:
        """The messages of a build, as they come."""

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        """Give an image a further name."""

    def remove_image(self, name: str) -> None:
        """Take the name away, and the image with its last one; status 409 where it is in use."""

    def used_images(self) -> set[str]:
        """The ids of the images that any container has, whoever made it, running or not."""


class ImageStore:
    """The images of one engine. For all threads; every call may raise EngineUnreachableError."""

    def __init__(self, client: Client, images: Images) -> None:
        self._client = client
        self._images = images

    def on_pull(self, call: Callable[[str, str, str | None], None]) -> None:
        """Have `call(reference, id, id before)` made whenever a pull has brought something."""
        self._images.pulls.on_pull = call

    def build(self, order: BuildOrder, out: Callable[[str], None]) -> Built:
        """Build an image; its output goes to `out` as it comes. Raises BuildFailedError."""
        try:
            image_id = self._build(order, out)
        except AnswerError as error:
            raise _failed(error.text, error.status) from error
        tag = image_id.removeprefix("sha256:")[:12]
        self._client.tag(image_id, order.repository, tag)
        return Built(f"{order.repository}:{tag}", image_id)

    def _build(self, order: BuildOrder, out: Callable[[str], None]) -> str:
        settings: dict[str, Any] = {
            "dockerfile": order.dockerfile,
            "buildargs": dict(order.args),
            "network_mode": order.network,
            "target": order.target,
        }
        image_id = None
        fd = os.open(order.context, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as context:
            for message in self._client.build(context, settings):
                if "error" in message:
                    raise _failed(str(message["error"]), 200)
                aux = message.get("aux")
                if isinstance(aux, dict) and isinstance(aux.get("ID"), str):
                    image_id = str(aux["ID"])
                text = shown(message)
                if text:
                    out(text)
        if image_id is None:
            raise BuildFailedError("the engine ended the build without an image")
        return image_id

    def image_id(self, reference: str) -> str | None:
        """The id of an image on the host, or None."""
        return self._client.image_id(reference)

    def size(self, reference: str) -> int | None:
        """Its size in bytes, shared layers included, or None."""
        found = self._client.image_details(reference)
        return found[0] if found is not None else None

    def tags(self, reference: str) -> list[str]:
        """Its names."""
        found = self._client.image_details(reference)
        return found[1] if found is not None else []

    def used(self) -> set[str]:
        """The ids of the images that any container has, whoever made it."""
        return self._client.used_images()

    def remove(self, name: str) -> bool:
        """Take a name away, and the image with its last one; False where somebody uses it."""
        try:
            self._client.remove_image(name)
        except AnswerError as error:
            if error.status == 404:
                return True
            if error.status == 409:
                return False
            raise
        return True


def shown(message: Mapping[str, object]) -> str:
    """What a person sees of one message of a build; the progress of single layers is not shown."""
    stream = message.get("stream")
    if isinstance(stream, str):
        return stream
    status = message.get("status")
    if not isinstance(status, str) or message.get("progressDetail"):
        return ""
    layer = message.get("id")
    return f"{layer}: {status}\n" if isinstance(layer, str) else f"{status}\n"


def repository_of(job: str) -> str:
    """The name under which images of a job are kept: `jobd/<job>`, in the engine's grammar."""
    words = re.split(r"[._-]+", job.lower())
    return "jobd/" + "-".join(word for word in words if word)


def _failed(text: str, status: int) -> EngineError:
    """A build's failure: its own, or trouble of the host or on the way to a registry."""
    if not _OWN.search(text) and (_REGISTRY.search(text) or is_hosts_fault(status, text)):
        return EngineUnreachableError(f"build: {readable(text)}")
    return BuildFailedError(readable(text))
