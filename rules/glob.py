"""Globs taken apart: what `*`, `?` and `[...]` of a pattern stand for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    """Just this text."""

    text: str


@dataclass(frozen=True, slots=True)
class AnyRun:
    """`*`: any characters, also none, also `/`."""


@dataclass(frozen=True, slots=True)
class AnyOne:
    """`?`: one character, also `/`."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """`[a-z_]`, `[!a-z]`: one character in (not in) these ranges, both ends included."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False


Piece = Literal | AnyRun | AnyOne | OneOf


def parse(pattern: str) -> tuple[Piece, ...]:
    """The pieces of a glob, as in a shell: `\\\\` takes the next character as it is; `[` without `]` is itself.

    Runs of `*` become one, neighbouring literals too. Raises ValueError for a range that is the wrong way round.
    """
    pieces: list[Piece] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            if not pieces or not isinstance(pieces[-1], AnyRun):
                pieces.append(AnyRun())
            continue
        if character == "?":
            pieces.append(AnyOne())
            continue
        if character == "[" and (end := _class_end(pattern, position)):
            pieces.append(_class(pattern[position:end]))
            position = end + 1
            continue
        if character == "\\" and position < len(pattern):
            character = pattern[position]
            position += 1
        pieces.append(Literal(character))
    return _joined(pieces)


def _joined(pieces: list[Piece]) -> tuple[Piece, ...]:
    joined: list[Piece] = []
    text: list[str] = []
    for piece in [*pieces, None]:
        if isinstance(piece, Literal):
            text.append(piece.text)
            continue
        if text:
            joined.append(Literal("".join(text)))
            text = []
        if piece is not None:
            joined.append(piece)
    return tuple(joined)


def _class_end(pattern: str, start: int) -> int:
    """Where the class that begins at `start` has its `]`; 0 if it has none. A `]` that comes first is a member."""
    position = start + (pattern[start : start + 1] in ("!", "^"))
    position += pattern[position : position + 1] == "]"
    while position < len(pattern) and pattern[position] != "]":
        position += 2 if pattern[position] == "\\" else 1
    return position if position < len(pattern) else 0


def _class(inside: str) -> OneOf:
    negated = inside[0] in "!^"
    members: list[tuple[str, bool]] = []  # each character, and whether a backslash stood before it
    position = 1 if negated else 0
    while position < len(inside):
        escaped = inside[position] == "\\"
        position += escaped
        members.append((inside[position], escaped))
        position += 1
    ranges = []
    index = 0
    while index < len(members):
        low = high = members[index][0]
        if index + 2 < len(members) and members[index + 1] == ("-", False):
            high = members[index + 2][0]
            index += 2
            if low > high:
                raise ValueError(f'"[{low}-{high}]" is a range that goes down; turn it round')
        ranges.append((low, high))
        index += 1
    return OneOf(tuple(ranges), negated)
