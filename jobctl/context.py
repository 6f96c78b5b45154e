"""A folder as the tar that an image is built from, without what its `.dockerignore` names.

The patterns are those of Docker's own tools: one a line, `#` begins a comment, `*` and `?` stay
within a name, `**` goes over folders, a leading `!` takes a name in again; the last that fits wins.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
from collections.abc import Iterator

from jobd.errors import UsageError

#: bytes of a file that are read at once
_PIECE = 256 * 1024


class Ignored:
    """What a `.dockerignore` leaves out."""

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for line in text.splitlines():
            pattern = line.strip()
            if not pattern or pattern.startswith("#"):
                continue
            takes_in = pattern.startswith("!")
            pattern = pattern.removeprefix("!").strip()
            parts = [part for part in pattern.split("/") if part not in ("", ".")]
            if parts:
                self._rules.append((takes_in, re.compile(_expression(parts))))
        #: whether something below a folder that is left out may be taken in again
        self.takes_in = any(takes_in for takes_in, _ in self._rules)

    def __call__(self, path: str) -> bool:
        """Whether `path` (below the folder, `/` between its parts) is left out."""
        out = False
        for takes_in, expression in self._rules:
            if expression.match(path):
                out = not takes_in
        return out


def _expression(parts: list[str]) -> str:
    """A pattern as a regular expression: it fits a path and all that is below it."""
    made = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            made += ".*" if last else "(?:.*/)?"
        else:
            made += _name(part) + ("" if last else "/")
    return made + r"(?:/.*)?\Z"


def _name(part: str) -> str:
    """One part of a pattern."""
    made, index = "", 0
    while index < len(part):
        char = part[index]
        end = part.find("]", index + 2)
        if char == "*":
            made += ".*" if part[index : index + 2] == "**" else "[^/]*"
            index += part[index : index + 2] == "**"
        elif char == "?":
            made += "[^/]"
        elif char == "[" and end > 0:
            inner = part[index + 1 : end].replace("\\", r"\\")
            made += f"[{inner}]"
            index = end
        elif char == "\\" and index + 1 < len(part):
            index += 1
            made += re.escape(part[index])
        else:
            made += re.escape(char)
        index += 1
    return made


def tar_pieces(folder: str, dockerfile: str) -> Iterator[bytes]:
    """The tar of `folder`, piece by piece, never much of it in memory.

    The Dockerfile and `.dockerignore` are always in it, as a builder wants them. Owners are left
    out; links stay links. Raises UsageError naming what cannot be read.
    """
    if not os.path.isdir(folder):
        raise UsageError(f"--build {folder}: is no folder")
    if not os.path.isfile(os.path.join(folder, dockerfile)):
        raise UsageError(f"--build {folder}: has no {dockerfile}; --file names another")
    always = {os.path.normpath(dockerfile), ".dockerignore"}
    ignored = Ignored(_ignore_file(folder))
    try:
        for path in _walk(folder, "", ignored, always):
            yield from _entry(os.path.join(folder, path), path)
    except (OSError, tarfile.TarError) as error:
        where = getattr(error, "filename", None) or folder
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--build {where}: {reason}") from None
    # two empty blocks are the end of a tar
    yield bytes(2 * tarfile.BLOCKSIZE)


def _ignore_file(folder: str) -> str:
    try:
        with open(os.path.join(folder, ".dockerignore"), encoding="utf-8-sig") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--build {folder}: .dockerignore cannot be read: {error}") from None


def _walk(folder: str, prefix: str, ignored: Ignored, always: set[str]) -> Iterator[str]:
    with os.scandir(os.path.join(folder, prefix)) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{prefix}/{entry.name}" if prefix else entry.name
        out = ignored(path) and path not in always
        if not out:
            yield path
        if not entry.is_dir(follow_symlinks=False):
            continue
        # a folder that is left out is looked into only where something below may be wanted
        if not out or ignored.takes_in or any(name.startswith(path + "/") for name in always):
            yield from _walk(folder, path, ignored, always)


def _entry(source: str, path: str) -> Iterator[bytes]:
    """The header of one file, folder or link, and a file's content."""
    found = os.lstat(source)
    info = tarfile.TarInfo(path)
    info.mode, info.mtime = stat.S_IMODE(found.st_mode), found.st_mtime
    # whose it is here is no business of the image, and changes nothing in its cache: left at 0
    if stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(found.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(source)
    elif not stat.S_ISREG(found.st_mode):
        return  # a socket or a pipe means nothing to a build
    else:
        info.size = found.st_size
    if not info.isreg():
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        return
    with open(source, "rb") as file:
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        left = info.size
        while left:
            piece = file.read(min(left, _PIECE))
            if not piece:
                raise tarfile.TarError(f"{path} became shorter while it was read")
            left -= len(piece)
            yield piece
    yield bytes(-info.size % tarfile.BLOCKSIZE)
