"""What a number may be, as ranges; and those of all rules as intervals, each with the bits that it lets through."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bpfd.plugin import Field, Named, Spelled
from bpfd.rules.model import Test

MOST_BOUNDS = 2048
"""How many intervals of a number the kernel's table holds."""

_DIGITS = frozenset("-0123456789")
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,19}", re.ASCII)
_PASSES: Mapping[str, Callable[[str, str], bool]] = {
    "is": str.__eq__,
    "contains": str.__contains__,
    "prefix": str.startswith,
    "suffix": str.endswith,
}

Range = tuple[int, int]
"""Both ends are in it."""


class Bound(NamedTuple):
    """From `lower` on, up to the next: which bits a number lets through."""

    lower: int
    wanted: int


@dataclass(slots=True)
class NumberPlan:
    bounds: list[Bound]
    free: int
    """Bits of products that do not look at this field."""


def limits(known: Field) -> Range:
    """The least and the most that the field holds."""
    return (-(1 << 63), (1 << 63) - 1) if known.type == "s64" else (0, (1 << 64) - 1)


def of(test: Test, known: Field) -> list[Range] | None:
    """The numbers that pass a clause; None: that is not for the kernel to say."""
    least, most = limits(known)
    if known.type == "bool":
        return _of_bool(test, most)
    try:
        values = [int(value) for value in test.values]
    except ValueError:
        return None
    match test.operator:
        case "is":
            found = [(value, value) for value in values]
        case "above":
            found = [(value + 1, most) for value in values]
        case "below":
            found = [(least, value - 1) for value in values]
        case _:
            return None
    return merged([(max(low, least), min(high, most)) for low, high in found if low <= most and high >= least])


def _of_bool(test: Test, most: int) -> list[Range] | None:
    """Yes is any number but 0."""
    if test.operator != "is":
        return None
    return merged((1, most) if value == "true" else (0, 0) for value in test.values)


def of_names(test: Test, known: Field) -> list[Range] | None:
    """The numbers whose texts pass a clause on a field that is shown as text; None: that is not for the kernel to say.

    A number without a name is shown as it is, so a text in which there is more than digits passes none of those.
    """
    if isinstance(known.show, Spelled) and test.operator == "is" and not test.ignore_case:
        numbers = [number for value in test.values if (number := known.show.number(value)) is not None]
        return merged((number, number) for number in numbers if limits(known)[0] <= number <= limits(known)[1])
    if not isinstance(known.show, Named) or test.ignore_case:
        return None
    names, (least, most) = known.show.names, limits(known)
    passes = _PASSES.get(test.operator)
    if passes is None or (test.operator != "is" and any(_DIGITS.issuperset(value) for value in test.values)):
        return None
    found = [number for number, name in names.items() if any(passes(name, value) for value in test.values)]
    if test.operator == "is":
        found += [int(value) for value in test.values if _NUMBER.fullmatch(value) and int(value) not in names]
    return merged((number, number) for number in found if least <= number <= most)


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same numbers, sorted and with gaps between."""
    found: list[Range] = []
    for low, high in sorted(r for r in ranges if r[0] <= r[1]):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found


def without(whole: Range, ranges: Iterable[Range]) -> list[Range]:
    """What of `whole` is in none of `ranges`."""
    low, most = whole
    left = []
    for begin, end in merged(ranges):
        if low < begin:
            left.append((low, begin - 1))
        low = end + 1
    return [*left, (low, most)] if low <= most else left


def both(one: list[Range], other: list[Range]) -> list[Range]:
    """What is in both."""
    return merged([(max(a, c), min(b, d)) for a, b in one for c, d in other if max(a, c) <= min(b, d)])


def plan(known: Field, by_bit: Iterable[tuple[int, list[list[Range] | None]]]) -> NumberPlan | None:
    """The intervals of a field, from the ranges of the products of each bit; None: they are too many.

    A product without ranges does not look at the field.
    """
    free = 0
    changes: dict[int, int] = defaultdict(int)
    for bit, listed in by_bit:
        if None in listed:
            free |= bit
            continue
        for low, high in merged([r for part in listed if part for r in part]):
            changes[low] ^= bit
            changes[high + 1] ^= bit
    least, most = limits(known)
    wanted, bounds = 0, [Bound(least, 0)]
    for lower in sorted(changes):
        wanted ^= changes[lower]
        if lower > most:
            break
        if lower == least:
            bounds.pop()
        bounds.append(Bound(lower, wanted))
    return NumberPlan(bounds, free) if len(bounds) <= MOST_BOUNDS else None
