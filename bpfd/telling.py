"""How events become alerts: a rule's message and severity, its repeats folded, its noise bounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bpfd.alert import Alert
from bpfd.event import Event
from bpfd.fold import Bucket, Folder

BUDGET = (600.0, 20_000)
"""What a rule may tell one action through the outbox if it has no `rate`: alerts a minute, and at once.

Generous, for who is told in which order, and who is given up without room, is settled by the outbox (`bpfd.turns`);
what is beyond it is summarised.
"""
_THROTTLED_S = 60.0
_MOST_RULES = 10_000


@dataclass(frozen=True, slots=True)
class Telling:
    """How the alerts of one rule are told."""

    severity: str = "notice"
    message: Callable[[Event], str] | None = None
    """Makes the text of an alert; None: there is none."""
    fold_s: float = 0
    """The window in which repeats are folded; 0: none are."""
    by: tuple[str, ...] = ()
    """The fields whose values make events repeats of each other."""
    per_minute: float = 0
    """How many alerts a minute there may be in the long run; 0: it is not said. The rest is told of in a summary."""
    burst: int = 20
    """How many of them may come at once."""
    context: Callable[[Event], tuple[Event, ...]] | None = None
    """What happened just before; None: the alerts carry none."""

    @property
    def shapes(self) -> bool:
        """Whether the rule says that its alerts are more, or fewer, than its events."""
        return bool(self.fold_s or self.per_minute or self.context)


PLAIN = Telling()


class _Rule:
    """What one rule has going on."""

    def __init__(self, telling: Telling, budget: tuple[float, int] | None) -> None:
        self.telling = telling
        self.folder = Folder(telling.fold_s, telling.by) if telling.fold_s else None
        if telling.per_minute:
            budget = (telling.per_minute, telling.burst)
        self.bucket = Bucket(*budget) if budget else None
        self.throttled = Folder(_THROTTLED_S, ())

    @property
    def folders(self) -> list[Folder]:
        return [folder for folder in (self.folder, self.throttled) if folder is not None]


class Teller:
    """Turns the events for one action into alerts. One thread.

    Each action has its own, so that one that is slow holds up nobody's summaries.
    """

    def __init__(self, telling: Callable[[str], Telling], budget: tuple[float, int] | None = None) -> None:
        """`telling` says how the rule of a name is told now; a new answer takes the place of the old one.

        `budget` is for rules that name none: alerts a minute in the long run, and at once; None: any number.
        """
        self._telling = telling
        self._budget = budget
        self._rules: dict[str, _Rule] = {}
        self._left: list[Alert] = []

    def tell(self, events: list[Event], now_s: float) -> list[Alert]:
        """The alerts that `events` make at once, after the summaries that are due."""
        alerts = self.due(now_s)
        for event in events:
            rule = self._rule(event.rule)
            if rule is None:
                alerts.append(Alert(event))
            elif self._passes(rule, event, now_s):
                alerts.append(_dressed(Alert(event), rule.telling))
        return alerts

    def due(self, now_s: float) -> list[Alert]:
        """The summaries of the windows that have ended; infinity: of all."""
        alerts, self._left = self._left, []
        for rule in self._rules.values():
            for folder in rule.folders:
                alerts += [_dressed(alert, rule.telling) for alert in folder.due(now_s)]
        return alerts

    def changed(self) -> list[Alert]:
        """The summaries, as far as they go, of open windows that grew since the last call; those that end them have the
        same ids."""
        return [
            _dressed(alert, rule.telling)
            for rule in self._rules.values()
            for folder in rule.folders
            for alert in folder.changed()
        ]

    def next_s(self) -> float | None:
        """When the next summary is due, on the monotonic clock; None: there is none."""
        folders = [folder for rule in self._rules.values() for folder in rule.folders]
        return min((next_s for folder in folders if (next_s := folder.next_s()) is not None), default=None)

    def _passes(self, rule: _Rule, event: Event, now_s: float) -> bool:
        if rule.folder is not None and not rule.folder.add(event, now_s):
            return False
        if rule.bucket is None or rule.bucket.take(now_s):
            return True
        rule.throttled.hold(event, now_s)
        return False

    def _rule(self, name: str) -> _Rule | None:
        """What the rule has going on; None: it is told plainly."""
        telling = self._telling(name)
        known = self._rules.get(name)
        if known is not None and known.telling == telling:
            return known
        if known is not None:  # the rule was changed: what it folded is told now
            del self._rules[name]
            self._left += _rest(known)
        if telling == PLAIN and self._budget is None:
            return None
        if len(self._rules) >= _MOST_RULES:
            oldest = self._rules.pop(next(iter(self._rules)))
            self._left += _rest(oldest)
        self._rules[name] = made = _Rule(telling, self._budget)
        return made


def _rest(rule: _Rule) -> list[Alert]:
    """The summaries of all windows of a rule that is no more, or told in another way."""
    return [_dressed(alert, rule.telling) for folder in rule.folders for alert in folder.due(float("inf"))]


def _dressed(alert: Alert, telling: Telling) -> Alert:
    text = alert.text
    if telling.message is not None:
        said = telling.message(alert.event)
        text = f"{said}; {text}" if text else said
    context = telling.context(alert.event) if telling.context is not None and alert.kind == "event" else ()
    return replace(alert, text=text, severity=telling.severity, context=context)
