"""Near misses: events that fail exactly one of the clauses that a rule wants all of."""

from __future__ import annotations

from collections.abc import Sequence

from bpfd.event import Event
from bpfd.plugin import Field
from bpfd.rules import predicate, why
from bpfd.rules.model import All, Any, Condition, Not
from bpfd.rules.plan import multiply_out
from bpfd.rules.predicate import Predicate


def clauses(condition: Condition) -> tuple[Condition, ...]:
    """The parts of `condition` that all must hold; none: every event matches, and nothing can miss."""
    if not isinstance(condition, All):
        return (condition,)
    return tuple(inner for part in condition.parts for inner in clauses(part))


def condition(parts: Sequence[Condition]) -> Condition:
    """What holds where exactly one of `parts` fails, for the kernel to sort out by.

    Where that is more than the kernel multiplies out, it is what holds where at most one fails.
    """
    others = [tuple(other for other in parts if other is not part) for part in parts]
    exact = Any(tuple(All((Not(part), *rest)) for part, rest in zip(parts, others, strict=True)))
    if multiply_out(exact) is not None:
        return exact
    return Any(tuple(All(rest) for rest in others))


class Misses:
    """The clauses of one rule, ready to be asked of events."""

    def __init__(self, whole: Condition, fields: tuple[Field, ...]) -> None:
        self._fields = fields
        self.parts = clauses(whole)
        self._held: tuple[Predicate, ...] = tuple(predicate.compile(part, fields) for part in self.parts)

    def misses_one(self, event: Event) -> bool:
        """Whether exactly one clause fails. Hot path, while somebody follows."""
        failed = 0
        for held in self._held:
            if not held(event):
                failed += 1
                if failed > 1:
                    return False
        return failed == 1

    def missed(self, event: Event) -> str:
        """The first clause that fails, in words, and what `event` has there; empty: none."""
        for part, held in zip(self.parts, self._held, strict=True):
            if not held(event):
                return why.said(part, self._fields, event)
        return ""
