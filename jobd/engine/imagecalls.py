"""The engine's calls for images, but for pulls and builds: a part of docker.Api."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from jobd.engine.refusals import AnswerError


class ImageCalls:
    """Calls by a client that :meth:`_client` gives. All raise AnswerError."""

    _start_s: float

    def _client(self, about: str, timeout_s: float | None = None) -> AbstractContextManager[Any]:
        """A client of the SDK for one call; all that it raises is translated."""
        raise NotImplementedError

    def image_id(self, reference: str) -> str | None:
        """The id of an image on the host, or None."""
        try:
            with self._client(f"image {reference}") as client:
                return str(client.inspect_image(reference)["Id"])
        except AnswerError as error:
            if error.status == 404:
                return None
            raise

    def image_details(self, reference: str) -> tuple[int, list[str]] | None:
        """The size of an image on the host in bytes, and its tags; or None."""
        try:
            with self._client(f"image {reference}") as client:
                found = client.inspect_image(reference)
                return int(found["Size"]), list(found.get("RepoTags") or ())
        except AnswerError as error:
            if error.status == 404:
                return None
            raise

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        """Give an image a further name."""
        with self._client(f"image {image_id}") as client:
            client.tag(image_id, repository, tag)

    def remove_image(self, name: str) -> None:
        """Take a name away, and the image with its last one; status 409 where it is in use."""
        with self._client(f"image {name}", self._start_s) as client:
            client.remove_image(name)

    def load_image(self, archive: bytes, repository: str, tag: str) -> None:
        """Make an image of a tar with its files."""
        with self._client(f"image {repository}", self._start_s) as client:
            client.import_image_from_data(archive, repository, tag)

    def used_images(self) -> set[str]:
        """The ids of the images of all containers."""
        with self._client("containers") as client:
            return {str(row["ImageID"]) for row in client.containers(all=True)}
