"""Runs one action on a worker thread behind a bounded queue, so that the event path never waits for it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable

from bpfd.alert import Alert
from bpfd.complaints import Complaints
from bpfd.counted import counted
from bpfd.counters import Counters
from bpfd.errors import RefusedError, TargetGoneError, WithheldError
from bpfd.event import Event
from bpfd.given_up import GivenUp
from bpfd.plugin import Action

BATCH = 1024
"""How many events a notifier is given at once, at most."""
_TICK_S = 1.0
SHARE = {"emergency": 16, "alert": 16, "critical": 16, "error": 16, "warning": 8}
"""What of the free room a rule may hold, in multiples of it, by its severity; 4 for what is less severe. With 4, a rule
alone gets four fifths of the queue, and another one four fifths of the rest: so none fills it up before the others
(Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998)."""
_LEAST_SHARE = 4
_MOST_RULES = 10_000

log = logging.getLogger(__name__)


class ActionRunner:
    """Runs one action on one worker thread. `put` belongs to the event thread; the rest to the thread that made it.

    Counts, as `action.NAME.…`: `done`, `failed` (the action raised), and for responders `expired` (too late), `gone`
    (the target had ended), `refused` (a protected target) and `withheld` (too many responses);
    `dropped` is what the queue had no room for, or was left in it at the end; of a notifier's, by severity, too, as
    `alerts.given_up.SEVERITY`.
    """

    def __init__(
        self,
        name: str,
        action: Action,
        counters: Counters,
        queue_size: int,
        expire_s: float = 5.0,
        done: str = "done",
        tick: Callable[[], float | None] = lambda: None,
        batched: bool | None = None,
        severity: Callable[[str], str] | None = None,
        expired: Callable[[Event], None] = lambda event: None,
    ) -> None:
        """`done` is the name that events are counted by which the action took without an error.

        `severity` gives that of a rule, by its name; called on any thread. None: what is dropped is no alert.

        `batched`: events are given to the action many at once; None: if it has an `act_on_batch` of its own.

        `expired` is told of each event that a responder was given too late, on the worker.

        `tick` is called on the worker before it waits, and says in how many seconds it is to be called again.
        """
        self.name = name
        self.action = action
        self._counters = counters
        self._limit = queue_size
        self._expire_ns = int(expire_s * 1e9)
        own = type(action).act_on_batch is not Action.act_on_batch
        self._batched = not action.responds and (own if batched is None else batched)
        # A queue of lists: one call in C for a whole batch, without a lock that the event thread could wait for.
        self._queue: queue.SimpleQueue[list[Event] | Alert | None] = queue.SimpleQueue()
        self._entered = 0  # written by the event thread only
        self._left = 0  # written by the worker only, and last
        self._entered_of: dict[str, int] = {}  # the same by rule
        self._left_of: dict[str, int] = {}
        self._severity = severity
        self._expired = expired
        self._given_up = GivenUp(counters)
        self._done = 0
        self._deadline: float | None = None
        self._complaints = Complaints(name)
        self._tick = tick
        self._done_counter = f"action.{name}.{done}"
        counters.watch(self._done_counter, lambda: self._done)
        self._thread = threading.Thread(target=self._work, name=f"action-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many events were put and not yet dealt with."""
        return self._entered - self._left

    def put(self, events: list[Event]) -> None:
        """Hand over `events` of one rule, oldest first, and never wait; what has no room is counted as dropped.

        The list must not be changed afterwards.
        """
        rule = events[0].rule
        if len(self._entered_of) > _MOST_RULES and self._entered == self._left:
            self._entered_of, self._left_of = {}, {}  # nothing waits, so the worker looks at neither
        free = self._limit - (self._entered - self._left)
        held = self._entered_of.get(rule, 0) - self._left_of.get(rule, 0)
        if held + 2 * len(events) > free and len(events) > (room := self._room(rule, free, held)):
            self._drop(rule, len(events) - room)
            events = events[:room]
            if not events:
                return
        self._entered += len(events)
        self._entered_of[rule] = self._entered_of.get(rule, 0) + len(events)
        self._queue.put(events)

    def _room(self, rule: str, free: int, held: int) -> int:
        """How many more events of `rule`, which holds so many, may enter where so many are free."""
        share = _LEAST_SHARE if self._severity is None else SHARE.get(self._severity(rule), _LEAST_SHARE)
        return max((share * free - held) // (1 + share), int(free > 0 and not held))

    def tell(self, alert: Alert) -> None:
        """Have the worker `send` a word about what was not done. Any thread; never waits; not many: unbounded."""
        self._queue.put(alert)

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
            for rule, entered in self._entered_of.items():
                self._drop(rule, entered - self._left_of.get(rule, 0))
            left = counted(self.waiting, "event")
            log.warning("action %s: still busy after %.1f s; left behind with %s", self.name, timeout_s, left)
        self._counters.unwatch(self._done_counter)

    def _work(self) -> None:
        ended = False
        while not ended:
            batch, ended = self._take()
            if batch:
                self._handle(batch)
            self._given_up.say()
        try:
            self.action.close()
        except Exception as error:
            self._complaints.add(error)
        self._complaints.flush()
        self._given_up.say(at_last=True)

    def _take(self) -> tuple[list[Event], bool]:
        """What waits, up to a batch, after waiting for the first of it; and whether the end was reached."""
        batch: list[Event] = []
        wait_s = self._next_tick_s()
        while True:
            try:
                part = self._queue.get_nowait() if batch else self._queue.get(timeout=wait_s)
            except queue.Empty:
                return batch, False
            if part is None:
                return batch, True
            if isinstance(part, Alert):
                self._send(part)
                continue
            batch = [*batch, *part] if batch else part
            if len(batch) >= BATCH:
                return batch, False

    def _send(self, alert: Alert) -> None:
        try:
            self.action.send(alert)
        except Exception as error:
            self._count("failed")
            self._complaints.add(error)

    def _next_tick_s(self) -> float | None:
        try:
            return self._tick()
        except Exception as error:
            self._complaints.add(error)
            return _TICK_S

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
        by_rule = Counter(event.rule for event in events)
        if self._is_over():
            for rule, count in by_rule.items():
                self._drop(rule, count)
        else:
            try:
                self.action.act_on_batch(events)
                self._done += len(events)
            except Exception as error:  # a stranger's code: whatever it raises stops nothing
                self._count("failed", len(events))
                self._complaints.add(error)
        for rule, count in by_rule.items():
            self._left_of[rule] = self._left_of.get(rule, 0) + count
        self._left += len(events)

    def _try(self, event: Event) -> None:
        if self._is_over():
            self._drop(event.rule, 1)
        elif self.action.responds and time.time_ns() - event.time > self._expire_ns:
            self._count("expired")
            self._expired(event)
        else:
            self._act(event)
        self._left_of[event.rule] = self._left_of.get(event.rule, 0) + 1
        self._left += 1

    def _act(self, event: Event) -> None:
        try:
            self.action.act(event)
            self._done += 1
        except TargetGoneError:
            self._count("gone")
        except WithheldError:
            self._count("withheld")
        except RefusedError as error:
            self._count("refused")
            self._complaints.add(error)
        except Exception as error:
            self._count("failed")
            self._complaints.add(error)

    def _drop(self, rule: str, count: int) -> None:
        if self._severity is None:
            self._count("dropped", count)
        elif count:
            self._given_up.without_room(self.name, {self._severity(rule): count})

    def _count(self, what: str, count: int = 1) -> None:
        self._counters.add(f"action.{self.name}.{what}", count)
