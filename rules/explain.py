"""What of a rule runs in the kernel, what in Python, and why, clause by clause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bpfd.plugin import Field
from bpfd.rules import plan, products, why
from bpfd.rules.fields import OWN
from bpfd.rules.model import All, Any, Condition, Not, Rule, Sequence, Test

NO_PROGRAM = "the tracer has no program in the kernel"


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause, or its contrary, in words."""

    text: str
    in_kernel: bool
    reason: str = ""
    """Why Python has to judge it. The kernel may look for a part of it all the same."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A whole condition."""

    exact: bool
    """The kernel decides it alone."""
    reason: str
    """If not: the clause that is in the way, and why."""
    clauses: tuple[Clause, ...]
    """Each once, in the order of reading."""


def of_rule(rule: Rule, fields: tuple[Field, ...], has_program: bool) -> Explanation:
    """Explain `rule`, whose tracer has `fields`, as if it were the tracer's only one. `has_program`: a BPF tracer."""
    if isinstance(rule.window, Sequence):
        return Explanation(False, f"it follows other rules: {', '.join(rule.window.rules)}", ())
    return explain(rule.condition, fields, has_program)


def explain(condition: Condition, fields: tuple[Field, ...], has_program: bool = True) -> Explanation:
    """Explain `condition` for a tracer with `fields`."""
    clauses = dict.fromkeys(_clauses(condition, False))
    whole = plan.make([condition], fields).inexact.get(0, "") if has_program else NO_PROGRAM
    outcomes = products.outcomes(condition, {f.name: f for f in (*OWN, *fields)}) if has_program else {}
    explained = ((clause, outcomes.get(clause, whole)) for clause in clauses)
    return Explanation(
        not whole, whole, tuple(Clause(_text(*clause), not why_not, why_not) for clause, why_not in explained)
    )


def _text(test: Test, negated: bool) -> str:
    return f"{'not ' if negated else ''}{why.described(test)}"


def _clauses(condition: Condition, negated: bool) -> Iterator[products.Clause]:
    match condition:
        case Test():
            yield products.Clause(condition, negated)
        case Not():
            yield from _clauses(condition.part, not negated)
        case All() | Any():
            for part in condition.parts:
                yield from _clauses(part, negated)
