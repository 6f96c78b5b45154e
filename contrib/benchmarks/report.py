"""The tables: printed as they are made, and written to a file."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Report:
    """What was measured, as lines of text and as values."""

    def __init__(self, quick: bool) -> None:
        self.values: dict[str, Any] = {"quick": quick, "machine": machine(), "lines": {}}
        self._text: list[str] = []
        self._name = time.strftime("bench-%Y-%m-%dT%H%M%S")
        self.say("jobd's bench, " + time.strftime("%Y-%m-%d %H:%M"))
        self.say(", ".join(f"{key} {value}" for key, value in self.values["machine"].items()))

    def say(self, text: str = "") -> None:
        """Print a line, and keep it."""
        print(text, flush=True)
        self._text.append(text)

    def begin(self, title: str) -> None:
        """Begin a table; the load tells how quiet the machine is."""
        load = " ".join(f"{each:.1f}" for each in os.getloadavg())
        self.say()
        self.say(f"== {title}  (load {load})")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print a table: the first column to the left, numbers to the right."""
        cells = [list(head), *([shown(cell) for cell in row] for row in rows)]
        widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
        for row in cells:
            first, *rest = row
            line = first.ljust(widths[0])
            for cell, width in zip(rest, widths[1:], strict=True):
                line += "  " + cell.rjust(width)
            self.say(line.rstrip())

    def keep(self, name: str, value: Any) -> None:
        """Keep values for the JSON file."""
        self.values["lines"][name] = value

    def write(self, folder: Path) -> Path:
        """Write bench-DATE.txt and .json; the path of the first."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / self._name
        stem.with_suffix(".json").write_text(json.dumps(self.values, indent=1) + "\n")
        text = stem.with_suffix(".txt")
        text.write_text("\n".join(self._text) + "\n")
        return text


def shown(value: Any) -> str:
    """A cell."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def ratio(above: float | None, below: float | None) -> float | None:
    """One by the other."""
    return above / below if above is not None and below else None


def machine() -> dict[str, Any]:
    """What it was measured on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) >> 20
    return {
        "cpus": os.cpu_count(), "cpu": model, "memory_gib": memory,
        "kernel": platform.release(), "python": platform.python_version(),
    }  # fmt: skip
