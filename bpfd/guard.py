"""What keeps responses from doing harm: protected targets, a blast radius, a mode that only watches, a ledger."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

from bpfd.alert import Alert
from bpfd.complaints import describe
from bpfd.errors import RefusedError, TargetGoneError, WithheldError
from bpfd.event import Event, printable
from bpfd.ledger import Entry, Ledger
from bpfd.limits import Limits
from bpfd.per_rule import PerRule
from bpfd.plugin import Action
from bpfd.protected import Protected

_NOTICE_S = 60.0
_MOST_RULES = 10_000

log = logging.getLogger(__name__)


class Radius:
    """Counts responses in a sliding window. Any thread."""

    def __init__(self, per_rule: int, in_all: float, window_s: float) -> None:
        """How many of one rule there may be within `window_s`, and how many of all."""
        self._per_rule, self._in_all, self._window_s = per_rule, in_all, window_s
        self._lock = threading.Lock()
        self._taken: deque[tuple[float, str]] = deque()
        self._of_rule: Counter[str] = Counter()

    def take(self, rule: str) -> bool:
        """Count one response of `rule`; False if there have been enough, and then it is not counted."""
        now_s = time.monotonic()
        with self._lock:
            while self._taken and now_s - self._taken[0][0] >= self._window_s:
                self._uncount(self._taken.popleft()[1])
            if len(self._taken) >= self._in_all or self._of_rule[rule] >= self._per_rule:
                return False
            self._taken.append((now_s, rule))
            self._of_rule[rule] += 1
            return True

    def give_back(self, rule: str) -> None:
        """Take back the last count of `rule`: there was nothing to respond to."""
        with self._lock:
            for index in range(len(self._taken) - 1, -1, -1):
                if self._taken[index][1] == rule:
                    del self._taken[index]
                    self._uncount(rule)
                    return

    def _uncount(self, rule: str) -> None:
        self._of_rule[rule] -= 1
        if not self._of_rule[rule]:
            del self._of_rule[rule]


class Guard:
    """Stands between events and responding actions. Called on the actions' workers, by several at once."""

    def __init__(
        self,
        ledger: Ledger,
        notify: Callable[[Alert], None],
        limits: Limits = Limits(),  # noqa: B008 - frozen
        protected: Iterable[str] = (),
        observes: Callable[[str], str] = lambda rule: "",
        around: Callable[[str, Event, float], AbstractContextManager[None]] | None = None,
    ) -> None:
        """`notify` tells of a response that was withheld. `protected` is what is not hit beside what `Protected` knows.
        `observes` says why a rule's responses are only told of and not carried out; empty: they are carried out.
        `around` is `Undoer.around`.
        """
        self._ledger = ledger
        self._notify = notify
        self._radius = Radius(limits.per_rule, limits.in_all, limits.window_s)
        self._protected = Protected(protected)
        self._observes = observes
        self._around = around
        self._lock = threading.Lock()
        self._noticed: dict[tuple[str, str], tuple[float, int]] = {}

    def respond(self, name: str, action: Action, event: Event) -> None:
        """Carry out `action` on `event`, if nothing speaks against it, and write down what became of it.

        Raises what the action raises, `RefusedError` for a protected target, and `WithheldError` beyond the blast
        radius or where the rule only observes.
        """
        try:
            self._check(action, event)
            if reason := self._observes(event.rule):
                self._withhold(name, event, "would have been carried out", reason)
            if not self._radius.take(event.rule):
                self._withhold(name, event, "was not carried out", "there were too many responses within a minute")
            self._carry_out(name, action, event)
        except Exception as error:
            self._write(name, event, _RESULTS.get(type(error), "failed"), describe(error))
            raise
        self._write(name, event, "done", "")

    def expired(self, name: str, event: Event) -> None:
        """Write down that `event` came too late to be responded to."""
        self._write(name, event, "expired", "the event was too long ago")

    def _carry_out(self, name: str, action: Action, event: Event) -> None:
        noted: AbstractContextManager[None] = nullcontext()
        if action.undo_after_s and self._around is not None:
            noted = self._around(name, event, action.undo_after_s)
        action.spares, action.spares_container = self._protected.spares, self._protected.containers.__contains__
        try:
            with noted:
                action.act(event)
        except (TargetGoneError, RefusedError):
            self._radius.give_back(event.rule)
            raise

    def _check(self, action: Action, event: Event) -> None:
        self._protected.refuse(event, action.acts_on)

    def _withhold(self, name: str, event: Event, what: str, reason: str) -> None:
        key = (name, event.rule)
        now_s = time.monotonic()
        with self._lock:
            since_s, more = self._noticed.get(key, (-_NOTICE_S, 0))
            told = now_s - since_s < _NOTICE_S
            if len(self._noticed) >= _MOST_RULES:
                self._noticed.clear()
            self._noticed[key] = (since_s, more + 1) if told else (now_s, 0)
        if not told:
            before = f"; {more} more were withheld before" if more else ""
            text = f"{name} {what} on {target(event)}: {reason}{before}"
            log.warning("rule %s: %s", printable(event.rule), text)
            self._notify(Alert(event, kind="notice", text=text))
        raise WithheldError(reason)

    def _write(self, name: str, event: Event, result: str, detail: str) -> None:
        self._ledger.write(entry_of(name, event, result, detail))


_RESULTS: Mapping[type[Exception], str] = {TargetGoneError: "gone", RefusedError: "refused", WithheldError: "withheld"}


class Guarded(Action):
    """Stands for a responding action behind an `ActionRunner`."""

    name = "guarded"
    responds = True

    def __init__(self, name: str, actions: PerRule, guard: Guard) -> None:
        self._name = name
        self._actions = actions
        self._guard = guard

    def act(self, event: Event) -> None:
        """Respond to `event`, under guard."""
        self._guard.respond(self._name, self._actions.of(event.rule), event)

    def close(self) -> None:
        """Close the actions."""
        self._actions.close()


def entry_of(action: str, event: Event, result: str, detail: str) -> Entry:
    """What the ledger has of a response now."""
    return Entry(time.time_ns(), action, event.rule, target(event), result, detail, event.as_dict())


def target(event: Event) -> str:
    """The process and container of `event` in a few words."""
    where = f" in {event.container.runtime} {event.container.id[:12]}" if event.container.id else ""
    return printable(f"process {event.pid} ({event.command}){where}")
