"""Events as they are printed: a table for people, CSV for spreadsheets, JSON for programs."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from bpfd import format
from bpfd.event import NOT_FOUND, Event, printable
from bpfd.plugin import Field
from bpfd.rules import fields as own_fields

SHORT = 64
"""A field that keeps more bytes than this stands behind the others of its table: it would push them about."""
WIDEST = 32
"""Columns grow with what is in them, up to this; longer text is not cut, it moves the rest of its line."""
CSV_OWN = (
    "time",
    "command",
    "pid",
    "tid",
    "nsPid",
    "ppid",
    "uid",
    "user",
    "gid",
    "parent",
    "returnValue",
    "containerID",
    "containerRuntime",
    "containerName",
    "containerImage",
)
"""The fields of every event that a line of CSV begins with."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV Injection)."""
_NUMBER = re.compile(r"-?[0-9]{1,20}")


class Form(Protocol):
    """Prints events. One thread."""

    def head(self) -> str:
        """What comes before the first event: whole lines, or nothing."""

    def line(self, event: Event) -> str:
        """The event's line, with its newline; before it, what must precede it."""


class JsonLines:
    """The event's JSON, as everywhere."""

    def head(self) -> str:
        return ""

    def line(self, event: Event) -> str:
        return event.to_json().decode() + "\n"


class Csv:
    """A line for each event, whatever it holds: control characters are escaped, and no cell is a formula."""

    def __init__(self, fields: Iterable[Field]) -> None:
        self._tracers = [field.name for field in fields if field.name not in CSV_OWN]

    def head(self) -> str:
        return self._line([*CSV_OWN, *self._tracers])

    def line(self, event: Event) -> str:
        own = (own_fields.value(event, name) or "" for name in CSV_OWN)
        tracers = (event.data.get(name, "") for name in self._tracers)
        return self._line([_harmless(text) for text in (*own, *tracers)])

    def _line(self, cells: list[str]) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow(cells)
        return out.getvalue()


def _harmless(text: str) -> str:
    """A cell that no spreadsheet runs: what looks like a formula and is no number gets an apostrophe before it."""
    safe = printable(text)
    return f"'{safe}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else safe


@dataclass(slots=True)
class Column:
    name: str
    width: int
    text: Callable[[Event], str]


class Table:
    """Aligned columns under the names that rules use. On a terminal the header comes again with each screen."""

    def __init__(self, fields: tuple[Field, ...], screen_lines: int = 0) -> None:
        """`screen_lines`: how many a screen has; 0: no screen, one header."""
        self._again_after = max(screen_lines - 1, 1) if screen_lines else 0
        self._since_header = 0
        ordered = sorted(fields, key=lambda field: field.is_string and field.length > SHORT)
        self._columns = [
            Column("time", 12, lambda event: format.clock(event.time)[11:]),
            Column("command", 15, lambda event: event.command),
            Column("pid", 7, lambda event: str(event.pid)),
            Column("container", 12, _where),
            Column("returned", 8, lambda event: format.returned(event.return_value)),
            *(_column(field) for field in ordered),
        ]

    def head(self) -> str:
        return self._line([column.name for column in self._columns])

    def line(self, event: Event) -> str:
        row = self._line([_cell(column.text(event)) for column in self._columns])
        self._since_header += 1
        if self._again_after and self._since_header > self._again_after:
            self._since_header = 1
            return self.head() + row
        return row

    def _line(self, cells: list[str]) -> str:
        padded = []
        for column, cell in zip(self._columns, cells, strict=True):
            wide = _width(cell)
            column.width = max(column.width, min(wide, WIDEST))
            padded.append(cell + " " * (column.width - wide))
        return "  ".join(padded).rstrip() + "\n"


def _column(field: Field) -> Column:
    name = field.name
    usual = min(len(field.example), WIDEST // 2)
    return Column(name, max(len(name), usual), lambda event: event.data.get(name, ""))


def _where(event: Event) -> str:
    """The container's name, its short id as long as that is not known, or nothing on the host."""
    container = event.container
    return "" if container.runtime == NOT_FOUND else container.name or container.id[:12]


def _cell(text: str) -> str:
    """`text` as a cell that can't be taken for two, or for an empty one."""
    if not text:
        return "-"
    safe = printable(text)
    return '"' + safe.replace('"', '\\"') + '"' if " " in safe or safe[0] == '"' or safe == "-" else safe


def _width(text: str) -> int:
    """How many places `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
