"""Keeps the kernel from acting for a rule where nobody could ask: while it is muted, and when it did too much.

What the kernel did is told afterwards, so it is written down and counted here. A rule that is held acts from user space
instead, behind the mutes and the guard, as if it said `where = "user"`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from bpfd.alert import Alert
from bpfd.background import Background
from bpfd.event import Event, printable
from bpfd.guard import Radius, entry_of, target
from bpfd.kernel.record import KERNEL_ACTION
from bpfd.ledger import Ledger
from bpfd.limits import Limits
from bpfd.mutes import Mutes
from bpfd.plugin import Action

_LONGEST_WAIT_S = 60.0
_AGAIN_S = 5.0

log = logging.getLogger(__name__)


class Restraint(Background):
    """Says which rules are held, and on a thread of its own sees to it that they are. Any thread."""

    def __init__(self, mutes: Mutes, ledger: Ledger, notify: Callable[[Alert], None], limits: Limits) -> None:
        """`notify` tells of a rule that is held because it did too much."""
        super().__init__("restraint")
        self._mutes, self._ledger, self._notify = mutes, ledger, notify
        self._most, self._window_s = limits.in_kernel, limits.window_s
        self._radius = Radius(self._most, float("inf"), self._window_s)
        self._resting: dict[str, float] = {}
        """Rules that did too much, and until when they are held."""
        self._applied: frozenset[str] = frozenset()
        self.apply: Callable[[], None] = lambda: None
        """Has the rules put in force again, as `held` says, and then calls `applied`; on any thread."""

    def held(self) -> frozenset[str]:
        """The rules that the kernel may not act for now."""
        with self._changed:
            return self._now()

    def applied(self, held: frozenset[str]) -> None:
        """Rules are in force, and the kernel holds those."""
        with self._changed:
            self._applied = held
            self._changed.notify()  # the next end may be another

    def settle(self) -> None:
        """Have the kernel hold what is to be held; on return it does. Call it after a change of the mutes."""
        with self._changed:
            differs = self._now() != self._applied and not self._stopping
        if differs:
            self.apply()

    def problems(self) -> list[str]:
        """A line for each rule that did too much."""
        with self._changed:
            resting = sorted(self._now() & self._resting.keys())
        return [
            f"rule {printable(rule)}: the kernel acted for it more than {self._most} times within"
            f" {self._window_s:g} s, so it rests; see bpfd actions log"
            for rule in resting
        ]

    def note(self, events: list[Event]) -> None:
        """Write down what the kernel did on `events`, and hold a rule that did too much. Waits for the disk."""
        for event in events:
            self._write(event)
            if self._is_too_much(event.rule):
                text = (
                    f"{event.data[KERNEL_ACTION]} inside the kernel was carried out more than {self._most} times within"
                    f" {self._window_s:g} s, at last on {target(event)}: the kernel rests for this rule for as long"
                )
                log.warning("rule %s: %s", printable(event.rule), text)
                self._hold()
                self._notify(Alert(event, kind="notice", text=text))

    def _hold(self) -> None:
        """Settle; where that fails the thread tries again, and the rest of what was done is noted meanwhile."""
        try:
            self.settle()
        except Exception:
            log.exception("the rules were not put in force again; it is tried again soon")
            with self._changed:
                self._changed.notify()

    def _write(self, event: Event) -> None:
        entry = entry_of(event.data[KERNEL_ACTION], event, "done", "inside the kernel")
        self._ledger.write(replace(entry, time_ns=event.time))

    def _is_too_much(self, rule: str) -> bool:
        """Count once for `rule`; whether it is held from now on."""
        if self._radius.take(rule):
            return False
        now_s = time.monotonic()
        with self._changed:
            if self._resting.get(rule, 0.0) > now_s:
                return False
            self._resting[rule] = now_s + self._window_s
            return True

    def _now(self) -> frozenset[str]:
        """The lock is held."""
        now_s = time.monotonic()
        self._resting = {rule: until_s for rule, until_s in self._resting.items() if until_s > now_s}
        return frozenset(self._resting) | {mute.rule for mute in self._mutes.in_force()}

    def _work(self) -> None:
        longest_s = _LONGEST_WAIT_S
        while True:
            with self._changed:
                if not self._stopping:
                    self._changed.wait(min(longest_s, self._wait_s()))
                if self._stopping:
                    return
            try:
                self.settle()
                longest_s = _LONGEST_WAIT_S
            except Exception:
                log.exception("the rules were not put in force again; it is tried again soon")
                longest_s = _AGAIN_S

    def _wait_s(self) -> float:
        """Until the next hold ends; the lock is held. Never long: the wall clock may be set."""
        ends = [until_s - time.monotonic() for until_s in self._resting.values()]
        ends += [(mute.until_ns - time.time_ns()) / 1e9 for mute in self._mutes.in_force()]
        return max(0.01, min([_LONGEST_WAIT_S, *ends]))


class Noting(Action):
    """Stands behind an `ActionRunner` for what the kernel did."""

    name = "kernel"

    def __init__(self, restraint: Restraint) -> None:
        self._restraint = restraint

    def act(self, event: Event) -> None:
        """Note one event."""
        self._restraint.note([event])

    def act_on_batch(self, events: list[Event]) -> None:
        """Note many."""
        self._restraint.note(events)
