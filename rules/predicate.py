"""A rule's condition made a Python function that judges events: one closure a clause, nothing looked up twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any as Value

from bpfd.event import Event
from bpfd.plugin import Field
from bpfd.rules import fields
from bpfd.rules.model import All, Any, Condition, Not, Test

Predicate = Callable[[Event], bool]


def compile(condition: Condition, tracer_fields: Iterable[Field]) -> Predicate:
    """Make `condition` a function. Hot path: it is called for every event that the kernel let through.

    A clause on a field with `also` holds if it holds for either of the two; `not` turns the whole of that. A data field
    that an event lacks is empty text. What is returned never raises and may be called on any thread.
    """
    known = fields.table(tracer_fields)

    def build(part: Condition) -> Predicate:
        match part:
            case Test():
                return _test(part, known)
            case All():
                return _all([build(inner) for inner in part.parts])
            case Any():
                return _any([build(inner) for inner in part.parts])
            case Not():
                return _not(build(part.part))

    return build(condition)


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
    field = known[test.field]
    if field.also and field.also in known:
        return _any([_clause(test, field), _clause(test, known[field.also])])
    return _clause(test, field)


def _clause(test: Test, field: Field) -> Predicate:
    read = fields.getter(field.name)
    if test.operator == "is":
        return _is(test.values, field, read)
    judge = _contains(test.values)
    if read is not None:
        return lambda event: judge(read(event))
    if len(test.values) == 1:
        return _data_contains(field.name, test.values[0])
    name = field.name
    return lambda event: judge(event.data.get(name, ""))


def _data_contains(name: str, value: str) -> Predicate:
    """The most usual clause, without a call inside."""
    return lambda event: value in event.data.get(name, "")


def _contains(values: tuple[str, ...]) -> Callable[[str], bool]:
    if len(values) == 1:
        only = values[0]
        return lambda text: only in text

    def judge(text: str) -> bool:
        for value in values:  # noqa: SIM110 - any() with a generator takes twice as long
            if value in text:
                return True
        return False

    return judge


def _is(values: tuple[str, ...], field: Field, read: Callable[[Event], Value] | None) -> Predicate:
    """The whole value is one of `values`; a single lookup however many there are."""
    wanted: frozenset[Value] = frozenset(values)
    if read is not None:
        if fields.is_number(field):
            wanted = frozenset(map(int, values))
        return lambda event: read(event) in wanted
    if field.type == "bool" and field.show is None:
        wanted |= {text for value, text in (("true", "1"), ("false", "0")) if value in values}
    name = field.name
    return lambda event: event.data.get(name, "") in wanted
