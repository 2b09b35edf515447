"""Runs the tests that a rule's file holds."""

from __future__ import annotations

from bpfd.plugin import Field
from bpfd.rules import predicate, why
from bpfd.rules.model import Rule
from bpfd.rules.problems import Problems


def run(rule: Rule, tracer_fields: tuple[Field, ...], problems: Problems) -> None:
    """Judge each of the rule's own events; notes those that come out other than expected, with the clauses to blame."""
    if not rule.examples:
        return
    matches = predicate.compile(rule.condition, tracer_fields)
    for example in rule.examples:
        if matches(example.event) is example.matches:
            continue
        if example.matches:
            blame = ", ".join(why.failed(rule.condition, tracer_fields, example.event)[:3])
            what = f"the rule does not match this event ({blame}); mend the rule or the test"
        else:
            what = "the rule matches this event; mend the rule or the test"
        problems.add(("tests", example.number - 1), what)
