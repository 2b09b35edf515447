"""Gives up alerts for actions that there are no more: nobody else would ever look at them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

from bpfd.background import Background
from bpfd.event import printable
from bpfd.outbox import Outbox

_EVERY_S = 60.0

log = logging.getLogger(__name__)


class Aging(Background):
    """Looks at the outbox when it starts, and now and then, on a thread of its own."""

    def __init__(self, outbox: Outbox, running: Callable[[], Collection[str]], keep_s: float) -> None:
        """`running` names the actions that send their alerts; what waits for others is given up after `keep_s`."""
        super().__init__("aging")
        self._outbox, self._running, self._keep_s = outbox, running, keep_s
        self._left: Mapping[str, int] = {}

    def start(self) -> None:
        """Look for the first time, and go on."""
        self._look()
        super().start()

    def problems(self) -> list[str]:
        """A line for each action that is missing while alerts wait for it."""
        return [
            f"action {printable(name)}: does not run, so that {count} of its alerts wait until they are too old;"
            " put it back into the configuration, or find them with bpfd actions dead then"
            for name, count in sorted(self._left.items())
        ]

    def _work(self) -> None:
        while not self._ends_within(min(_EVERY_S, self._keep_s)):
            try:
                self._look()
            except Exception:
                log.exception("the outbox was not looked through; it will be later")

    def _ends_within(self, wait_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._stopping, wait_s)

    def _look(self) -> None:
        before, self._left = self._left.keys(), self._outbox.age(self._running(), self._keep_s)
        if self._left.keys() - before:
            for line in self.problems():
                log.warning("%s", line)
