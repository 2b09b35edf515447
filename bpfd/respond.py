"""How actions are run: each on a worker thread behind a bounded queue, so that the event path never waits for one."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from bpfd import options
from bpfd.counters import Counters
from bpfd.errors import ActionError, BpfdError, RefusedError, SettingsError, TargetGoneError
from bpfd.event import Event, printable
from bpfd.plugin import Action
from bpfd.rules.nearest import hint, quoted

BATCH = 1024
"""How many events a notifier is given at once, at most."""
EXPIRE_S = 5.0
"""A response later than this after its event would hit a situation that is gone."""
_COMPLAIN_S = 60.0
_COMPLAINTS = 5

log = logging.getLogger(__name__)


class ActionRunner:
    """Runs one action on one worker thread. `put` belongs to the event thread; the rest to the thread that made it.

    Counts, as `action.NAME.…`: `done`, `failed` (the action raised), and for responders `expired` (too late), `gone`
    (the target had ended) and `refused` (a protected target); `dropped` is what the queue had no room for, or was left
    in it at the end.
    """

    def __init__(
        self, name: str, action: Action, counters: Counters, queue_size: int, expire_s: float = EXPIRE_S
    ) -> None:
        self.name = name
        self.action = action
        self._counters = counters
        self._limit = queue_size
        self._expire_ns = int(expire_s * 1e9)
        self._batched = not action.responds and type(action).act_on_batch is not Action.act_on_batch
        # A queue of lists: one call in C for a whole batch, without a lock that the event thread could wait for.
        self._queue: queue.SimpleQueue[list[Event] | None] = queue.SimpleQueue()
        self._entered = 0  # written by the event thread only
        self._left = 0  # written by the worker only
        self._done = 0
        self._deadline: float | None = None
        self._complaints = _Complaints(name)
        counters.watch(f"action.{name}.done", lambda: self._done)
        self._thread = threading.Thread(target=self._work, name=f"action-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many events were put and not yet dealt with."""
        return self._entered - self._left

    def put(self, events: list[Event]) -> None:
        """Hand over `events`, oldest first, and never wait; what has no room is counted as dropped.

        The list must not be changed afterwards.
        """
        room = self._limit - (self._entered - self._left)
        if len(events) > room:
            self._count("dropped", len(events) - room)
            events = events[:room]
            if not events:
                return
        self._entered += len(events)
        self._queue.put(events)

    def begin_stop(self, timeout_s: float) -> None:
        """Tell the worker to end within `timeout_s`, so that several can end at once; `stop` comes after."""
        if self._deadline is None:
            self._deadline = time.monotonic() + timeout_s
            self._queue.put(None)

    def stop(self, timeout_s: float) -> None:
        """Deal with what waits for at most `timeout_s`, close the action, and join the worker.

        What is left is counted as dropped. A worker that hangs in its action is left behind: it can't hold up the
        daemon's end.
        """
        self.begin_stop(timeout_s)
        self._thread.join(timeout_s + 0.5)
        if self._thread.is_alive():
            self._count("dropped", self.waiting)
            log.warning(
                "action %s: still busy after %.1f s; left behind with %d events", self.name, timeout_s, self.waiting
            )
        self._counters.unwatch(f"action.{self.name}.done")

    def _work(self) -> None:
        ended = False
        while not ended:
            batch, ended = self._take()
            if batch:
                self._handle(batch)
        try:
            self.action.close()
        except Exception as error:
            self._complaints.add(error)
        self._complaints.flush()

    def _take(self) -> tuple[list[Event], bool]:
        """What waits, up to a batch, after waiting for the first of it; and whether the end was reached."""
        batch: list[Event] = []
        while True:
            try:
                part = self._queue.get(block=not batch)
            except queue.Empty:
                return batch, False
            if part is None:
                return batch, True
            batch = [*batch, *part] if batch else part
            if len(batch) >= BATCH:
                return batch, False

    def _handle(self, events: list[Event]) -> None:
        for first in range(0, len(events), BATCH):
            part = events[first : first + BATCH]
            if self._batched:
                self._try_batch(part)
            else:
                for event in part:
                    self._try(event)

    def _is_over(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    def _try_batch(self, events: list[Event]) -> None:
        if self._is_over():
            self._count("dropped", len(events))
        else:
            try:
                self.action.act_on_batch(events)
                self._done += len(events)
            except Exception as error:  # a stranger's code: whatever it raises stops nothing
                self._count("failed", len(events))
                self._complaints.add(error)
        self._left += len(events)

    def _try(self, event: Event) -> None:
        if self._is_over():
            self._count("dropped")
        elif self.action.responds and time.time_ns() - event.time > self._expire_ns:
            self._count("expired")
        else:
            self._act(event)
        self._left += 1

    def _act(self, event: Event) -> None:
        try:
            self.action.act(event)
            self._done += 1
        except TargetGoneError:
            self._count("gone")
        except RefusedError as error:
            self._count("refused")
            self._complaints.add(error)
        except Exception as error:
            self._count("failed")
            self._complaints.add(error)

    def _count(self, what: str, count: int = 1) -> None:
        self._counters.add(f"action.{self.name}.{what}", count)


class _Complaints:
    """Logs an action's errors: each text once, and a few of them, in a minute; then how many there were. One thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logged: set[str] = set()
        self._since_s = 0.0
        self._silent = 0

    def add(self, error: Exception) -> None:
        if time.monotonic() - self._since_s > _COMPLAIN_S:
            self.flush()
        text = describe(error)
        if text in self._logged or len(self._logged) >= _COMPLAINTS:
            self._silent += 1
            return
        self._logged.add(text)
        log.error("action %s: %s", self._name, text)

    def flush(self) -> None:
        """Tell what was kept back, and begin anew."""
        if self._silent:
            log.error("action %s: %d more errors like these", self._name, self._silent)
        self._logged.clear()
        self._silent = 0
        self._since_s = time.monotonic()


def describe(error: Exception) -> str:
    """One line of `error`: its text if it was written for users, its type as well if not."""
    text = printable(str(error))
    if isinstance(error, BpfdError):
        return text
    return f"{type(error).__name__}: {text}"


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
    ) -> None:
        """`classes` are the plugins' actions by name, `tables` is `Settings.actions`; each table makes one instance.

        Raises `SettingsError` with all that is wrong, naming table and key; then nothing is left running.
        """
        self._classes = classes
        self._counters = counters
        self._queue_size = queue_size
        self._runners: dict[str, ActionRunner] = {}
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
        runners = dict(self._runners)
        for name in names:
            if name not in runners:
                try:
                    self._start(name, {})
                except ActionError as error:
                    raise ActionError(f"action {name}: {error}") from None

    def deliver(self, names: Iterable[str], events: list[Event]) -> None:
        """Hand `events`, oldest first, to each action of `names`; never waits. The list must not change afterwards."""
        for name in names:
            runner = self._runners.get(name)
            if runner is None:
                self._counters.add(f"action.{name}.dropped", len(events))
            else:
                runner.put(events)

    def stop(self, timeout_s: float) -> None:
        """End every action within about `timeout_s`; see `ActionRunner.stop`."""
        deadline = time.monotonic() + timeout_s
        for runner in self._runners.values():
            runner.begin_stop(timeout_s)
        for runner in self._runners.values():
            runner.stop(max(0.0, deadline - time.monotonic()))
        self._runners = {}

    def _start(self, name: str, table: Mapping[str, Any]) -> None:
        kind = table.get("type", name)
        action_class = self._classes.get(kind) if isinstance(kind, str) else None
        if action_class is None:
            raise ActionError(f"type: unknown action {quoted(kind)}; {hint(str(kind), self._classes, 'actions')}")
        settings = {key: value for key, value in table.items() if key != "type"}
        expire_s = EXPIRE_S
        if action_class.responds:
            expire_s = options.seconds(settings, "expire", EXPIRE_S, 0.001, 3600)
            settings.pop("expire", None)
        unknown = [
            f"unknown key {quoted(key)}; {hint(key, action_class.settings, 'keys')}"
            for key in settings
            if key not in action_class.settings
        ]
        if unknown:
            raise ActionError("\n".join(unknown))
        action = _make(action_class, settings)
        # A new mapping beside the old one: the event thread reads it meanwhile.
        self._runners = {**self._runners, name: ActionRunner(name, action, self._counters, self._queue_size, expire_s)}


def _make(action_class: type[Action], settings: Mapping[str, Any]) -> Action:
    try:
        return action_class(settings)
    except ActionError:
        raise
    except Exception as error:  # a stranger's code
        raise ActionError(f"cannot be made: {describe(error)}") from error
