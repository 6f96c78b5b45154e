"""An attempt's image is on the host before its container is made, by the job's pull policy."""

from __future__ import annotations

import re
from dataclasses import dataclass

from jobd.engine.base import Progress, StartRefusedError
from jobd.engine.pulls import Client, Present, Pulls

#: the engine's grammar; one that asked for more would be told 400 at each try
_REFERENCE = re.compile(
    r"(?:(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{32,})?"
)
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


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


def has_registry(text: str) -> bool:
    """Whether the name begins with a registry, as `localhost/x` and `ghcr.io/x` do."""
    first, slash, _ = text.partition("/")
    return bool(slash) and (first == "localhost" or "." in first or ":" in first)


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


class Images:
    """Sees to it that images are there. For all threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.pulls = Pulls(client)

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
        parts = parse_reference(reference)
        return self.pulls.pull(reference, parts.repository, parts.version, progress)
