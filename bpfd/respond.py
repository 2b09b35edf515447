"""The actions of this daemon: made from the configuration, given events, ended."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from bpfd import options
from bpfd.action_keys import common_keys
from bpfd.alert import Alert
from bpfd.complaints import describe
from bpfd.counters import Counters
from bpfd.delivery import Delivery, Retry
from bpfd.errors import ActionError, SettingsError
from bpfd.event import Event
from bpfd.guard import Guard, Guarded
from bpfd.limits import Limits
from bpfd.mutes import Mutes
from bpfd.outbox import Outbox
from bpfd.per_rule import PerRule
from bpfd.plugin import Action
from bpfd.posting import Direct, Posting
from bpfd.rules.nearest import hint, quoted
from bpfd.runner import ActionRunner
from bpfd.telling import PLAIN, Telling


class Actions:
    """Every action instance of this daemon, by name.

    `deliver` belongs to the event thread, the rest to the control plane.
    """

    def __init__(
        self,
        classes: Mapping[str, type[Action]],
        tables: Mapping[str, Mapping[str, Any]],
        counters: Counters,
        queue_size: int,
        outbox: Outbox | None = None,
        guard: Guard | None = None,
        telling: Callable[[str], Telling] = lambda rule: PLAIN,
        mutes: Mutes | None = None,
        own: Callable[[str, str], Mapping[str, Any]] = lambda rule, action: {},
        names: Callable[[str], tuple[str, ...]] = lambda rule: (),
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        """`classes` are the plugins' actions by name, `tables` is `Settings.actions`; each table makes one instance.

        Durable notifiers go through `outbox`, which is closed by whoever made it, after `stop`. None: they are told
        at once, and nothing is kept or tried again. Responders are run by `guard`; None: nothing watches over them.
        `telling` says how the alerts of a rule are told, by its name; called on workers.
        What `mutes` hide reaches no action. `own` gives the settings that a rule has of its own for an action, and
        `names` the actions that a rule names; both are called on workers. `limits` stands where a table says nothing.

        Raises `SettingsError` with all that is wrong, naming table and key; then nothing is left running.
        """
        self._classes = classes
        self._tables = tables
        self._counters = counters
        self._queue_size = queue_size
        self._outbox = outbox
        self._guard = guard
        self._telling = telling
        self._mutes = mutes
        self._own = own
        self._names = names
        self._limits = limits
        self._lock = threading.Lock()
        """Held while an instance is made: by the control plane, or by what takes responses back."""
        self._runners: dict[str, ActionRunner] = {}
        self._deliveries: list[Delivery] = []
        self._direct: dict[str, ActionRunner] = {}
        """The notifiers that are told at once, without the outbox."""
        self._responders: dict[str, Action] = {}
        problems: list[str] = []
        for name, table in tables.items():
            try:
                self._start(name, table)
            except ActionError as error:
                problems += [f"[actions.{name}] {text}" for text in str(error).splitlines()]
        if problems:
            self.stop(1)
            raise SettingsError("\n".join(problems))

    def running(self) -> set[str]:
        """The notifiers whose alerts are sent from the outbox."""
        return {delivery.name for delivery in self._deliveries}

    def names(self) -> list[str]:
        """What a rule may name: the plugins' actions and the configured instances, sorted."""
        return sorted({*self._classes, *self._runners})

    def prepare(self, names: Iterable[str]) -> None:
        """Make the instances that rules are about to use; call before they are in force. Raises `ActionError`."""
        for name in names:
            with self._lock:
                if name in self._runners:
                    continue
                try:
                    self._start(name, {})
                except ActionError as error:
                    raise ActionError(f"action {name}: {error}") from None

    def check(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """See that actions can be made with these settings of a rule, by action. Raises `ActionError`."""
        for name, own in settings.items():
            action_class, base = self._checked(name, self._tables.get(name, {}))
            try:
                _make(action_class, {**base, **own}).close()
            except ActionError as error:
                raise ActionError(f"settings.{name}: {error}") from None

    def responders(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of `names` that act on processes and containers."""
        return tuple(name for name in names if (kind := self._class(name)) is not None and kind.responds)

    def per_rule(self) -> dict[str, tuple[str, ...]]:
        """For each name that a rule may use the settings that it may set by itself."""
        return {name: kind.per_rule for name in self.names() if (kind := self._class(name)) is not None}

    def deliver(self, names: Iterable[str], events: list[Event]) -> None:
        """Hand `events` of one rule, oldest first, to each action of `names`; never waits.

        The list must not be changed afterwards.
        """
        if self._mutes is not None:
            events = self._mutes.passing(events)
            if not events:
                return
        for name in names:
            runner = self._runners.get(name)
            if runner is None:
                self._counters.add(f"action.{name}.dropped", len(events))
            else:
                runner.put(events)

    def find(self, name: str) -> Action | None:
        """The responding action of instance `name`, made if it does not run; None: there is none."""
        try:
            self.prepare([name])
        except ActionError:
            return None
        return self._responders.get(name)

    def notify(self, alert: Alert, otherwise: tuple[str, ...] = ()) -> None:
        """Tell `alert` to the notifiers that its rule names, or else to those of `otherwise`, or else to all that run.

        Waits for the disk: not for the event thread.
        """
        durable, direct = self.running(), dict(self._direct)
        running = (*sorted(durable), *direct)
        named = self._names(alert.event.rule)
        chosen = next((some for names in (named, otherwise) if (some := [n for n in names if n in running])), running)
        alert = replace(alert, severity=self._severity(alert.event.rule))
        for name in chosen:
            if name in direct:
                direct[name].tell(alert)
            elif self._outbox is not None:
                self._outbox.put(name, [alert])

    def stop(self, timeout_s: float) -> None:
        """End every action within about `timeout_s`; see `ActionRunner.stop` and `Delivery.stop`."""
        deadline = time.monotonic() + timeout_s
        for runner in self._runners.values():
            runner.begin_stop(timeout_s)
        for runner in self._runners.values():
            runner.stop(max(0.0, deadline - time.monotonic()))
        for delivery in self._deliveries:
            delivery.begin_stop(max(0.0, deadline - time.monotonic()))
        for delivery in self._deliveries:
            delivery.stop(max(0.1, deadline - time.monotonic()))
        self._runners, self._direct, self._deliveries = {}, {}, []

    def test(self, name: str) -> None:
        """Tell a sample through a fresh instance of the notifier `name`; returns once it was taken.

        Any thread but the event thread: it waits for the receiver. Raises `ActionError` with what went wrong, and for
        a responder, which would hit somebody.
        """
        action_class, settings = self._checked(name, self._tables.get(name, {}))
        if action_class.responds:
            raise ActionError(f"{name}: acts on processes or containers; only what tells somebody can be tried")
        action = _make(action_class, settings)
        try:
            action.send(Alert(_sample(), kind="notice", text="This is a test of bpfd; nothing happened."))
        except ActionError:
            raise
        except Exception as error:  # a stranger's code
            raise ActionError(f"{name}: {describe(error)}") from error
        finally:
            action.close()

    def _checked(self, name: str, table: Mapping[str, Any]) -> tuple[type[Action], dict[str, Any]]:
        """The class of an instance and its own settings. Raises `ActionError`."""
        kind = table.get("type", name)
        action_class = self._class(name, table)
        if action_class is None:
            raise ActionError(f"type: unknown action {quoted(kind)}; {hint(str(kind), self._classes, 'actions')}")
        common = common_keys(action_class)
        settings = {key: value for key, value in table.items() if key not in common}
        unknown = [
            f"unknown key {quoted(key)}; {hint(key, [*action_class.settings, *common], 'keys')}"
            for key in settings
            if key not in action_class.settings
        ]
        if unknown:
            raise ActionError("\n".join(unknown))
        return action_class, settings

    def _class(self, name: str, table: Mapping[str, Any] | None = None) -> type[Action] | None:
        """The class of instance `name`; None: there is none."""
        kind = (self._tables.get(name, {}) if table is None else table).get("type", name)
        return self._classes.get(kind) if isinstance(kind, str) else None

    def _start(self, name: str, table: Mapping[str, Any]) -> None:
        action_class, settings = self._checked(name, table)
        retry = _retry(table, self._limits.outbox_age_s)
        expire_s = options.seconds(table, "expire", self._limits.expire_s, 0.001, 3600)
        action = _make(action_class, settings)
        action.severity_of = self._severity
        _begin(action, self._counters)
        by_rule = PerRule(
            action, lambda own: _make(action_class, {**settings, **own}), lambda rule: self._own(rule, name)
        )
        counters, size = self._counters, self._queue_size
        if action_class.responds:
            self._responders[name] = action
            if self._guard is None:
                runner = ActionRunner(name, action, counters, size, expire_s)
            else:
                expired = partial(self._guard.expired, name)
                guarded = Guarded(name, by_rule, self._guard)
                runner = ActionRunner(name, guarded, counters, size, expire_s, expired=expired)
        elif self._outbox is not None and action_class.durable:
            teller = by_rule if action_class.per_rule else action
            self._deliveries.append(Delivery(name, teller, self._outbox, counters, retry))
            posting = Posting(self._outbox, name, self._telling)
            runner = ActionRunner(
                name, posting, counters, size, done="stored", tick=posting.tick, severity=self._severity
            )
        else:
            teller = by_rule if action_class.per_rule else action
            runner = self._tell_at_once(name, teller, action_class)
        # A new mapping beside the old one: the event thread reads it meanwhile.
        self._runners = {**self._runners, name: runner}

    def _severity(self, rule: str) -> str:
        return self._telling(rule).severity

    def _tell_at_once(self, name: str, action: Action, action_class: type[Action]) -> ActionRunner:
        """The runner of a notifier that is not durable. Without a `send` it knows no alerts, only every event."""
        if action_class.send is Action.send:
            return ActionRunner(name, action, self._counters, self._queue_size, severity=self._severity)
        direct = Direct(action, self._telling)
        batched = type(action).act_on_batch is not Action.act_on_batch
        runner = ActionRunner(
            name,
            direct,
            self._counters,
            self._queue_size,
            tick=direct.tick,
            batched=batched,
            severity=self._severity,
        )
        self._direct = {**self._direct, name: runner}
        return runner


def _retry(table: Mapping[str, Any], keep_s: float) -> Retry:
    default = Retry()
    return Retry(
        first_s=options.seconds(table, "retry_first", default.first_s, 0.001, 3600),
        longest_s=options.seconds(table, "retry_longest", default.longest_s, 0.001, 86400),
        tries=options.whole(table, "retries", default.tries, 1, 1_000_000),
        keep_s=options.seconds(table, "keep", keep_s, 1, 365 * 86400),
    )


def _sample() -> Event:
    return Event(time.time_ns(), "test", os.getpid(), os.getpid(), os.getppid(), os.getuid(), os.getgid(), "bpfd", 0)


def _make(action_class: type[Action], settings: Mapping[str, Any]) -> Action:
    try:
        return action_class(settings)
    except ActionError:
        raise
    except Exception as error:  # a stranger's code
        raise ActionError(f"cannot be made: {describe(error)}") from error


def _begin(action: Action, counters: Counters) -> None:
    try:
        action.begin(counters.table)
    except Exception as error:
        action.close()
        if isinstance(error, ActionError):
            raise
        raise ActionError(f"cannot begin: {describe(error)}") from error  # a stranger's code
