"""One action with the settings that rules have of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bpfd.alert import Alert
from bpfd.event import Event
from bpfd.plugin import Action

MOST = 256
"""How many rules' actions are kept at a time; one that is dropped is made again when it is needed."""


class PerRule(Action):
    """Stands for a notifying action; gives each rule the action that its settings make. One thread, the action's."""

    name = "per-rule"

    def __init__(
        self, base: Action, make: Callable[[Mapping[str, Any]], Action], own: Callable[[str], Mapping[str, Any]]
    ) -> None:
        """`base` is for rules without settings; `make` makes an action with some, which `own` gives by the rule."""
        self._base = base
        self._own = own
        self._make = make
        self._made: dict[str, tuple[Mapping[str, Any], Action]] = {}

    def of(self, rule: str) -> Action:
        """The action for `rule`. Raises `ActionError` if its settings make none."""
        wanted = self._own(rule)
        known = self._made.get(rule)
        if known is not None:
            if known[0] == wanted:
                return known[1]
            self._drop(rule)
        if not wanted:
            return self._base
        if len(self._made) >= MOST:
            self._drop(next(iter(self._made)))
        made = self._make(wanted)
        self._made[rule] = (wanted, made)
        return made

    def act(self, event: Event) -> None:
        """Tell of one event."""
        self.of(event.rule).act(event)

    def send(self, alert: Alert) -> None:
        """Tell of `alert`."""
        self.of(alert.event.rule).send(alert)

    def close(self) -> None:
        """Close every action that was made, and `base`."""
        while self._made:
            self._drop(next(iter(self._made)))
        self._base.close()

    def _drop(self, rule: str) -> None:
        self._made.pop(rule)[1].close()
