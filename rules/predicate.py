"""A rule's condition made a Python function that judges events: one closure a clause, nothing looked up twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network
from typing import Any as Value

from bpfd.event import Event
from bpfd.plugin import Field
from bpfd.rules import addresses, fields, patterns
from bpfd.rules.model import All, Any, Condition, Not, Test

Predicate = Callable[[Event], bool]
Read = Callable[[Event], Value]


def compile(condition: Condition, tracer_fields: Iterable[Field]) -> Predicate:
    """Make `condition` a function. Hot path: it is called for every event that the kernel let through.

    A clause on a field with `also` holds if it holds for either of the two; `not` turns the whole of that. A data field
    that an event lacks is empty text. What is returned never raises and may be called on any thread.
    Raises `PatternError` for a pattern that checking the rule would have refused.
    """
    return _compiled(condition, fields.table(tracer_fields))


def _compiled(part: Condition, known: dict[str, Field]) -> Predicate:
    match part:
        case Test():
            return _test(part, known)
        case All():
            return _all([_compiled(inner, known) for inner in part.parts])
        case Any():
            return _any([_compiled(inner, known) for inner in part.parts])
        case Not():
            return _not(_compiled(part.part, known))


def _all(parts: Sequence[Predicate]) -> Predicate:
    if not parts:
        return lambda event: True
    if len(parts) == 1:
        return parts[0]
    if len(parts) == 2:
        first, second = parts
        return lambda event: first(event) and second(event)

    def every(event: Event) -> bool:
        for part in parts:  # noqa: SIM110 - all() with a generator takes twice as long
            if not part(event):
                return False
        return True

    return every


def _any(parts: Sequence[Predicate]) -> Predicate:
    if not parts:
        return lambda event: False
    if len(parts) == 1:
        return parts[0]
    if len(parts) == 2:
        first, second = parts
        return lambda event: first(event) or second(event)

    def some(event: Event) -> bool:
        for part in parts:  # noqa: SIM110 - any() with a generator takes twice as long
            if part(event):
                return True
        return False

    return some


def _not(part: Predicate) -> Predicate:
    return lambda event: not part(event)


def _test(test: Test, known: dict[str, Field]) -> Predicate:
    field = fields.find(test.field, known)
    if field is None:
        return lambda event: False
    if field.also and field.also in known:
        return _any([_clause(test, field), _clause(test, known[field.also])])
    return _clause(test, field)


def _clause(test: Test, field: Field) -> Predicate:
    read = fields.getter(field.name)
    if fields.is_text(field) or test.operator == "exists":
        return _text(test, field.name, read)
    if field.type == "address":
        return _address(test, field.name)
    if field.type == "bool":
        return _bool(test, field.name, read)
    return _number(test, field.name, read)


def _text(test: Test, name: str, read: Read | None) -> Predicate:
    if read is None and test.operator == "contains" and len(test.values) == 1 and not test.ignore_case:
        return _data_contains(name, test.values[0])  # the most usual clause, without a call inside
    judge = patterns.judge(test)
    if read is None:
        return lambda event: judge(event.data.get(name, ""))
    if test.operator == "exists":
        return lambda event: read(event) != ""
    return lambda event: judge(read(event))


def _data_contains(name: str, value: str) -> Predicate:
    return lambda event: value in event.data.get(name, "")


def _number(test: Test, name: str, read: Read | None) -> Predicate:
    """Own numbers are there; one in the data is decimal text, and none holds where it is missing or no number."""
    numbers = [int(value) for value in test.values]
    if test.operator == "is":
        if read is None:
            texts = frozenset(map(str, numbers))
            return lambda event: event.data.get(name, "") in texts
        wanted = frozenset(numbers)
        return lambda event: read(event) in wanted
    # Any value is enough, so only the nearest counts.
    above = test.operator == "above"
    limit = min(numbers) if above else max(numbers)
    if read is not None:
        return (lambda event: read(event) > limit) if above else (lambda event: read(event) < limit)

    def compare(event: Event) -> bool:
        try:
            number = int(event.data[name])
        except (KeyError, ValueError):
            return False
        return number > limit if above else number < limit

    return compare


def _bool(test: Test, name: str, read: Read | None) -> Predicate:
    """A field that is left out is false."""
    if read is not None:
        wanted = {value == "true" for value in test.values}
        return lambda event: read(event) in wanted
    texts: set[str] = set()
    if "true" in test.values:
        texts |= {"true", "1"}
    if "false" in test.values:
        texts |= {"false", "0", ""}
    return lambda event: event.data.get(name, "") in texts


def _address(test: Test, name: str) -> Predicate:
    """An address in any of the networks; a single address is a network of one. IPv4 counts as mapped into IPv6."""
    masks = [(addresses.mask(network), addresses.number(network)) for network in map(ip_network, test.values)]

    def inside(event: Event) -> bool:
        number = addresses.parse(event.data.get(name, ""))
        if number is not None:
            for mask, base in masks:
                if number & mask == base:
                    return True
        return False

    return inside
