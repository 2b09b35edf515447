"""A condition as a sum of products: it holds if all clauses of one of its products hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bpfd.plugin import Field, Named, Spelled
from bpfd.rules import fields as own_fields
from bpfd.rules import ranges, text_patterns
from bpfd.rules.model import RUNTIMES, All, Any, Condition, Not, Test
from bpfd.rules.ranges import Range
from bpfd.rules.searches import Search
from bpfd.rules.text_patterns import Literal

MOST_PRODUCTS = 16
"""A condition that multiplies out to more is left to Python."""
OWN_TEXTS = ("command",)
OWN_NUMBERS = ("pid", "uid", "gid", "returnValue")
"""The event's own fields that the kernel looks at, in the order of its tables; the tracer's own follow."""
NUMBERS = ("s64", "u64", "bool")
"""Types that the kernel compares as numbers."""
_SAME = {"tgid": "pid"}


class Clause(NamedTuple):
    """A clause or its contrary."""

    test: Test
    negated: bool


class Sought(NamedTuple):
    """A clause on a text, and what it looks for: one of these is enough."""

    test: Test
    parts: list[Literal | Search]


@dataclass(slots=True)
class Product:
    """One way for a rule to hold: what must be found, what must not, and where it may run."""

    rule: int = 0
    """The number of the rule among those that are planned for."""
    texts: dict[str, list[Sought]] = field(default_factory=dict)
    """For each field, clauses that must all hold."""
    not_texts: dict[str, list[Sought]] = field(default_factory=dict)
    """For each field, clauses of which none may hold."""
    numbers: dict[str, list[Range]] = field(default_factory=dict)
    runtimes: frozenset[str] = frozenset(RUNTIMES)

    @property
    def shape(self) -> tuple[object, ...]:
        """Products of one shape may share a bit and stay worth looking at."""
        return (
            *sorted((name, len(listed)) for name, listed in self.texts.items()),
            *sorted(self.numbers),
            self.runtimes,
        )


class Taken(NamedTuple):
    """What became of a condition."""

    condition: Condition
    products: list[Product]
    left_out: str
    """The first clause that they leave out, and the reason; empty: none."""
    wants_ancestors: bool
    """It looks at a process's ancestors."""


def of(condition: Condition, known: Mapping[str, Field]) -> Taken:
    """The products of a condition."""
    multiplied = multiply_out(condition)
    if multiplied is None:
        too_many = f"the condition multiplies out to more than {MOST_PRODUCTS} alternatives"
        return Taken(condition, [Product()], too_many, "ancestors" in _fields_of(condition))
    products, left_out = [], ""
    for literals in multiplied:
        taker = _Taker(Product(), known)
        outcomes = [taker.take(literal) for literal in literals]
        if "never" in outcomes:
            continue
        products.append(taker.product)
        for literal, outcome in zip(literals, outcomes, strict=True):
            if outcome and not left_out:
                left_out = f"{describe(literal.test)}: {outcome}"
    return Taken(condition, products, left_out, "ancestors" in _fields_of(condition))


def _fields_of(condition: Condition) -> set[str]:
    """The fields that a condition looks at."""
    found: set[str] = set()
    waiting = [condition]
    while waiting:
        match waiting.pop():
            case Test(name):
                found.add(name)
            case Not(part):
                waiting.append(part)
            case All(parts) | Any(parts):
                waiting += parts
    return found


def multiply_out(condition: Condition, negated: bool = False) -> list[list[Clause]] | None:
    """The condition, or its contrary, as a sum of products; None if there are too many. No recursion deeper than the
    condition.
    """
    match condition:
        case Test():
            return [[Clause(condition, negated)]]
        case Not():
            return multiply_out(condition.part, not negated)
        case All() | Any():
            parts = [multiply_out(inner, negated) for inner in condition.parts]
            return _times(parts) if isinstance(condition, All) != negated else _plus(parts)


def _plus(parts: Iterable[list[list[Clause]] | None]) -> list[list[Clause]] | None:
    total: list[list[Clause]] = []
    for part in parts:
        if part is None or len(total) + len(part) > MOST_PRODUCTS:
            return None
        total += part
    return total


def _times(parts: Iterable[list[list[Clause]] | None]) -> list[list[Clause]] | None:
    total: list[list[Clause]] = [[]]
    for part in parts:
        if part is None or len(total) * len(part) > MOST_PRODUCTS:
            return None
        total = [[*one, *other] for one in total for other in part]
    return total


def describe(test: Test) -> str:
    return f"{test.field} {test.operator}"


def outcomes(condition: Condition, known: Mapping[str, Field]) -> dict[Clause, str]:
    """For each clause, or its contrary, what keeps the kernel from judging it; empty text: it judges it."""
    found: dict[Clause, str] = {}
    for literals in multiply_out(condition) or []:
        taker = _Taker(Product(), known)
        for literal in literals:
            outcome = taker.take(literal)
            found[literal] = found.get(literal) or ("" if outcome == "never" else outcome)
    return found


class _Taker:
    """Puts clauses into a product, as far as the kernel can judge them."""

    def __init__(self, product: Product, known: Mapping[str, Field]) -> None:
        self.product, self._known = product, known

    def take(self, literal: Clause) -> str:
        """What keeps the kernel from judging the clause; nothing if it may; `never` if it can't hold."""
        test, negated = literal
        name = _SAME.get(test.field, test.field)
        if name == "containerRuntime":
            return self._take_runtime(test, negated)
        known = self._known.get(name)
        if known is None:
            return "the kernel does not know the field"
        if known.is_string and (name in OWN_TEXTS or not own_fields.getter(name)):
            return self._take_text(name, known, test, negated)
        if known.type in NUMBERS and (name in OWN_NUMBERS or not own_fields.getter(name)):
            return self._take_number(name, known, test, negated)
        return "only Python knows the field's text"

    def _take_runtime(self, test: Test, negated: bool) -> str:
        if test.operator != "is" or test.ignore_case:
            return "the kernel compares runtimes by their whole names"
        named = frozenset(test.values)
        self.product.runtimes &= frozenset(RUNTIMES) - named if negated else named
        return "" if self.product.runtimes else "never"

    def _take_text(self, name: str, known: Field, test: Test, negated: bool) -> str:
        """Whether the kernel has room for the patterns shows when those of all rules are there."""
        if known.show is not None:
            return "the text is made in Python"
        if not text_patterns.is_known(test):
            return "the kernel can't search for such a pattern"
        into = self.product.not_texts if negated else self.product.texts
        listed = into.setdefault(name, [])
        if all(test != other.test for other in listed):
            listed.append(Sought(test, text_patterns.parts(test)))
        return ""

    def _take_number(self, name: str, known: Field, test: Test, negated: bool) -> str:
        if known.show is not None and not isinstance(known.show, Named | Spelled):
            return "the text is made in Python"
        found = ranges.of(test, known) if known.show is None else ranges.of_names(test, known)
        if found is None:
            return "the kernel can't compare so"
        left_out = known.optional and (known.type != "bool" or known.show is not None)  # one that is left out is false
        if left_out and any(low <= 0 <= high for low, high in found):
            return "the field is left out where it is 0"
        allowed = ranges.without(ranges.limits(known), found) if negated else found
        before = self.product.numbers.get(name)
        self.product.numbers[name] = allowed if before is None else ranges.both(before, allowed)
        return "" if self.product.numbers[name] else "never"
