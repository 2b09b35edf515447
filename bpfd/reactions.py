"""What each rule in force says of its alerts and responses, for the workers of actions to ask."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

from bpfd.errors import ActionError
from bpfd.event import Event, printable
from bpfd.recent import Recent
from bpfd.respond import Actions
from bpfd.rules import output
from bpfd.rules.model import Fold, Rate, Rule
from bpfd.telling import PLAIN, Telling

log = logging.getLogger(__name__)


class _Reaction(NamedTuple):
    rule: Rule
    telling: Telling


class Reactions:
    """By rule. `apply` and `prepare` belong to the control plane; the others are called by workers of actions."""

    def __init__(self, observe: bool = False) -> None:
        """`observe`: no response of any rule is carried out."""
        self._observe = observe
        self._recent = Recent()
        self._reactions: Mapping[str, _Reaction] = {}
        """A new mapping for each change, since workers read it."""
        self.problems: Mapping[str, str] = {}
        """What is wrong with the actions of rules, by the rule; a line for each."""

    def apply(self, rules: Collection[Rule]) -> None:
        """Have these rules in force. One that is as before keeps what it has: its alerts may be folding."""
        before = self._reactions
        now = {}
        for rule in rules:
            kept = before.get(rule.name)
            if kept is None or (kept.rule is not rule and kept.rule != rule):
                kept = _Reaction(rule, _telling(rule, self._recent))
            now[rule.name] = kept
        self._reactions = now

    def keep(self, rules: Collection[Rule]) -> Callable[[Event], object] | None:
        """What events that reach the daemon are to be given to, for the rules that ask for context; None: none does."""
        if any(rule.context for rule in rules):
            return self._recent.add
        self._recent.clear()
        return None

    def prepare(self, actions: Actions, rules: Collection[Rule]) -> None:
        """Make the actions that rules name. One that can't be made spoils no other: it is logged, and in `problems`."""
        bad: dict[str, str] = {}
        for name in {name for rule in rules for name in rule.actions}:
            try:
                actions.prepare([name])
            except ActionError as error:
                bad[name] = str(error)
        problems = {rule.name: text for rule in rules if (text := _problem(actions, rule, bad))}
        for name, problem in problems.items():
            if problem != self.problems.get(name):
                log.error("rule %s: %s", printable(name), problem)
        self.problems = problems

    def lines(self) -> list[str]:
        """The problems, each with its rule."""
        return [f"rule {printable(name)}: {problem}" for name, problem in self.problems.items()]

    def telling(self, rule: str) -> Telling:
        """How alerts of a rule are told."""
        found = self._reactions.get(rule)
        return PLAIN if found is None else found.telling

    def observes(self, rule: str) -> str:
        """Why the rule's responses are not carried out; empty: they are."""
        if self._observe:
            return "bpfd only observes"
        found = self._reactions.get(rule)
        return "" if found is None or found.rule.mode == "act" else "the rule only observes"

    def settings(self, rule: str, action: str) -> Mapping[str, Any]:
        """The settings that a rule has of its own for an action."""
        found = self._reactions.get(rule)
        return {} if found is None else found.rule.settings.get(action, {})

    def names(self, rule: str) -> tuple[str, ...]:
        """The actions that a rule names."""
        found = self._reactions.get(rule)
        return () if found is None else found.rule.actions


def _problem(actions: Actions, rule: Rule, bad: Mapping[str, str]) -> str:
    lines = [bad[name] for name in rule.actions if name in bad] if bad else []
    if rule.settings and not lines:
        try:
            actions.check(rule.settings)
        except ActionError as error:
            lines.append(str(error))
    return "\n".join(lines)


def _telling(rule: Rule, recent: Recent) -> Telling:
    message = output.compile(rule.output) if rule.output else None
    fold, rate = rule.fold or Fold(0), rule.rate or Rate(0, 0)
    before = partial(recent.sparing, count=rule.context) if rule.context else None
    return Telling(rule.severity, message, fold.window_ns / 1e9, fold.by, rate.per_minute, rate.burst, before)
