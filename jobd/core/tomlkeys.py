"""On which line each key of a TOML text stands: `tomllib` tells lines of syntax errors alone. Pure.

Reads text that tomllib took already, so it need not judge anything; what it does not understand it
passes over, and the worst that follows is a mistake told without its line.
"""

from __future__ import annotations

#: what ends a bare key or a bare value
_BARE_END = frozenset(" \t\r\n=.,]}[{#")


def lines_of_keys(text: str) -> dict[str, int]:
    """Dotted key -> the line (from 1) on which it first stands; tables stand there too.

    Keys of inline tables are found as well. An array of tables is one key, its first line.
    """
    scanner = _Scanner(text)
    try:
        scanner.document()
    except IndexError:
        pass  # it ended where more was expected: what was found is found
    return scanner.lines


def line_of(lines: dict[str, int], path: str) -> int | None:
    """The line of `path`, or of the nearest table around it; None where none is known."""
    while path:
        if path in lines:
            return lines[path]
        path = path.rpartition(".")[0]
    return None


class _Scanner:
    """One pass over the text; `at` is the place that is looked at."""

    def __init__(self, text: str) -> None:
        self.text = text + "\n"
        self.at = 0
        self.lines: dict[str, int] = {}

    def document(self) -> None:
        """Headers and `key = value` lines, to the end."""
        table: tuple[str, ...] = ()
        while self._blank(newlines=True):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._to_line_end()

    def _header(self) -> tuple[str, ...]:
        start = self.at
        while self.text[self.at] == "[":
            self.at += 1
        key = self._key()
        self._note(key, start)
        return key

    def _pair(self, table: tuple[str, ...]) -> None:
        start = self.at
        path = table + self._key()
        self._note(path, start)
        self._blank()
        self.at += 1  # the equals sign
        self._value(path)

    def _key(self) -> tuple[str, ...]:
        parts = []
        while True:
            self._blank()
            parts.append(self._quoted() if self.text[self.at] in "\"'" else self._bare())
            self._blank()
            if self.text[self.at] != ".":
                return tuple(parts)
            self.at += 1

    def _value(self, path: tuple[str, ...]) -> None:
        self._blank()
        char = self.text[self.at]
        if char in "\"'":
            self._quoted()
        elif char == "[":
            self._items("]", path)
        elif char == "{":
            self._items("}", path)
        else:
            while self.text[self.at] not in ",]}\n#":
                self.at += 1

    def _items(self, end: str, path: tuple[str, ...]) -> None:
        self.at += 1
        while self._blank(newlines=True):
            if self.text[self.at] == end:
                self.at += 1
                return
            if self.text[self.at] == ",":
                self.at += 1
            elif end == "}":
                self._pair(path)
            elif self.text[self.at] == "}":
                self.at += 1  # no value, and what tomllib took has none such
            else:
                self._value(path)

    def _quoted(self) -> str:
        """Passes over a string of any of the four kinds; its text, escapes as they are."""
        mark = self.text[self.at]
        triple = self.text.startswith(mark * 3, self.at)
        close = mark * 3 if triple else mark
        self.at += len(close)
        start = self.at
        while not self.text.startswith(close, self.at):
            self.at += 2 if self.text[self.at] == "\\" and mark == '"' else 1
        found = self.text[start : self.at]
        self.at += len(close)
        while triple and self.text[self.at] == mark:  # up to two quotes may stand before the close
            self.at += 1
        return found

    def _bare(self) -> str:
        start = self.at
        while self.text[self.at] not in _BARE_END:
            self.at += 1
        if self.at == start:
            self.at += 1  # nothing of a key: go on, whatever it is
        return self.text[start : self.at]

    def _blank(self, newlines: bool = False) -> bool:
        """Passes over blanks, and with `newlines` over lines' ends and comments; whether more is
        there."""
        text, size = self.text, len(self.text)
        skipped = " \t\r\n" if newlines else " \t"
        while self.at < size:
            if newlines and text[self.at] == "#":
                self._to_line_end()
            elif text[self.at] in skipped:
                self.at += 1
            else:
                return True
        return False

    def _to_line_end(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end

    def _note(self, path: tuple[str, ...], start: int) -> None:
        line = self.text.count("\n", 0, start) + 1
        for depth in range(1, len(path) + 1):  # `a.b = 1` makes the table `a` as well
            self.lines.setdefault(".".join(path[:depth]), line)
