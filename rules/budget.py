"""How much a pattern, or all of a tracer's, may take to be made an automaton of: steps, each about a microsecond.

Counted and not timed, so that the same rules always get the same plan.
"""

from __future__ import annotations


class TooDear(Exception):
    """The budget does not reach; the text says for what."""


class Budget:
    """What is left to be spent."""

    def __init__(self, steps: int, parent: Budget | None = None) -> None:
        """What is spent is taken from `parent` too."""
        self.left = steps
        self._parent = parent

    def spend(self, steps: int) -> None:
        """Raises `TooDear`."""
        self.left -= steps
        if self.left < 0:
            raise TooDear("it takes too long to be made an automaton of")
        if self._parent is not None:
            self._parent.spend(steps)
