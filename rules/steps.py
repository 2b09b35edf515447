"""The steps of rules with a `sequence`: rules that there must be, and that must be able to fire."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from bpfd.rules.model import Rule, Sequence
from bpfd.rules.nearest import hint, quoted
from bpfd.rules.problems import Problems


def unknown(rule: Rule, names: Collection[str]) -> tuple[str, ...]:
    """The problems of a rule whose sequence names rules that are not among `names`. Empty: none."""
    problems = Problems(rule.source)
    for index, name in enumerate(of(rule)):
        if name == rule.name:
            problems.add(("sequence", index), "is the rule itself; name another")
        elif name not in names:
            problems.add(("sequence", index), _is_missing(name, names))
    return problems.lines(rule.text) if problems else ()


def idle(rules: Mapping[str, Rule], failed: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The enabled rules whose sequence can't become whole as things are, by name, each with its problems as lines.

    `rules` are all that there are, by name; `failed` are tracers that do not run.
    """
    able = {rule.name for rule in rules.values() if rule.enabled and not of(rule) and rule.tracer not in failed}
    waiting = {rule.name: set(of(rule)) for rule in rules.values() if rule.enabled and of(rule)}
    while more := {name for name, needed in waiting.items() if needed <= able}:
        able |= more  # a sequence may be a step of another
        waiting = {name: needed for name, needed in waiting.items() if name not in more}
    return {name: _lacks(rules[name], able, rules) for name in waiting}


def of(rule: Rule) -> tuple[str, ...]:
    """The names of the rule's steps; empty: it has no sequence."""
    return rule.window.rules if isinstance(rule.window, Sequence) else ()


def _lacks(rule: Rule, able: Collection[str], rules: Mapping[str, Rule]) -> tuple[str, ...]:
    problems = Problems(rule.source)
    for index, name in enumerate(of(rule)):
        if name not in rules:
            problems.add(("sequence", index), _is_missing(name, rules))
        elif not rules[name].enabled:
            problems.add(("sequence", index), f"rule {quoted(name)} is not enabled; enable it, or name another")
        elif name not in able:
            problems.add(("sequence", index), f"rule {quoted(name)} can't fire; mend what bpfd ls says of it")
    return problems.lines(rule.text)


def _is_missing(name: str, names: Collection[str]) -> str:
    return f"there is no rule {quoted(name)}; {hint(name, names, 'rules')}"
