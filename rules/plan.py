"""What of a tracer's rules the kernel can decide, as plain data.

A rule's condition becomes a sum of products: it holds if all clauses of one of its products hold. Each product has a
bit, or shares one with products that look at the same fields; the kernel keeps the bits of those that may hold. What
it can't judge it takes to hold: it may pass too much, never too little. `bpfd/kernel/image.py` lays the plan out for
the kernel, `bpfd/kernel/filter.h` walks it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bpfd.plugin import Field
from bpfd.rules import fields as own_fields
from bpfd.rules.automaton import Automaton, Pattern, TooLarge, build
from bpfd.rules.model import RUNTIMES, All, Any, Condition, Not, Test

BITS = 64
"""How many products the kernel tells apart."""
MOST_PRODUCTS = 16
"""A condition that multiplies out to more is left to Python."""
MOST_BOUNDS = 2048
"""How many intervals of a number the kernel's table holds."""
ALL_BITS = (1 << BITS) - 1

OWN_TEXTS = ("command",)
OWN_NUMBERS = ("pid", "uid", "gid", "returnValue")
"""The event's own fields that the kernel looks at, in the order of its tables; the tracer's own follow."""
_SAME = {"tgid": "pid"}
SPACE = ((0, ord(" ")),)
_UNSETTLED = ((b"//", False), (b"/./", False), (b"/../", False), (b"/.", True), (b"/..", True), (b"/", True))
"""What a name has that Python writes in another way: text, and whether only at the end."""

Range = tuple[int, int]
"""Both ends are in it."""


class Clause(NamedTuple):
    """A clause or its contrary."""

    test: Test
    negated: bool


class Bound(NamedTuple):
    """From `lower` on, up to the next: which bits a number lets through."""

    lower: int
    wanted: int


@dataclass(slots=True)
class TextPlan:
    automaton: Automaton
    free: int
    """Bits of products that do not look at this field."""


@dataclass(slots=True)
class NumberPlan:
    bounds: list[Bound]
    free: int


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it, for one tracer."""

    texts: Mapping[str, TextPlan]
    """By field; a field that no rule looks at is not there."""
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


@dataclass(slots=True)
class _Product:
    """One way for a rule to hold: what must be found, what must not, and where it may run."""

    rule: int
    texts: dict[str, Test] = field(default_factory=dict)
    not_texts: dict[str, list[Test]] = field(default_factory=lambda: defaultdict(list))
    numbers: dict[str, list[Range]] = field(default_factory=dict)
    runtimes: frozenset[str] = frozenset(RUNTIMES)
    exact: bool = True

    @property
    def shape(self) -> tuple[object, ...]:
        """Products of one shape may share a bit and stay worth looking at."""
        return (*sorted(self.texts), *sorted(self.numbers), self.runtimes)


def text_fields(tracer_fields: Iterable[Field]) -> list[str]:
    """The text fields that the kernel may walk, in the order of its tables."""
    return [*OWN_TEXTS, *(f.name for f in tracer_fields if f.is_string)]


def number_fields(tracer_fields: Iterable[Field]) -> list[Field]:
    """The number fields that the kernel may look up, in the order of its tables."""
    own = {f.name: f for f in own_fields.OWN}
    return [*(own[name] for name in OWN_NUMBERS), *(f for f in tracer_fields if f.type in ("s64", "u64"))]


def make(conditions: Sequence[Condition], tracer_fields: tuple[Field, ...], alone: Iterable[int] = ()) -> Plan:
    """Plan for rules given by their `conditions`. `alone` are the numbers of rules that must have bits of their own,
    as far as there are bits.
    """
    known = {f.name: f for f in (*own_fields.OWN, *tracer_fields)}
    inexact: dict[int, str] = {}
    products: list[_Product] = []
    for number, condition in enumerate(conditions):
        products += _products(number, condition, known, inexact)
    groups = _share_bits(products, set(alone), inexact)
    planner = _Planner(known, groups, inexact)
    texts, numbers = planner.texts(), planner.numbers()
    return Plan(
        texts,
        numbers,
        planner.scope(),
        (1 << len(groups)) - 1,
        tuple(tuple(dict.fromkeys(product.rule for product in group)) for group in groups),
        inexact,
        _exact_bits(groups, inexact, len(conditions)),
        any("ancestors" in fields_of(condition) for condition in conditions),
    )


def fields_of(condition: Condition) -> set[str]:
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


def _exact_bits(groups: list[list[_Product]], inexact: Mapping[int, str], rules: int) -> dict[int, int]:
    bits = {rule: 0 for rule in range(rules) if rule not in inexact}
    for number, group in enumerate(groups):
        if group[0].rule in bits:
            bits[group[0].rule] |= 1 << number
    return bits


def _products(rule: int, condition: Condition, known: Mapping[str, Field], inexact: dict[int, str]) -> list[_Product]:
    multiplied = multiply_out(condition)
    if multiplied is None:
        inexact[rule] = f"the condition multiplies out to more than {MOST_PRODUCTS} alternatives"
        return [_Product(rule, exact=False)]
    products = []
    for literals in multiplied:
        product = _Product(rule)
        possible = True
        for literal in literals:
            outcome = _Taker(product, known).take(literal)
            if outcome == "never":
                possible = False
                break
            if outcome:
                product.exact = False
                inexact.setdefault(rule, f"{describe(literal.test)}: {outcome}")
        if possible:
            products.append(product)
    return products


def multiply_out(condition: Condition) -> list[list[Clause]] | None:
    """The condition as a sum of products; None if there are too many. No recursion deeper than the condition."""

    def walk(part: Condition, negated: bool) -> list[list[Clause]] | None:
        match part:
            case Test():
                return [[Clause(part, negated)]]
            case Not():
                return walk(part.part, not negated)
            case All() | Any():
                parts = [walk(inner, negated) for inner in part.parts]
                if isinstance(part, All) != negated:
                    return _times(parts)
                return _plus(parts)

    return walk(condition, False)


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


class _Taker:
    """Puts clauses into a product, as far as the kernel can judge them."""

    def __init__(self, product: _Product, known: Mapping[str, Field]) -> None:
        self._product, self._known = product, known

    def take(self, literal: Clause) -> str:
        """What keeps the kernel from judging the clause; nothing if it judges it; `never` if it can't hold."""
        test, negated = literal
        name = _SAME.get(test.field, test.field)
        if name == "containerRuntime":
            return self._take_runtime(test, negated)
        known = self._known.get(name)
        if known is None:
            return "the kernel does not know the field"
        if known.is_string and (name in OWN_TEXTS or not own_fields.getter(name)):
            return self._take_text(name, known, test, negated)
        if known.type in ("s64", "u64") and (name in OWN_NUMBERS or not own_fields.getter(name)):
            return self._take_number(name, known, test, negated)
        return "only Python knows the field's text"

    def _take_runtime(self, test: Test, negated: bool) -> str:
        if test.operator != "is" or test.ignore_case:
            return "the kernel compares runtimes by their whole names"
        named = frozenset(test.values)
        self._product.runtimes &= frozenset(RUNTIMES) - named if negated else named
        return "" if self._product.runtimes else "never"

    def _take_text(self, name: str, known: Field, test: Test, negated: bool) -> str:
        if known.show is not None:
            return "the text is made in Python"
        exact = literal_patterns(test) is not None
        if not exact and (negated or required_patterns(test) is None):
            return "the kernel can't search for such a pattern"
        if negated:
            self._product.not_texts[name].append(test)
            return ""
        before = self._product.texts.get(name)
        if before is None or _weight(test) > _weight(before):
            self._product.texts[name] = test
        if before is not None:
            return f"another clause on {name} is judged in the kernel"
        return "" if exact else "the kernel searches for a part of the pattern"

    def _take_number(self, name: str, known: Field, test: Test, negated: bool) -> str:
        if known.show is not None:
            return "the text is made in Python"
        if known.late:
            return "the kernel compares numbers before this one is known"
        ranges = _ranges(test, known)
        if ranges is None:
            return "the kernel can't compare so"
        if known.optional and any(low <= 0 <= high for low, high in ranges):
            return "the field is left out where it is 0"
        limits = _limits(known)
        allowed = _without(limits, ranges) if negated else ranges
        before = self._product.numbers.get(name)
        self._product.numbers[name] = allowed if before is None else _both(before, allowed)
        return "" if self._product.numbers[name] else "never"


def literal_patterns(test: Test) -> list[tuple[bytes, bool, bool]] | None:
    """The clause as plain bytes, each with whether it is tied to begin and end; None: it is more than that."""
    if test.ignore_case:
        return None
    ties = {"contains": (False, False), "is": (True, True), "prefix": (True, False), "suffix": (False, True)}
    if test.operator in ties:
        return [(value.encode(), *ties[test.operator]) for value in test.values]
    if test.operator == "glob":
        parts = [_literal_glob(value) for value in test.values]
        return [part for part in parts if part] if all(parts) else None
    return None


def _literal_glob(glob: str) -> tuple[bytes, bool, bool] | None:
    """A glob that only has `*` at its ends is a plain search."""
    inner = glob.removeprefix("*").removesuffix("*")
    if not inner or any(character in inner for character in "*?[]\\"):
        return None
    return inner.encode(), not glob.startswith("*"), not glob.endswith("*")


def required_patterns(test: Test) -> list[tuple[bytes, bool, bool]] | None:
    """Bytes of which one must be in a text for the clause to hold: the longest plain piece of each glob."""
    exact = literal_patterns(test)
    if exact is not None:
        return exact
    if test.operator != "glob" or test.ignore_case:
        return None
    pieces = []
    for value in test.values:
        if any(character in value for character in "[]\\"):
            return None
        longest = max(value.replace("?", "*").split("*"), key=len)
        if not longest:
            return None
        pieces.append((longest.encode(), False, False))
    return pieces


def _weight(test: Test) -> int:
    """How much a clause sorts out: the length of its shortest alternative."""
    return min((len(text) for text, _, _ in required_patterns(test) or [(b"", False, False)]), default=0)


def _limits(known: Field) -> list[Range]:
    return [(-(1 << 63), (1 << 63) - 1)] if known.type == "s64" else [(0, (1 << 64) - 1)]


def _ranges(test: Test, known: Field) -> list[Range] | None:
    [(least, most)] = _limits(known)
    try:
        values = [int(value) for value in test.values]
    except ValueError:
        return None
    match test.operator:
        case "is":
            ranges = [(value, value) for value in values]
        case "above":
            ranges = [(value + 1, most) for value in values]
        case "below":
            ranges = [(least, value - 1) for value in values]
        case _:
            return None
    return _merged([(max(low, least), min(high, most)) for low, high in ranges if low <= most and high >= least])


def _merged(ranges: list[Range]) -> list[Range]:
    merged: list[Range] = []
    for low, high in sorted(r for r in ranges if r[0] <= r[1]):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _without(limits: list[Range], ranges: list[Range]) -> list[Range]:
    [(low, most)] = limits
    left = []
    for begin, end in _merged(ranges):
        if low < begin:
            left.append((low, begin - 1))
        low = end + 1
    return [*left, (low, most)] if low <= most else left


def _both(one: list[Range], other: list[Range]) -> list[Range]:
    return _merged([(max(a, c), min(b, d)) for a, b in one for c, d in other if max(a, c) <= min(b, d)])


def _share_bits(products: list[_Product], alone: set[int], inexact: dict[int, str]) -> list[list[_Product]]:
    """A bit for each product while there are bits; else those of one shape share, and only `alone` keep their own."""
    if len(products) <= BITS:
        return [[product] for product in products]
    own = [product for product in products if product.rule in alone][: BITS // 2]
    kept = {id(product) for product in own}
    shapes: dict[tuple[object, ...], list[_Product]] = defaultdict(list)
    for product in products:
        if id(product) not in kept:
            shapes[product.shape].append(product)
            product.exact = False
            inexact.setdefault(product.rule, f"there are more than {BITS} alternatives in this tracer's rules")
    groups = [[product] for product in own]
    return groups + _divide(sorted(shapes.values(), key=len, reverse=True), BITS - len(groups))


def _divide(shapes: list[list[_Product]], bits: int) -> list[list[_Product]]:
    """Spread the shapes over `bits` groups, the larger ones over more; shapes beyond that share the last."""
    if len(shapes) > bits:
        shapes = [*shapes[: bits - 1], [product for shape in shapes[bits - 1 :] for product in shape]]
    total = sum(map(len, shapes))
    spare = bits - len(shapes)
    groups: list[list[_Product]] = []
    for shape in shapes:
        parts = min(len(shape), 1 + spare * len(shape) // total)
        groups += [shape[first::parts] for first in range(parts)]
    return groups


class _Planner:
    """Makes each field's plan from the groups of products that have a bit."""

    def __init__(self, known: Mapping[str, Field], groups: list[list[_Product]], inexact: dict[int, str]) -> None:
        self._known, self._groups, self._inexact = known, groups, inexact

    def _bits(self) -> Iterator[tuple[int, list[_Product]]]:
        return ((1 << number, group) for number, group in enumerate(self._groups))

    def texts(self) -> dict[str, TextPlan]:
        plans: dict[str, TextPlan] = {}
        names = {name for group in self._groups for p in group for name in (*p.texts, *p.not_texts)}
        for name in sorted(names):
            free = 0
            found: dict[tuple[bytes, bool, bool], list[int]] = defaultdict(lambda: [0, 0])
            for bit, group in self._bits():
                free |= self._add_text(found, name, bit, group)
            patterns = [Pattern(*key, wanted, refused) for key, (wanted, refused) in found.items()]
            if self._known[name].normalised:
                patterns += [Pattern(text, False, end, 0, 0, undecided=True) for text, end in _UNSETTLED]
            try:
                plans[name] = TextPlan(build(patterns, SPACE if self._known[name].spaces else ()), free)
            except TooLarge as error:
                self._leave_to_python(name, f"{name}: all patterns together make too large a table ({error})")
        return plans

    def _leave_to_python(self, name: str, why: str) -> None:
        for group in self._groups:
            for product in group:
                if name in product.texts or name in product.not_texts or name in product.numbers:
                    self._inexact.setdefault(product.rule, why)

    def _add_text(
        self,
        found: dict[tuple[bytes, bool, bool], list[int]],
        name: str,
        bit: int,
        group: list[_Product],
    ) -> int:
        """Gather the patterns of one bit; returns the bit if one of its products does not look at this field."""
        free = 0
        for product in group:
            test = product.texts.get(name)
            patterns = required_patterns(test) if test else None
            if patterns is None or any(not text and not (begin and end) for text, begin, end in patterns):
                free = bit
            else:
                for pattern in patterns:
                    found[pattern][0] |= bit
        # What keeps one of several products out may not keep out the others.
        if len(group) == 1:
            for test in group[0].not_texts.get(name, ()):
                for pattern in literal_patterns(test) or ():
                    found[pattern][1] |= bit
        return free

    def numbers(self) -> dict[str, NumberPlan]:
        plans: dict[str, NumberPlan] = {}
        names = {name for group in self._groups for product in group for name in product.numbers}
        for name in sorted(names):
            free = 0
            changes: dict[int, int] = defaultdict(int)
            for bit, group in self._bits():
                ranges = [product.numbers.get(name) for product in group]
                if None in ranges:
                    free |= bit
                    continue
                for low, high in _merged([r for part in ranges if part for r in part]):
                    changes[low] ^= bit
                    changes[high + 1] ^= bit
            bounds = _bounds(changes, _limits(self._known[name])[0])
            if len(bounds) <= MOST_BOUNDS:
                plans[name] = NumberPlan(bounds, free)
            else:
                self._leave_to_python(name, f"{name}: all numbers together make more than {MOST_BOUNDS} intervals")
        return plans

    def scope(self) -> dict[str, int]:
        scope = dict.fromkeys(RUNTIMES, 0)
        for bit, group in self._bits():
            for product in group:
                for runtime in product.runtimes & scope.keys():
                    scope[runtime] |= bit
        return scope


def _bounds(changes: Mapping[int, int], limits: Range) -> list[Bound]:
    least, most = limits
    wanted, bounds = 0, [Bound(least, 0)]
    for lower in sorted(changes):
        wanted ^= changes[lower]
        if lower > most:
            break
        if lower == least:
            bounds.pop()
        bounds.append(Bound(lower, wanted))
    return bounds
