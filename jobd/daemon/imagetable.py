"""Which images jobd itself has pulled, and when they were last used: a table in the state folder.

It is what image collection may remove from, so it errs towards less: a table that is lost or
damaged is begun anew, and what it does not name is never touched.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path

_log = logging.getLogger(__name__)

#: more names than any host has; what is beyond is a damaged file
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Pulled:
    """A name that jobd pulled, with the image it then had. Times are seconds UTC.

    `name` is the id itself where the name has gone to a newer image since.
    """

    name: str
    image_id: str
    pulled_at: float
    used_at: float


class ImageTable:
    """The table, in memory and in `path`. For all threads; writing it never raises."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._unsaved = False
        self._rows = {row.name: row for row in _load(path)}

    def rows(self) -> list[Pulled]:
        """All of it, what was used least recently first."""
        with self._lock:
            return sorted(self._rows.values(), key=lambda row: (row.used_at, row.name))

    def pulled(self, name: str, image_id: str, before: str | None, now: float) -> None:
        """A pull by jobd gave `name` the image; `before` is what it had, or None."""
        with self._lock:
            old = self._rows.get(name)
            if old is not None and old.image_id == before != image_id:
                # that image is nameless now, and still jobd's to remove
                self._rows[old.image_id] = replace(old, name=old.image_id)
            self._rows[name] = Pulled(name, image_id, now, now)
        self._unsaved = True
        self.save()

    def used(self, image_id: str, now: float) -> None:
        """An attempt uses the image. Written with the next :meth:`save`."""
        with self._lock:
            for name, row in self._rows.items():
                if row.image_id == image_id and row.used_at < now:
                    self._rows[name] = replace(row, used_at=now)
                    self._unsaved = True

    def forget(self, name: str) -> None:
        """The name is gone, or is no more what jobd pulled."""
        with self._lock:
            self._unsaved |= self._rows.pop(name, None) is not None

    def save(self) -> None:
        """Write the table where it has changed: whole and synced, or not at all."""
        with self._lock:
            if not self._unsaved:
                return
            text = json.dumps({"version": 1, "images": [asdict(r) for r in self._rows.values()]})
            building = self._path.with_name(f".{self._path.name}.new")
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                with open(os.open(building, flags, 0o600), "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(building, self._path)
            except OSError as error:
                _log.warning("images: %s: not written: %s", self._path, error.strerror)
                return
            self._unsaved = False


def _load(path: Path) -> list[Pulled]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = found["images"]
        if found["version"] != 1 or len(rows) > _MOST:
            raise ValueError("not a table of this version")
        return [_row(row) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("images: %s: begun anew, as it cannot be read: %s", path, error)
        return []


def _row(row: dict[str, object]) -> Pulled:
    texts = [row["name"], row["image_id"]]
    times = [row["pulled_at"], row["used_at"]]
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError("a name that is no text")
    if not all(isinstance(time, int | float) for time in times):
        raise ValueError("a time that is no number")
    return Pulled(*texts, *times)  # type: ignore[arg-type]
