"""Why a rule matched an event or did not: each clause, with what it looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bpfd.event import Event
from bpfd.plugin import Field
from bpfd.rules import fields, predicate
from bpfd.rules.model import All, Any, Condition, Not, Operator, Test
from bpfd.rules.nearest import quoted

_MOST_VALUES = 4
_WORDS: dict[Operator, str] = {
    "contains": "contains",
    "is": "is",
    "prefix": "starts with",
    "suffix": "ends with",
    "glob": "matches the glob",
    "regex": "matches the regular expression",
    "above": "is above",
    "below": "is below",
    "net": "is in the network",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One part of a rule's tree, in the order of reading."""

    depth: int
    held: bool
    text: str


def explain(condition: Condition, tracer_fields: tuple[Field, ...], event: Event) -> tuple[Line, ...]:
    """Every part of the condition and whether it held, the whole first."""
    return tuple(_lines(condition, tracer_fields, event, 0))


def failed(condition: Condition, tracer_fields: tuple[Field, ...], event: Event) -> tuple[str, ...]:
    """What did not hold of the parts that all must hold, in words."""
    parts = condition.parts if isinstance(condition, All) else (condition,)
    return tuple(
        f"wanted: {said(part, tracer_fields, event)}"
        for part in parts
        if not predicate.compile(part, tracer_fields)(event)
    )


def described(test: Test) -> str:
    """A clause in words."""
    if test.operator == "exists":
        return f"{test.field} is there"
    shown = ", ".join(quoted(value) for value in test.values[:_MOST_VALUES])
    more = f" or {len(test.values) - _MOST_VALUES} more" if len(test.values) > _MOST_VALUES else ""
    anyhow = ", upper or lower case" if test.ignore_case else ""
    return f"{test.field} {_WORDS[test.operator]} {shown}{more}{anyhow}"


def _lines(condition: Condition, of: tuple[Field, ...], event: Event, depth: int) -> Iterator[Line]:
    held = predicate.compile(condition, of)(event)
    match condition:
        case Test():
            yield Line(depth, held, f"{described(condition)}: {_looked_at(condition, of, event)}")
        case Not():
            yield Line(depth, held, "not:")
            yield from _lines(condition.part, of, event, depth + 1)
        case All():
            yield Line(depth, held, "all of:" if condition.parts else "every event")
            for part in condition.parts:
                yield from _lines(part, of, event, depth + 1)
        case Any():
            yield Line(depth, held, "any of:")
            for part in condition.parts:
                yield from _lines(part, of, event, depth + 1)


def said(part: Condition, of: tuple[Field, ...], event: Event) -> str:
    """A part in words, and what `event` has there."""
    match part:
        case Test():
            return f"{described(part)}; there: {_looked_at(part, of, event)}"
        case Not():
            return f"not {said(part.part, of, event)}"
        case All():
            return f"all of {len(part.parts)} clauses"
        case Any():
            return f"any of {len(part.parts)} clauses"


def _looked_at(test: Test, of: tuple[Field, ...], event: Event) -> str:
    """The field's value, and that of the field which is judged with it."""
    also = next((field.also for field in of if field.name == test.field), "")
    names = [test.field, *([also] if also else [])]
    found = [(name, fields.value(event, name)) for name in names]
    return ", ".join(f"{name} = {'nothing' if value is None else quoted(value)}" for name, value in found)
