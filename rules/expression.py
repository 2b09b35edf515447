"""What a pattern is made of, whichever way it was written: sets of characters, one after the other, or, repeated.

A character is a code point. A byte of a text that is not UTF-8 is one too, as Python decodes it: U+DC80 to U+DCFF.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bpfd.rules import glob

MOST_CHARACTER = 0x10FFFF
Ranges = tuple[tuple[int, int], ...]
"""Code points, both ends included; sorted, with gaps between."""
ANY: Ranges = ((0, MOST_CHARACTER),)
_UPPER, _LOWER = (ord("A"), ord("Z")), (ord("a"), ord("z"))
_CASE = ord("a") - ord("A")


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set; of an empty one: nothing matches."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other; no parts: the empty text."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of them."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`least` to `most` times; no `most`: without end."""

    part: Expression
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Begin:
    """Where the text begins."""


@dataclass(frozen=True, slots=True)
class End:
    """Where the text ends."""


Expression = Chars | Sequence | Either | Repeat | Begin | End


class Unsupported(ValueError):
    """A pattern is none that an automaton is made of; the text says what is in the way."""


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Any ranges, sorted and with gaps between."""
    result: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(high, result[-1][1]))
        else:
            result.append((low, high))
    return tuple(result)


def complement(ranges: Ranges) -> Ranges:
    """All other characters."""
    left, low = [], 0
    for begin, end in ranges:
        if low < begin:
            left.append((low, begin - 1))
        low = end + 1
    if low <= MOST_CHARACTER:
        left.append((low, MOST_CHARACTER))
    return tuple(left)


def overlap(ranges: Iterable[tuple[int, int]], within: tuple[int, int]) -> list[tuple[int, int]]:
    """The parts of `ranges` that lie `within`."""
    low, high = within
    return [(max(a, low), min(b, high)) for a, b in ranges if a <= high and b >= low]


def of_glob(pattern: str, ignore_case: bool = False) -> Expression:
    """A glob in the dialect of `bpfd.rules.glob`; it judges the whole text. Raises ValueError as that does."""
    pieces = glob.parse(_folded(pattern) if ignore_case else pattern)
    parts: list[Expression] = []
    for piece in pieces:
        match piece:
            case glob.Literal():
                parts += [Chars(((ord(character), ord(character)),)) for character in piece.text]
            case glob.AnyRun():
                parts.append(Repeat(Chars(ANY), 0, None))
            case glob.AnyOne():
                parts.append(Chars(ANY))
            case glob.OneOf():
                inside = merged((ord(low), ord(high)) for low, high in piece.ranges)
                parts.append(Chars(complement(inside) if piece.negated else inside))
    if ignore_case:
        parts = [Chars(_either_case(part.ranges)) if isinstance(part, Chars) else part for part in parts]
    # A search finds what stands after or before a `*` as well, and is not tied to the text's begin or end there.
    begin: tuple[Expression, ...] = (Begin(),)
    end: tuple[Expression, ...] = (End(),)
    if pieces and isinstance(pieces[0], glob.AnyRun):
        begin, parts = (), parts[1:]
    if pieces and isinstance(pieces[-1], glob.AnyRun):
        end, parts = (), parts[:-1]
    return Sequence((*begin, *parts, *end))


def _folded(text: str) -> str:
    """A to Z as a to z, as `bpfd.rules.patterns.fold` does."""
    return "".join(chr(ord(c) + _CASE) if "A" <= c <= "Z" else c for c in text)


def _either_case(ranges: Ranges) -> Ranges:
    """The characters that are in `ranges` once A to Z are taken as a to z."""
    others = complement(merged([_UPPER]))
    kept = [part for gap in others for part in overlap(ranges, gap)]
    return merged([*kept, *((low - _CASE, high - _CASE) for low, high in overlap(ranges, _LOWER))])
