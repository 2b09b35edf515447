"""A rule's message: text with `{field}` places, filled from the event."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from bpfd.event import Event, printable
from bpfd.plugin import Field
from bpfd.rules import fields
from bpfd.rules.nearest import hint, quoted

LONGEST = 4096
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")


def problem(text: str, known: Mapping[str, Field] | None) -> str:
    """What is wrong with `text` as a message: `what; what to do`; empty: nothing. No `known`: fields aren't checked."""
    if len(text) > LONGEST:
        return f"has more than {LONGEST} characters; shorten it"
    for piece in _PIECE.finditer(text):
        name = piece[1]
        if name is None:
            if piece.group() in ("{", "}"):
                return f'has a lone "{piece.group()}"; write it twice to show it'
        elif known is not None and fields.find(name, known) is None:
            return f"there is no field {quoted(name)}; {hint(name, known, 'fields')}"
    return ""


def compile(text: str) -> Callable[[Event], str]:
    """What makes an event's message, in one printable line; a field that the event lacks is empty. Any thread."""
    pieces: list[str | Callable[[Event], str | None]] = []
    for piece in _PIECE.finditer(text):
        if piece[1] is not None:
            pieces.append(_reader(piece[1]))
        else:
            pieces.append({"{{": "{", "}}": "}"}.get(piece.group(), piece.group()))

    def message(event: Event) -> str:
        return printable("".join(part if isinstance(part, str) else part(event) or "" for part in pieces))

    return message


def _reader(name: str) -> Callable[[Event], str | None]:
    return lambda event: fields.value(event, name)
