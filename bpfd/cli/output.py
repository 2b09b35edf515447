"""Tables and JSON on standard output. Whatever the text holds, it breaks no line and no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bpfd.event import printable


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as they need be, two spaces apart; an empty cell is a dash, for whoever cuts them by words."""
    lines = [list(header), *([printable(cell) or "-" for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_json(value: Any) -> None:
    """`value` as one line of JSON."""
    import orjson

    print(orjson.dumps(value).decode())


def when(time_ns: int) -> str:
    """A time of the wall clock, in UTC, to the second."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shorten(text: str, most: int) -> str:
    """At most `most` characters; `…` stands for the rest."""
    return text if len(text) <= most else text[: most - 1] + "…"
