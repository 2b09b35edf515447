"""Whose alert is told next, and whose is given up: rules take turns, and a more severe one has more of them."""

from __future__ import annotations

from collections.abc import Mapping

from bpfd.rules.model import SEVERITIES

STEP: Mapping[str, int] = {severity: 1 << number for number, severity in enumerate(SEVERITIES)}
"""How far an alert is behind the one before it of the same rule: 1 for an emergency, 128 for what is for debugging."""
_MOST_RULES = 10_000


class Turns:
    """Gives the alerts for one action their turns. Not thread-safe.

    The lowest turn is told first; where there is no room, the highest is given up. This is self-clocked fair queueing
    (Golestani, "A self-clocked fair queueing scheme for broadband applications", INFOCOM 1994): while several rules
    have alerts waiting, each is told in proportion to 1 / step, whatever the others put in. So none starves, the noisy
    one waits for itself, and the first alert of a rule that was quiet comes before the rest of one that is not.
    """

    def __init__(self, now: int = 0) -> None:
        """`now` is the turn of what was told last."""
        self.now = now
        self._last: dict[str, int] = {}

    def give(self, rule: str, severity: str) -> int:
        """The turn of a new alert of `rule`."""
        turn = max(self.now, self._last.get(rule, 0)) + _step(severity)
        if len(self._last) >= _MOST_RULES:
            self._last = {name: last for name, last in self._last.items() if last > self.now}
        self._last[rule] = turn
        return turn

    def take_back(self, rule: str, severity: str, turn: int) -> None:
        """The alert of `rule` with the highest turn was given up: the rule's next does not wait for it."""
        last = self._last.get(rule, 0)
        self._last[rule] = min(last, turn - _step(severity))

    def told(self, turn: int) -> None:
        """The alert with that turn was told, or its turn is over otherwise."""
        self.now = max(self.now, turn)

    def waits(self, rule: str, turn: int) -> None:
        """An alert of `rule` waits since before, with that turn."""
        self._last[rule] = max(self._last.get(rule, 0), turn)


def _step(severity: str) -> int:
    return STEP.get(severity, STEP["notice"])
