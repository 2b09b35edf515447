"""Finds what a rule can never match, and rules that others cover."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bpfd.plugin import Field
from bpfd.rules import fields, patterns, values
from bpfd.rules.context import Context
from bpfd.rules.locate import KeyPath
from bpfd.rules.model import SEVERITIES, All, Any, Condition, Not, Rule, Test

MOST_COMPARED = 300
"""How many rules of one tracer and with the same actions are compared with each other."""


def tree(condition: Condition, context: Context, path: KeyPath) -> None:
    """Warn at `path` of what can't hold in a checked condition."""
    if context.fields is None:
        return
    if reason := _impossible(condition, context.fields):
        context.problems.warn(path, f"never matches: {reason}; mend or remove it")


def _impossible(condition: Condition, known: Mapping[str, Field]) -> str:
    """Why nothing can pass; empty if something may."""
    if isinstance(condition, Any):
        reasons = [_impossible(part, known) for part in condition.parts]
        return reasons[0] if reasons and all(reasons) else ""
    if isinstance(condition, Not):
        return ""
    parts = _flat(condition)
    for part in parts:
        if isinstance(part, Any) and (reason := _impossible(part, known)):
            return reason
    for name in sorted({part.field for part in parts if isinstance(part, Test)}):
        field = fields.find(name, known)
        if field is not None and (reason := _field_impossible(field, parts)):
            return reason
    return ""


def _flat(condition: Condition) -> list[Condition]:
    """The parts that all must hold."""
    if not isinstance(condition, All):
        return [condition]
    return [inner for part in condition.parts for inner in _flat(part)]


def _field_impossible(field: Field, parts: Sequence[Condition]) -> str:
    """Why no value of `field` passes its clauses."""
    mine = [part for part in parts if isinstance(part, Test) and part.field == field.name]
    if fields.is_number(field):
        return _range_impossible(field, mine, parts)
    if field.also or not fields.is_text(field):
        return ""
    exact = [test for test in mine if test.operator == "is" and not test.ignore_case]
    if not exact:
        return ""
    left = set(exact[0].values)
    for part in parts:
        if isinstance(part, Test) and part.field == field.name:
            left = set(filter(patterns.judge(part), left))
        elif isinstance(part, Not) and isinstance(part.part, Test) and part.part.field == field.name:
            judge = patterns.judge(part.part)
            left = {value for value in left if not judge(value)}
    return "" if left else f'the clauses on "{field.name}" contradict each other'


def _range_impossible(field: Field, mine: Iterable[Test], parts: Sequence[Condition]) -> str:
    low, high = values.LIMITS[field.type]
    wanted: set[int] | None = None
    for test in mine:
        numbers = {int(value) for value in test.values}
        if test.operator == "above":
            low = max(low, min(numbers) + 1)
        elif test.operator == "below":
            high = min(high, max(numbers) - 1)
        elif test.operator == "is":
            wanted = numbers if wanted is None else wanted & numbers
    refused = {
        int(value)
        for part in parts
        if isinstance(part, Not) and isinstance(part.part, Test) and part.part.field == field.name
        if part.part.operator == "is"
        for value in part.part.values
    }
    if low > high:
        return f'no number is within the limits of "{field.name}"'
    if wanted is not None and not any(low <= number <= high for number in wanted - refused):
        return f'the clauses on "{field.name}" contradict each other'
    return ""


def covered(rules: Iterable[Rule]) -> dict[str, str]:
    """For each rule that another one covers, that other's name.

    The other has the same tracer and actions, is as severe at least, and matches every event that the rule matches.
    """
    groups: dict[tuple[object, ...], list[Rule]] = {}
    for rule in rules:
        if rule.enabled and rule.window is None:
            groups.setdefault((rule.tracer, rule.actions, rule.mode, rule.where), []).append(rule)
    found: dict[str, str] = {}
    for group in groups.values():
        split = [(rule.name, SEVERITIES.index(rule.severity), _flat(rule.condition)) for rule in group[:MOST_COMPARED]]
        for name, bad, parts in split:
            for other, worse, wider in split:
                if other != name and worse <= bad and found.get(other) != name and _implies(parts, wider):
                    found[name] = other
                    break
    return found


def _implies(parts: Sequence[Condition], wider: Sequence[Condition]) -> bool:
    """Whether all that passes `parts` passes `wider`. May say no where it does."""
    return all(any(_part_implies(part, other) for part in parts) for other in wider)


def _part_implies(part: Condition, other: Condition) -> bool:
    if part == other:
        return True
    if not (isinstance(part, Test) and isinstance(other, Test)) or part.field != other.field:
        return False
    if part.ignore_case or other.ignore_case:
        return False
    if other.operator in ("above", "below"):
        return _within(part, other)
    if part.operator == other.operator and set(part.values) <= set(other.values):
        return True
    narrower = _NARROWER.get(other.operator, ())
    return part.operator in narrower and len(part.values) <= 64 and all(map(patterns.judge(other), part.values))


def _within(part: Test, other: Test) -> bool:
    """Whether every number that passes `part` passes `other`, which is `above` or `below`: any value is enough."""
    if part.operator not in ("is", other.operator):
        return False
    numbers = [int(value) for value in part.values]
    limits = [int(value) for value in other.values]
    if part.operator == "is":
        return min(numbers) > min(limits) if other.operator == "above" else max(numbers) < max(limits)
    return min(numbers) >= min(limits) if other.operator == "above" else max(numbers) <= max(limits)


_NARROWER: Mapping[str, tuple[str, ...]] = {
    "contains": ("contains", "is", "prefix", "suffix"),
    "prefix": ("is", "prefix"),
    "suffix": ("is", "suffix"),
    "glob": ("is",),
    "regex": ("is",),
}
"""For each operator, those whose values may be judged by it: where all of them pass, the clause implies it."""
