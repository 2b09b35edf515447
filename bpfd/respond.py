"""The actions of this daemon: made from the configuration, given events, ended."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bpfd import options
from bpfd.alert import Alert
from bpfd.complaints import describe
from bpfd.counters import Counters
from bpfd.delivery import Delivery, Retry
from bpfd.errors import ActionError, SettingsError
from bpfd.event import Event
from bpfd.guard import Guard, Guarded
from bpfd.mutes import Mutes
from bpfd.outbox import Outbox, Posting
from bpfd.plugin import Action
from bpfd.rules.nearest import hint, quoted
from bpfd.runner import EXPIRE_S, ActionRunner
from bpfd.telling import PLAIN, Telling

TYPE = "the action that this is an instance of; left out: the table's name"


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
    ) -> None:
        """`classes` are the plugins' actions by name, `tables` is `Settings.actions`; each table makes one instance.

        Durable notifiers go through `outbox`, which is closed by whoever made it, after `stop`. None: they are told
        at once, and nothing is kept or tried again. Responders are run by `guard`; None: nothing watches over them.
        `telling` says how the alerts of a rule are told, by its name; called on workers.
        What `mutes` hide reaches no action.

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
        self._runners: dict[str, ActionRunner] = {}
        self._deliveries: list[Delivery] = []
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

    def names(self) -> list[str]:
        """What a rule may name: the plugins' actions and the configured instances, sorted."""
        return sorted({*self._classes, *self._runners})

    def prepare(self, names: Iterable[str]) -> None:
        """Make the instances that rules are about to use; call before they are in force. Raises `ActionError`."""
        for name in names:
            if name not in self._runners:
                try:
                    self._start(name, {})
                except ActionError as error:
                    raise ActionError(f"action {name}: {error}") from None

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
        """The responding action that runs as instance `name`; None: there is none."""
        return self._responders.get(name)

    def notify(self, alert: Alert) -> None:
        """Tell `alert` to every durable notifier that runs. Waits for the disk: not for the event thread."""
        if self._outbox is not None:
            for delivery in self._deliveries:
                self._outbox.put(delivery.name, [alert])

    def stop(self, timeout_s: float) -> None:
        """End every action within about `timeout_s`; see `ActionRunner.stop` and `Delivery.stop`."""
        deadline = time.monotonic() + timeout_s
        for runner in self._runners.values():
            runner.begin_stop(timeout_s)
        for runner in self._runners.values():
            runner.stop(max(0.0, deadline - time.monotonic()))
        for delivery in self._deliveries:
            delivery.begin_stop()
        for delivery in self._deliveries:
            delivery.stop(max(0.1, deadline - time.monotonic()))
        self._runners, self._deliveries = {}, []

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
        action_class = self._classes.get(kind) if isinstance(kind, str) else None
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

    def _start(self, name: str, table: Mapping[str, Any]) -> None:
        action_class, settings = self._checked(name, table)
        retry = _retry(table)
        expire_s = options.seconds(table, "expire", EXPIRE_S, 0.001, 3600)
        action = _make(action_class, settings)
        _begin(action, self._counters)
        if self._outbox is not None and action_class.durable and not action_class.responds:
            self._deliveries.append(Delivery(name, action, self._outbox, self._counters, retry))
            posting = Posting(self._outbox, name, self._telling)
            runner = ActionRunner(name, posting, self._counters, self._queue_size, done="stored", tick=posting.tick)
        else:
            if action.responds:
                self._responders[name] = action
            if action.responds and self._guard is not None:
                action = Guarded(name, action, self._guard)
            runner = ActionRunner(name, action, self._counters, self._queue_size, expire_s)
        # A new mapping beside the old one: the event thread reads it meanwhile.
        self._runners = {**self._runners, name: runner}


def common_keys(action_class: type[Action]) -> Mapping[str, str]:
    """The keys that every action of this sort has in its table, beside its own `settings`, each with its line."""
    if action_class.responds:
        return {"type": TYPE, "expire": "how long after its event a response is still carried out; 5s"}
    if action_class.durable:
        return {
            "type": TYPE,
            "retries": "how often an alert is tried before it is given up as a dead letter; 50",
            "retry_first": "the wait after the first failure, which doubles with each; 1s",
            "retry_longest": "the longest wait between two tries; 10m",
            "keep": "the age at which an alert is given up; 1d",
        }
    return {"type": TYPE}


def _retry(table: Mapping[str, Any]) -> Retry:
    default = Retry()
    return Retry(
        first_s=options.seconds(table, "retry_first", default.first_s, 0.001, 3600),
        longest_s=options.seconds(table, "retry_longest", default.longest_s, 0.001, 86400),
        tries=options.whole(table, "retries", default.tries, 1, 1_000_000),
        keep_s=options.seconds(table, "keep", default.keep_s, 1, 365 * 86400),
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
