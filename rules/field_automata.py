"""Puts all that is looked for in a text into as few automata as it fits in: one, nearly always."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bpfd.rules import union
from bpfd.rules.automaton import SMALL, Automaton, Mask, Pattern, TooLarge
from bpfd.rules.budget import Budget, TooDear
from bpfd.rules.bytewise import ByteDfa
from bpfd.rules.searches import Search
from bpfd.rules.text_patterns import Literal

AUTOMATA = 16
"""How many automata a tracer's plan may have: BPFD_TEXTS in filter.h."""
STEPS = 700_000
"""What all of a tracer's patterns may take to be made automata of, in steps of `Budget`: less than a second."""
TRY_STEPS = 260_000
"""What one union of automata may take."""
_WITHOUT_END = 1 << 40
"""Steps for plain patterns, which are bounded by their number."""
_TOO_MANY = "all patterns together take too large an automaton: {}"
Same = Sequence[tuple[int, int]]


@dataclass(slots=True)
class Room:
    """What is left for a tracer's texts."""

    spare: int
    """Automata beyond one for each field."""
    budget: Budget = field(default_factory=lambda: Budget(STEPS))


class Searched(NamedTuple):
    """A pattern with an automaton of its own, and what finding it means."""

    search: Search
    machine: ByteDfa
    mark: Mask


class Unfit(Exception):
    """There is no room for some of what is to be looked for."""

    def __init__(self, what: Collection[Literal | Search], why: str) -> None:
        super().__init__(why)
        self.what, self.why = what, why


def build(patterns: Sequence[Pattern], searched: Sequence[Searched], same: Same, room: Room) -> tuple[Automaton, ...]:
    """The automata for plain patterns and for others, the more important first.

    More than one are made where one would be too large: the kernel then walks the text more than once. Raises `Unfit`
    with what must be left out, and `TooLarge` where the plain patterns alone are too many.
    """
    plain = [pattern for pattern in patterns if not pattern.ignore_case]
    folded = [pattern for pattern in patterns if pattern.ignore_case]
    if not folded and not searched:
        return (_literals(plain, same),)
    if _symbols(patterns) <= SMALL:
        try:
            return (_union(patterns, searched, same, room.budget),)
        except (TooLarge, TooDear):
            pass  # Apart they may be small enough.
    if not plain and not searched:
        return (_literals(folded, same),)
    return _apart(plain, folded, searched, same, room)


def _apart(
    plain: Sequence[Pattern], folded: Sequence[Pattern], searched: Sequence[Searched], same: Same, room: Room
) -> tuple[Automaton, ...]:
    """Plain patterns in an automaton of their own, and the others in one or two more."""
    large = _symbols(folded) > SMALL
    if room.spare < bool(plain) + (large and bool(searched)):
        what: list[Literal | Search] = [one.search for one in searched]
        if room.spare < bool(plain) or not what:
            what += [Literal(p.text, p.at_begin, p.at_end, True) for p in folded]
        raise Unfit(what, "it does not fit into the automaton of the other patterns, and there is room for no other")
    made = [_literals(plain, same)] if plain else []
    if folded and (large or not searched):
        made.append(_literals(folded, same))
        folded = ()
    if searched:
        _refuse_what_does_not_fit(searched, same, room.budget)
        try:
            made.append(_union(folded, searched, same, room.budget))
        except (TooLarge, TooDear) as error:
            raise Unfit([one.search for one in searched], _TOO_MANY.format(error)) from None
    room.spare -= len(made) - 1
    return tuple(made)


def _refuse_what_does_not_fit(searched: Sequence[Searched], same: Same, budget: Budget) -> None:
    """Raises `Unfit` with the less important of them if they are too many for one automaton."""
    fitting, why = len(searched), ""
    while fitting:
        try:
            _union((), searched[:fitting], same, budget)
            break
        except (TooLarge, TooDear) as error:
            why = _TOO_MANY.format(error)
            fitting //= 4
    if fitting < len(searched):
        raise Unfit([one.search for one in searched[fitting:]], why)


def _literals(patterns: Sequence[Pattern], same: Same) -> Automaton:
    """Plain patterns, all with case or all without. Raises `TooLarge`."""
    if _symbols(patterns) <= SMALL:
        return union.build(union.parts_of(patterns), Budget(_WITHOUT_END), same)
    from bpfd.rules import automaton_large  # It loads numpy, which takes 13 MB.

    return automaton_large.build(patterns, same)


def _union(patterns: Sequence[Pattern], searched: Sequence[Searched], same: Same, budget: Budget) -> Automaton:
    parts = [*union.parts_of(patterns), *(union.part_of(one.machine, one.mark) for one in searched)]
    if not searched:
        return union.build(parts, Budget(TRY_STEPS), same)
    # What is tried in vain leaves half of the budget for less.
    return union.build(parts, Budget(min(TRY_STEPS, budget.left // 2), budget), same)


def _symbols(patterns: Iterable[Pattern]) -> int:
    return sum(pattern.symbols for pattern in patterns)
