"""What of a tracer's rules the kernel can decide, as plain data.

A rule's condition becomes a sum of products: it holds if all clauses of one of its products hold. Each product has a
bit, or shares one with products that look at the same fields; the kernel keeps the bits of those that may hold. What
it can't judge it takes to hold: it may pass too much, never too little. `bpfd/kernel/image.py` lays the plan out for
the kernel, `bpfd/kernel/filter.h` walks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bpfd.plugin import Field
from bpfd.rules import bits as sharing
from bpfd.rules import fields as own_fields
from bpfd.rules import products, ranges, text_plan
from bpfd.rules.bits import BITS, Groups
from bpfd.rules.field_automata import AUTOMATA, Room
from bpfd.rules.model import RUNTIMES, Condition
from bpfd.rules.products import OWN_NUMBERS, OWN_TEXTS, Clause, Product, Taken, multiply_out
from bpfd.rules.ranges import MOST_BOUNDS, NumberPlan
from bpfd.rules.text_plan import TextPlan

__all__ = [
    "BITS",
    "MOST_BOUNDS",
    "OWN_NUMBERS",
    "OWN_TEXTS",
    "Clause",
    "NumberPlan",
    "Plan",
    "Planner",
    "TextPlan",
    "make",
    "multiply_out",
    "number_fields",
    "text_fields",
]

ORDERED = 32
"""How many steps the kernel takes for an event: BPFD_ORDER in filter.h."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it, for one tracer."""

    texts: Mapping[str, tuple[TextPlan, ...]]
    """By field, the walks of its text one after the other; a field that no rule looks at is not there."""
    numbers: Mapping[str, NumberPlan]
    scope: Mapping[str, int]
    """For each container runtime, the bits of products that may hold in it."""
    bits: int
    """All bits in use; 0: nobody wants anything."""
    rules_of: tuple[tuple[int, ...], ...]
    """For each bit, the numbers of the rules that are candidates when it is left."""
    inexact: Mapping[int, str]
    """For each rule that the kernel does not decide alone: the clause that is in the way, and why."""
    exact_bits: Mapping[int, int]
    """For each rule that it does decide alone, its bits."""
    wants_ancestors: bool = False
    """Some rule asks for a process's ancestors, which the kernel gathers only then."""


def text_fields(tracer_fields: Iterable[Field]) -> list[str]:
    """The text fields that the kernel may walk, in the order of its tables."""
    return [*OWN_TEXTS, *(f.name for f in tracer_fields if f.is_string)]


def number_fields(tracer_fields: Iterable[Field]) -> list[Field]:
    """The number fields that the kernel may look up, in the order of its tables."""
    own = {f.name: f for f in own_fields.OWN}
    return [*(own[name] for name in OWN_NUMBERS), *(f for f in tracer_fields if f.type in products.NUMBERS)]


def make(conditions: Sequence[Condition], tracer_fields: tuple[Field, ...], alone: Iterable[int] = ()) -> Plan:
    """Plan once: see `Planner.make`."""
    return Planner(tracer_fields).make(conditions, alone)


class Planner:
    """Plans for one tracer, again and again. Not for two threads at once."""

    def __init__(self, tracer_fields: tuple[Field, ...]) -> None:
        self._fields = tracer_fields
        self._known = {f.name: f for f in (*own_fields.OWN, *tracer_fields)}
        self._taken: dict[int, Taken] = {}
        """Of the conditions of the last plan, by their ids: what did not change since is not worked out anew."""

    def make(self, conditions: Sequence[Condition], alone: Iterable[int] = ()) -> Plan:
        """Plan for rules given by their `conditions`. `alone` are the numbers of rules that must have bits of their
        own, as far as there are bits.

        Takes less than a second and 200 MiB whatever the patterns.
        """
        known, inexact = self._known, dict[int, str]()
        listed = self._products(conditions, inexact)
        first = set(alone)
        groups = sharing.share(listed, first, inexact)
        texts = _texts(groups, known, first, _room(self._fields), inexact)
        numbers = _numbers(groups, known, inexact)
        return Plan(
            texts,
            numbers,
            _scope(groups),
            (1 << len(groups)) - 1,
            tuple(tuple(dict.fromkeys(product.rule for product in group)) for group in groups),
            inexact,
            sharing.exact(groups, inexact, len(conditions)),
            any(taken.wants_ancestors for taken in self._taken.values()),
        )

    def _products(self, conditions: Sequence[Condition], inexact: dict[int, str]) -> list[Product]:
        before, self._taken = self._taken, {}
        listed: list[Product] = []
        for number, condition in enumerate(conditions):
            taken = before.pop(id(condition), None)  # not twice: each rule has products of its own
            if taken is None:
                taken = products.of(condition, self._known)
            self._taken[id(condition)] = taken
            for product in taken.products:
                product.rule = number
            listed += taken.products
            if taken.left_out:
                inexact[number] = taken.left_out
        return listed


def _room(tracer_fields: tuple[Field, ...]) -> Room:
    """Each automaton takes a place among those of the tracer, and a step, or two where a second text is judged too."""
    texts = len(text_fields(tracer_fields))
    steps = ORDERED - len(("numbers", "late", "late numbers", "emit"))
    return Room(min(AUTOMATA, steps // 2) - texts)


def _texts(
    groups: Groups, known: Mapping[str, Field], first: set[int], room: Room, inexact: dict[int, str]
) -> dict[str, tuple[TextPlan, ...]]:
    names = {name for group in groups for product in group for name in (*product.texts, *product.not_texts)}
    plans = {name: text_plan.plan(known[name], groups, first, room, inexact) for name in sorted(names)}
    return {name: walks for name, walks in plans.items() if walks}


def _numbers(groups: Groups, known: Mapping[str, Field], inexact: dict[int, str]) -> dict[str, NumberPlan]:
    plans: dict[str, NumberPlan] = {}
    for name in sorted({name for group in groups for product in group for name in product.numbers}):
        by_bit = ((1 << number, [p.numbers.get(name) for p in group]) for number, group in enumerate(groups))
        made = ranges.plan(known[name], by_bit)
        if made is not None:
            plans[name] = made
            continue
        for product in (product for group in groups for product in group if name in product.numbers):
            why = f"{name}: all numbers together make more than {MOST_BOUNDS} intervals"
            inexact.setdefault(product.rule, why)
    return plans


def _scope(groups: Groups) -> dict[str, int]:
    scope = dict.fromkeys(RUNTIMES, 0)
    for number, group in enumerate(groups):
        for runtimes in {product.runtimes for product in group}:
            for runtime in runtimes & scope.keys():
                scope[runtime] |= 1 << number
    return scope
