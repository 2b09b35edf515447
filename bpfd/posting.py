"""What stands for a notifier behind an `ActionRunner`: makes alerts of events, and puts them where they belong."""

from __future__ import annotations

import time
from collections.abc import Callable

from bpfd.alert import Alert
from bpfd.event import Event
from bpfd.outbox import Outbox
from bpfd.plugin import Action
from bpfd.telling import BUDGET, Teller, Telling


class Posting(Action):
    """Puts what a durable notifier is to tell into the outbox."""

    name = "outbox"

    def __init__(self, outbox: Outbox, action: str, telling: Callable[[str], Telling]) -> None:
        self._outbox = outbox
        self._action = action
        self._teller = Teller(telling, BUDGET)

    def act(self, event: Event) -> None:
        """Keep one event."""
        self.act_on_batch([event])

    def act_on_batch(self, events: list[Event]) -> None:
        """Keep what is to be told of `events`, and what was folded of them, in one transaction."""
        self._put(self._teller.tell(events, time.monotonic()))

    def tick(self) -> float | None:
        """Keep the summaries that are due; in how many seconds the next one is."""
        self._put(self._teller.due(time.monotonic()))
        return _wait_s(self._teller)

    def close(self) -> None:
        """Keep every summary that is still open: they are told, now or after the next start."""
        self._put(self._teller.due(float("inf")))

    def _put(self, alerts: list[Alert]) -> None:
        windows = self._teller.changed()
        if alerts or windows:
            self._outbox.put(self._action, alerts, windows)


class Direct(Action):
    """Tells a notifier that is not durable at once: events as they are, unless their rule says how they are told."""

    name = "direct"

    def __init__(self, action: Action, telling: Callable[[str], Telling]) -> None:
        self._action = action
        self._telling = telling
        self._teller = Teller(telling)

    def act(self, event: Event) -> None:
        """Tell of one event."""
        if self._telling(event.rule).shapes:
            self._send(self._teller.tell([event], time.monotonic()))
        else:
            self._action.act(event)

    def act_on_batch(self, events: list[Event]) -> None:
        """Tell of many."""
        shaped = {rule for rule in {event.rule for event in events} if self._telling(rule).shapes}
        if not shaped:
            self._action.act_on_batch(events)
            return
        plain = [event for event in events if event.rule not in shaped]
        if plain:
            self._action.act_on_batch(plain)
        self._send(self._teller.tell([event for event in events if event.rule in shaped], time.monotonic()))

    def send(self, alert: Alert) -> None:
        """Tell of `alert`."""
        self._action.send(alert)

    def tick(self) -> float | None:
        """Tell the summaries that are due; in how many seconds the next one is."""
        self._send(self._teller.due(time.monotonic()))
        return _wait_s(self._teller)

    def close(self) -> None:
        """Tell every summary that is still open, and close the notifier."""
        try:
            self._send(self._teller.due(float("inf")))
        finally:
            self._action.close()

    def _send(self, alerts: list[Alert]) -> None:
        for alert in alerts:
            self._action.send(alert)


def _wait_s(teller: Teller) -> float | None:
    next_s = teller.next_s()
    return None if next_s is None else max(0.0, next_s - time.monotonic())
