"""Folds repeats: one alert at once, one summary when the window ends."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from bpfd.alert import Alert
from bpfd.event import Event
from bpfd.rules import fields

MOST_GROUPS = 1000
"""How many groups are kept apart at a time; the events of more are folded together."""
_MOST_VALUES = 10
_LONGEST_VALUE = 256

Key = tuple[str, ...]
_REST: Key = ("", "", "and others")


@dataclass(slots=True)
class _Group:
    """What was folded since the alert that opened the window."""

    ends_s: float
    first_ns: int
    last: Event
    count: int = 0
    told: int = 1
    values: dict[str, dict[str, None]] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    """Of the summary, however often it is made before the window ends."""

    def add(self, event: Event) -> None:
        self.count += 1
        self.last = event
        for name, value in (("command", event.command), *event.data.items()):
            known = self.values.setdefault(name, {})
            if len(known) < _MOST_VALUES:
                known[value[:_LONGEST_VALUE]] = None


class Folder:
    """Folds the events of one rule whose fields `by` are equal within `window_s`. Not thread-safe.

    Times are seconds of the monotonic clock, given by the caller. Memory is bounded, whatever comes.
    """

    def __init__(self, window_s: float, by: tuple[str, ...]) -> None:
        self._window_s = window_s
        self._by = by
        self._groups: dict[Key, _Group] = {}  # in the order in which their windows end
        self._changed: set[Key] = set()

    def add(self, event: Event, now_s: float) -> bool:
        """True: `event` opens a window, and is to be told. False: it is folded."""
        key = tuple(fields.value(event, name) or "" for name in self._by)
        group = self._groups.get(key)
        if group is None and len(self._groups) >= MOST_GROUPS:
            key = _REST
            group = self._groups.get(key)
        if group is None:
            opened = _Group(now_s + self._window_s, event.time, event)
            opened.add(event)
            self._groups[key] = opened
            return True
        group.add(event)
        self._changed.add(key)
        return False

    def hold(self, event: Event, now_s: float) -> None:
        """Fold `event` without its being told, even if it opens a window: the summary tells of it."""
        if self.add(event, now_s):
            key, opened = next(reversed(self._groups.items()))
            opened.told = 0
            self._changed.add(key)

    def changed(self) -> list[Alert]:
        """The summaries, as far as they go, of windows that are still open and grew since the last call."""
        keys, self._changed = self._changed, set()
        return [self._summary(self._groups[key]) for key in keys]

    def due(self, now_s: float) -> list[Alert]:
        """The summaries of the windows that have ended. A window without repeats has none: its one event was told."""
        summaries: list[Alert] = []
        while self._groups:
            key, group = next(iter(self._groups.items()))
            if group.ends_s > now_s:
                break
            del self._groups[key]
            self._changed.discard(key)
            if group.count > group.told:
                summaries.append(self._summary(group))
        return summaries

    def next_s(self) -> float | None:
        """When the next window ends; None: there is none."""
        return next((group.ends_s for group in self._groups.values()), None)

    def _summary(self, group: _Group) -> Alert:
        span_s = (group.last.time - group.first_ns) / 1e9
        untold = group.count - group.told
        times = "once" if untold == 1 else f"{untold} times"
        more = " more" if group.told else ""
        return Alert(
            group.last,
            id=group.id,
            kind="summary",
            text=f"it happened {times}{more} within {max(span_s, 0):.0f} s",
            count=group.count,
            first_ns=group.first_ns,
            values={name: tuple(values) for name, values in group.values.items()},
        )


class Bucket:
    """A token bucket: lets `burst` through at once and `per_minute` in the long run. Not thread-safe."""

    def __init__(self, per_minute: float, burst: int) -> None:
        self._per_s = per_minute / 60
        self._burst = burst
        self._tokens = float(burst)
        self._at_s = 0.0

    def take(self, now_s: float) -> bool:
        """Take one token, if there is one."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = max(self._at_s, now_s)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
