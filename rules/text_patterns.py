"""A clause's values as what the kernel looks for: plain bytes, or patterns that take an automaton of their own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from bpfd.rules import glob
from bpfd.rules.expression import Chars, Either, Expression, Repeat, Sequence, Unsupported
from bpfd.rules.model import Test
from bpfd.rules.patterns import fold
from bpfd.rules.searches import Search, expression

MOST_ALTERNATIVES = 64
"""A pattern of which one of more texts must be there is not searched for by these."""
_TIES = {"contains": (False, False), "is": (True, True), "prefix": (True, False), "suffix": (False, True)}
_SPECIAL = frozenset(r"\.+*?()|[]{}^$")
_SURROGATES = range(0xD800, 0xE000)


class Literal(NamedTuple):
    """Plain bytes, tied to the text's begin and end or not."""

    text: bytes
    at_begin: bool
    at_end: bool
    ignore_case: bool = False
    """A to Z of the text count as a to z, which is what `text` has."""


def is_known(test: Test) -> bool:
    """Whether the clause is one that looks for something in a text."""
    return test.operator in _TIES or test.operator in ("glob", "regex", "exists")


def parts(test: Test) -> list[Literal | Search]:
    """What to look for; one of them is enough. `is_known(test)` holds."""
    if test.operator == "exists":
        return [Search("exists", "", False)]
    if test.operator in _TIES:
        begin, end = _TIES[test.operator]
        return [_literal(value, begin, end, test.ignore_case) for value in test.values]
    of_value = _of_glob if test.operator == "glob" else _of_regex
    return [of_value(value, test.ignore_case) for value in test.values]


def _literal(text: str, at_begin: bool, at_end: bool, ignore_case: bool) -> Literal:
    if not text and not (at_begin and at_end):
        at_begin, at_end = False, True  # It is in every text, and so at every end.
    folded = fold(text) if ignore_case else text
    return Literal(folded.encode(), at_begin, at_end, ignore_case and folded.upper() != folded)


def _of_glob(value: str, ignore_case: bool) -> Literal | Search:
    """A glob that has `*` at its ends alone is plain text."""
    try:
        pieces = glob.parse(value)
    except ValueError:
        return Search("glob", value, ignore_case)
    inner = [piece for piece in pieces if not isinstance(piece, glob.AnyRun)]
    if len(inner) == 1 and isinstance(inner[0], glob.Literal):
        begin, end = not isinstance(pieces[0], glob.AnyRun), not isinstance(pieces[-1], glob.AnyRun)
        return _literal(inner[0].text, begin, end, ignore_case)
    return Search("glob", value, ignore_case)


def _of_regex(value: str, ignore_case: bool) -> Literal | Search:
    if ignore_case or not _SPECIAL.isdisjoint(value):
        return Search("regex", value, ignore_case)
    return _literal(value, False, False, False)


@lru_cache(maxsize=1024)
def required(search: Search) -> tuple[Literal, ...] | None:
    """Plain texts of which one must be there for the pattern to match; None: there are none to be told."""
    try:
        return _required(expression(search, loosely=True))
    except Unsupported:
        return None


def _required(part: Expression) -> tuple[Literal, ...] | None:
    """Of all that must be there, what sorts out most."""
    best: tuple[Literal, ...] | None = None
    for candidate in _candidates(part):
        if candidate and (best is None or least_length(candidate) > least_length(best)):
            best = candidate
    return best


def least_length(literals: tuple[Literal, ...]) -> int:
    """How much they sort out: the length of the shortest."""
    return min((len(literal.text) for literal in literals), default=0)


def _candidates(part: Expression) -> Iterator[tuple[Literal, ...] | None]:
    run: list[tuple[str, bool]] = []
    for inner in _in_order(part):
        character = _character(inner) if isinstance(inner, Chars) else None
        if character is not None:
            run.append(character)
            continue
        yield _of_run(run)
        run = []
        if isinstance(inner, Either):
            yield _of_each(inner)
        elif isinstance(inner, Repeat) and inner.least:
            yield _required(inner.part)
    yield _of_run(run)


def _in_order(part: Expression) -> Iterator[Expression]:
    """What comes one after the other, also in groups."""
    if isinstance(part, Sequence):
        for inner in part.parts:
            yield from _in_order(inner)
    else:
        yield part


def _character(part: Chars) -> tuple[str, bool] | None:
    """The one character that it is, and whether in either case."""
    ranges = part.ranges
    if not 1 <= len(ranges) <= 2 or any(low != high for low, high in ranges):
        return None
    first, last = chr(ranges[0][0]), chr(ranges[-1][0])
    if first == last:
        return None if ranges[0][0] in _SURROGATES else (first, False)
    return (last, True) if last.isascii() and first.lower() == last else None


def _of_run(run: list[tuple[str, bool]]) -> tuple[Literal, ...]:
    text = "".join(character for character, _ in run)
    return (_literal(text, False, False, any(either for _, either in run)),) if text else ()


def _of_each(either: Either) -> tuple[Literal, ...] | None:
    found: dict[Literal, None] = {}
    for part in either.parts:
        needed = _required(part)
        if needed is None:
            return None
        found |= dict.fromkeys(needed)
    return tuple(found) if len(found) <= MOST_ALTERNATIVES else None
