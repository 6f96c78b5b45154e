"""The folder of one process attempt as jobd sees it: what its shim has written, and what follows.

PROCESS.md tells the files and what each state of them means.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobd.engine.shim.records import NEW, RESERVED, boot_id, decode, encode, process_state, read

_HIDDEN = "."
_TASK_DIR = "task_dir"


@dataclass(frozen=True, slots=True)
class View:
    """One look at an attempt's folder.

    `launches` is the number of the last claim; `shim` its pid where it lives, else None;
    `this_boot`: the kernel has not been started anew since. `begun`: `started` is there, and
    `start` what it says (empty where a power cut took that). `end` is the record of the end.
    """

    launches: int
    shim: int | None
    this_boot: bool
    begun: bool
    start: dict[str, str]
    end: dict[str, str] | None

    @property
    def orphaned(self) -> bool:
        """Whether it had begun, and nobody is there to tell how it ends."""
        return self.begun and self.end is None and self.shim is None


#: of a folder that was made just now
UNTOUCHED = View(0, None, True, False, {}, None)


class AttemptFolder:
    """One attempt's folder below `root`; nothing is touched by making this. For any thread."""

    def __init__(self, root: Path, ref: str) -> None:
        self.ref = ref
        self._root = root
        self.path = root / ref

    def make(self, labels: Mapping[str, str], task_dir: Path) -> bool:
        """See to it that the folder is there; whether it was made just now. Raises OSError."""
        if os.path.isdir(self.path):
            return False
        # of this thread's own: two may make it at once
        building = f"{self._root}/{_HIDDEN}new.{os.getpid()}.{threading.get_native_id()}"
        try:
            os.mkdir(building, 0o700)
        except FileExistsError:
            # a disk was full when it was made before
            shutil.rmtree(building)
            os.mkdir(building, 0o700)
        fields = {**labels, _TASK_DIR: os.fsencode(task_dir).hex()}
        fd = os.open(f"{building}/about", NEW, 0o600)
        try:
            os.write(fd, encode(fields))
        finally:
            os.close(fd)
        try:
            os.rename(building, self.path)
        except OSError:
            # another made it meanwhile, or it cannot be made
            shutil.rmtree(building, ignore_errors=True)
            if not self.path.is_dir():
                raise
            return False
        return True

    def exists(self) -> bool:
        """Whether it is there."""
        return self.path.is_dir()

    def labels(self) -> dict[str, str] | None:
        """The attempt's labels, or None where this is no whole folder of an attempt."""
        about = self._read("about")
        return about and {key: text for key, text in about.items() if key != _TASK_DIR}

    def task_dir(self) -> Path | None:
        """The attempt's TASK_DIR."""
        about = self._read("about") or {}
        return Path(os.fsdecode(bytes.fromhex(about[_TASK_DIR]))) if _TASK_DIR in about else None

    def look(self) -> View:
        """What is known of the attempt now. Raises FileNotFoundError where it is gone."""
        launches, claim = self._last_claim()
        this_boot = claim is None or claim.get("boot") == boot_id()
        shim = _living(claim) if claim is not None and this_boot else None
        # read after the look at the shim: one that has ended had written its record before
        start = self._read("started")
        begun = start is not None or (self.path / "started").exists()
        return View(launches, shim, this_boot, begun, start or {}, self._read("exit"))

    def _last_claim(self) -> tuple[int, dict[str, str] | None]:
        names = os.listdir(self.path)
        numbers = [int(name[6:]) for name in names if name.startswith("claim.")]
        last = max(numbers, default=0)
        return last, self._read(f"claim.{last}") if last else None

    def _read(self, name: str) -> dict[str, str] | None:
        try:
            return decode(read(f"{self.path}/{name}")[:RESERVED])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def close_off(self, launch: int) -> bool:
        """Take claim `launch` for nobody, so that no shim can; False where one has it."""
        fields: dict[str, object] = {"pid": 0, "start": 0, "boot": boot_id()}
        try:
            fd = os.open(self.path / f"claim.{launch}", NEW, 0o600)
        except FileExistsError:
            return False
        try:
            os.write(fd, encode(fields))
        finally:
            os.close(fd)
        return True

    def remove(self) -> None:
        """Remove the folder. Raises OSError."""
        going = f"{self._root}/{_HIDDEN}gone.{self.ref}"
        try:
            # under another name first: half of it must not be taken for an attempt
            os.rename(self.path, going)
        except FileNotFoundError:
            return
        except OSError:
            # a crash left half of an earlier one there, which is no empty folder
            shutil.rmtree(going, ignore_errors=True)
            os.rename(self.path, going)
        for name in os.listdir(going):
            os.unlink(f"{going}/{name}")
        os.rmdir(going)


def folders(root: Path) -> list[AttemptFolder]:
    """The folders of all attempts below `root`. Raises OSError."""
    names = sorted(name for name in os.listdir(root) if not name.startswith(_HIDDEN))
    return [AttemptFolder(root, name) for name in names]


def sweep(root: Path) -> None:
    """Remove what a crash left half made and half removed. Raises OSError."""
    for name in os.listdir(root):
        if name.startswith(_HIDDEN):
            shutil.rmtree(root / name, ignore_errors=True)


def is_same(pid: int, start: str) -> bool:
    """Whether that very process lives; one that has ended and was not waited for does not."""
    try:
        state, began = process_state(pid)
    except OSError:
        return False
    return began == start and state not in ("Z", "X")


def _living(record: dict[str, str]) -> int | None:
    pid = int(record.get("pid", "0"))
    return pid if pid and is_same(pid, record.get("start", "")) else None
