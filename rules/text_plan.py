"""What the kernel looks for in a text: the automata of a field, and which clauses it can't judge by them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import NamedTuple

from bpfd.plugin import Field
from bpfd.rules import field_automata, searches, text_patterns
from bpfd.rules.automaton import Automaton, Mask, Pattern, TooLarge
from bpfd.rules.bits import Groups
from bpfd.rules.budget import TooDear
from bpfd.rules.bytewise import ByteDfa
from bpfd.rules.expression import Unsupported
from bpfd.rules.field_automata import Room, Searched, Unfit
from bpfd.rules.model import Test
from bpfd.rules.nearest import quoted
from bpfd.rules.products import Sought, describe
from bpfd.rules.searches import Search
from bpfd.rules.text_patterns import Literal, least_length

MOST_SEARCHES = 256
"""How many patterns of a walk may have an automaton of their own."""
SPACE = ((0, ord(" ")),)
_UNSETTLED = ((b"//", False), (b"/./", False), (b"/../", False), (b"/.", True), (b"/..", True), (b"/", True))
"""What a name has that Python writes in another way: text, and whether only at the end."""

Marks = dict[Literal | Search, list[int]]
"""For each thing to look for: the bits that finding it lets through, and those that it keeps out."""


@dataclass(frozen=True, slots=True)
class TextPlan:
    """A walk of a text, for one clause of each product: after it, the bits that it found and those that do not ask
    are left, without those that it refused.
    """

    automata: tuple[Automaton, ...]
    """What they find counts together."""
    free: int
    """Bits of products that do not ask."""
    asks: int
    """Bits that it may keep out. Where the text is too long to be walked, none of them is certain."""


class _Asked(NamedTuple):
    """A clause of a product, and what it looks for."""

    bit: int
    rule: int
    test: Test
    negated: bool
    parts: list[Literal | Search]


def plan(
    known: Field, groups: Groups, first: Collection[int], room: Room, inexact: dict[int, str]
) -> tuple[TextPlan, ...]:
    """The walks of a field's text, one after the other; none: the field is left to Python.

    The first walk has a clause of each product, and all that must not be found. A product with another clause on the
    field has it in the next walk, as far as there is room. What the kernel does not decide is noted in `inexact`. The
    patterns of the rules `first` come before others if there is not room for all.
    """
    name = known.name
    mine = [product for group in groups for product in group if name in product.texts]
    most = max((len(product.texts[name]) for product in mine), default=1)
    if most > 1:
        for product in mine:
            product.texts[name].sort(key=_weight, reverse=True)
    plans: list[TextPlan] = []
    for walk in range(most):
        if walk and not room.spare:
            for product in mine:
                for sought in product.texts[name][walk:]:
                    inexact.setdefault(
                        product.rule, f"{describe(sought.test)}: another clause on {name} is judged there"
                    )
            break
        room.spare -= walk > 0
        try:
            plans.append(_Walk(known, groups, walk, first, room, inexact).plan())
        except TooLarge as error:
            _leave_to_python(name, groups, inexact, f"{name}: all patterns together make too large a table ({error})")
            break
    return tuple(plans)


def _leave_to_python(name: str, groups: Groups, inexact: dict[int, str], why: str) -> None:
    for group in groups:
        for product in group:
            if name in product.texts or name in product.not_texts:
                inexact.setdefault(product.rule, why)


def _weight(sought: Sought) -> int:
    """How much a clause sorts out."""
    return min(
        least_length((part,) if isinstance(part, Literal) else text_patterns.required(part) or ())
        for part in sought.parts
    )


def _searched(marks: Marks, machines: Mapping[Search, ByteDfa]) -> list[Searched]:
    return [
        Searched(part, machines[part], Mask(wanted, refused, False))
        for part, (wanted, refused) in marks.items()
        if isinstance(part, Search)
    ]


@dataclass(slots=True)
class _Walk:
    """One walk of a field's text."""

    known: Field
    groups: Groups
    number: int
    first: Collection[int]
    room: Room
    inexact: dict[int, str]
    unfit: dict[Literal | Search, str] = field(default_factory=dict)
    """What the kernel can't look for, and why."""
    needed: dict[Literal | Search, tuple[Literal, ...] | None] = field(default_factory=dict)
    """Texts of which one must be there for that to match."""

    def plan(self) -> TextPlan:
        """Raises `TooLarge`."""
        asked, free = self._asked()
        machines = self._machines(asked)
        same = SPACE if self.known.spaces else ()
        while True:
            marks, not_judged = self._marks(asked)
            try:
                made = field_automata.build(self._patterns(marks), _searched(marks, machines), same, self.room)
            except Unfit as error:
                self.unfit.update(dict.fromkeys(error.what, error.why))
                continue
            self._note(asked)
            return TextPlan(made, free | not_judged, reduce(or_, (clause.bit for clause in asked), 0))

    def _asked(self) -> tuple[list[_Asked], int]:
        """The clauses of this walk, and the bits of products that have none."""
        name = self.known.name
        asked: list[_Asked] = []
        free = 0
        for number, group in enumerate(self.groups):
            bit = 1 << number
            for product in group:
                listed = product.texts.get(name, ())
                if len(listed) > self.number:
                    test, parts = listed[self.number]
                    asked.append(_Asked(bit, product.rule, test, False, parts))
                else:
                    free |= bit
            # What keeps one of several products out may not keep out the others.
            if len(group) == 1 and not self.number:
                for test, parts in group[0].not_texts.get(name, ()):
                    asked.append(_Asked(bit, group[0].rule, test, True, parts))
        asked.sort(key=lambda clause: clause.rule not in self.first)
        return asked, free

    def _machines(self, asked: Iterable[_Asked]) -> dict[Search, ByteDfa]:
        """The automaton of each pattern that takes one, as far as the budget reaches."""
        machines: dict[Search, ByteDfa] = {}
        for clause in asked:
            for part in clause.parts:
                if not isinstance(part, Search) or part in machines or part in self.unfit:
                    continue
                try:
                    if len(machines) >= MOST_SEARCHES:
                        raise TooDear(f"the field has more than {MOST_SEARCHES} patterns that are more than plain text")
                    machines[part] = searches.automaton(part, self.room.budget)
                except (Unsupported, TooDear) as error:
                    self.unfit[part] = str(error)
        return machines

    def _marks(self, asked: Iterable[_Asked]) -> tuple[Marks, int]:
        """What to look for, and the bits of products with a clause that can't be judged."""
        marks: Marks = {}
        not_judged = 0
        for bit, _, _, negated, parts in asked:
            if negated:
                for part in parts:
                    if part not in self.unfit:
                        marks.setdefault(part, [0, 0])[1] |= bit
                continue
            wanted = self._in_place_of(parts) if self.unfit else parts
            if wanted is None:
                not_judged |= bit
                continue
            for part in wanted:
                marks.setdefault(part, [0, 0])[0] |= bit
        return marks, not_judged

    def _in_place_of(self, parts: Iterable[Literal | Search]) -> list[Literal | Search] | None:
        """The same, with a text that must be there for each pattern that can't be looked for; None: there is none."""
        wanted: list[Literal | Search] = []
        for part in parts:
            if part not in self.unfit:
                wanted.append(part)
                continue
            needed = self._needed(part)
            if needed is None or any(literal in self.unfit for literal in needed):
                return None
            wanted += needed
        return wanted

    def _needed(self, part: Literal | Search) -> tuple[Literal, ...] | None:
        if part not in self.needed:
            self.needed[part] = text_patterns.required(part) if isinstance(part, Search) else None
        return self.needed[part]

    def _patterns(self, marks: Marks) -> list[Pattern]:
        patterns = [
            Pattern(part.text, part.at_begin, part.at_end, wanted, refused, False, part.ignore_case)
            for part, (wanted, refused) in marks.items()
            if isinstance(part, Literal)
        ]
        if self.known.normalised:
            patterns += [Pattern(text, False, end, 0, 0, undecided=True) for text, end in _UNSETTLED]
        return patterns

    def _note(self, asked: Iterable[_Asked]) -> None:
        """Note the rules with a pattern that is not looked for as it is."""
        if not self.unfit:
            return
        for clause in asked:
            for part in clause.parts:
                if part in self.unfit and clause.rule not in self.inexact:
                    self.inexact[clause.rule] = f"{describe(clause.test)}: {self._reason(clause, part)}"

    def _reason(self, clause: _Asked, part: Literal | Search) -> str:
        value = part.value if isinstance(part, Search) else part.text.decode()
        if clause.negated or self._in_place_of([part]) is None:
            return f"the kernel can't search for {quoted(value)}: {self.unfit[part]}"
        return f"the kernel searches for a part of {quoted(value)} only: {self.unfit[part]}"
