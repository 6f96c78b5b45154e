"""What the shim writes for others to read, and who a process is. For both sides."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing itself costs a millisecond of every start
if TYPE_CHECKING:
    from collections.abc import Mapping

#: for a file that must not be there yet
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
#: for one that may be left of an earlier try
AGAIN = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def process_state(pid: int) -> tuple[str, str]:
    """`(state letter, start in the kernel's ticks)`; the start tells a process from a later one
    with the same number. Raises OSError where there is none."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return fields[0].decode(), fields[19].decode()


def boot_id() -> str:
    """Which start of the kernel this is."""
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        return file.read().strip()


def encode(fields: Mapping[str, object]) -> bytes:
    """Fields as lines of `key value`; whole where the last one is `end`."""
    lines = [f"{key} {' '.join(str(value).split())}\n" for key, value in fields.items()]
    return "".join([*lines, "end\n"]).encode("utf-8", "replace")


def decode(data: bytes) -> dict[str, str] | None:
    """The fields, or None where they are not all there."""
    lines = data.rstrip(b"\0").decode("utf-8", "replace").split("\n")
    if lines[-2:] != ["end", ""]:
        return None
    return dict(line.partition(" ")[::2] for line in lines[:-2])
