"""The hot path, all of it: rings are read, records decoded, rules asked, matches handed over.

One thread does this. It waits for rings and for nothing else: what it calls must return at once. Whatever changes what
it works on (rings, rules) is prepared elsewhere and swapped in whole.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from bpfd.event import Event
from bpfd.judges import Judge, JudgeSet, Sets, Step, follow, hand_over, with_newest
from bpfd.kernel.record import Decoder

log = logging.getLogger("bpfd.pipeline")

BATCH = 256
"""Records that are taken from one ring before the next has its turn. At 4 µs a record a turn takes 1 ms."""
RECORD_HEAD = 8
"""Bytes before each record in a ring."""
HELD_S = 0.005
"""How long a match for a sequence is held at most."""
IDLE_S = 1.0
"""How often the clocks are compared when nothing happens."""


class Records(Protocol):
    """Where records wait: a `Ring`."""

    fd: int

    def read(self, most: int) -> list[bytes]: ...

    def pending(self) -> int: ...


@dataclass(slots=True)
class Source:
    """A ring and how to read it. `take` gets each batch of records, on the event thread."""

    name: str
    ring: Records
    take: Callable[[list[bytes]], None]
    first: bool = False
    """Read before the others: what it says is needed to understand them."""


class Clock:
    """Turns nanoseconds of the boot clock into wall-clock ones. Compared anew each turn: people set clocks."""

    def __init__(self) -> None:
        self.offset = 0
        self.compare()

    def compare(self) -> None:
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        wall = time.time_ns()
        self.offset = wall - (before + time.clock_gettime_ns(time.CLOCK_BOOTTIME)) // 2

    def __call__(self) -> int:
        return self.offset

    def now(self) -> int:
        """The wall clock, nanoseconds."""
        return time.time_ns()


class Pipeline:
    """Reads sources and asks judges. `start` and `stop` it once; the other methods may be called from any thread."""

    def __init__(self, publish: Callable[[list[Event]], None], clock: Clock, event_queue: int) -> None:
        """`publish` gets every batch of matches for the live trace; it must return at once.

        `event_queue` is how many events of tracers without BPF may wait.
        """
        self._publish = publish
        self._clock = clock
        self._sets: Mapping[str, Sets] = {}
        self._sources: dict[int, Source] = {}
        self._queue: deque[Event] = deque()
        self._queue_limit = event_queue
        self._steps: list[Step] = []
        self._held: list[Step] = []
        """Matches for sequences, of the turn before."""
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._calls: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="bpfd-events", daemon=True)
        self.keep: Callable[[Event], object] | None = None
        """Gets every event that reaches the daemon, if somebody wants to know what went before; must return at once."""
        self.queue_lost = 0
        self.received: dict[str, int] = {}
        """Events by tracer."""

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Hand over what is in the rings now, and end the thread. Closes no ring."""
        self._stopping = True
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._epoll.close()
        os.close(self._wake_fd)

    def judge_by(self, tracer: str, generation: int, judges: JudgeSet) -> None:
        """Have records of `tracer` that carry `generation`, and those that carry none, judged by `judges`.

        Call it before the kernel judges by that generation. Sets that went before go on judging their own records.
        """
        sets = with_newest(self._sets.get(tracer, {}), generation, judges)
        self._sets = {**self._sets, tracer: sets}

    def add(self, source: Source) -> None:
        """Begin to read `source`."""

        def begin() -> None:
            self._sources[source.ring.fd] = source
            self._epoll.register(source.ring.fd, select.EPOLLIN)

        self._on_thread(begin)

    def remove(self, source: Source) -> None:
        """Read what is left of `source`, and let go of it: on return its ring may be closed."""

        def end() -> None:
            if self._sources.pop(source.ring.fd, None) is not None:
                self._drain(source)
                self._epoll.unregister(source.ring.fd)

        self._on_thread(end)

    def settle(self) -> None:
        """Return when every event that was in a ring or queue when this was called has been judged and handed over."""
        self._on_thread(self._drain_all)

    def put(self, event: Event) -> bool:
        """Queue an event of a tracer without BPF. False: the queue is full, and the event counted as lost."""
        if len(self._queue) >= self._queue_limit:
            self.queue_lost += 1
            return False
        self._queue.append(event)
        self._wake()
        return True

    def taker(self, tracer: str, decode: Decoder) -> Callable[[list[bytes]], None]:
        """What a BPF tracer's source does with a batch."""
        received = self.received
        received.setdefault(tracer, 0)

        def take(records: list[bytes]) -> None:
            sets = self._sets.get(tracer)
            received[tracer] += len(records)
            if sets is None:
                return
            keep = self.keep
            asked: set[Judge] = set()
            before: tuple[int, int] | None = None
            judges: tuple[Judge, ...] = ()
            for record in records:
                event, candidates = decode(record)
                if keep is not None:
                    keep(event)
                if candidates != before:
                    before = candidates
                    generation, bits = candidates
                    judges = sets.get(generation, sets[0]).among(bits)
                    asked.update(judges)
                _ask(judges, event)
            self._steps += hand_over(asked, self._publish)

        return take

    def _run(self) -> None:
        while not self._stopping:
            try:
                before = self._clock.now()
                ready = self._epoll.poll(HELD_S if self._held else IDLE_S)
                self._turn({fd for fd, _ in ready})
                self._follow(before)
            except Exception:
                log.exception("the event thread met an error and goes on")
                time.sleep(0.01)
        self._drain_all()

    def _turn(self, ready: set[int]) -> None:
        self._clock.compare()
        if self._wake_fd in ready:
            os.eventfd_read(self._wake_fd)
            while self._calls:
                self._calls.popleft()()
            self._take_queue()
        for source in self._in_order():
            if source.first or source.ring.fd in ready:
                records = source.ring.read(BATCH)
                if records:
                    source.take(records)

    def _follow(self, before: int) -> None:
        """Tell sequences of the matches of events before that time. Later ones are held for one turn: an event of
        another tracer that came first may lie in a ring that was read first.
        """
        ready, self._held = self._held, [step for step in self._steps if step[0].time >= before]
        ready += [step for step in self._steps if step[0].time < before]
        self._steps = []
        follow(ready, self._publish)

    def _follow_all(self) -> None:
        steps, self._held, self._steps = self._held + self._steps, [], []
        follow(steps, self._publish)

    def _in_order(self) -> list[Source]:
        return sorted(self._sources.values(), key=lambda source: not source.first)

    def _drain(self, source: Source) -> None:
        """All that is in the ring now, and not what a busy machine adds meanwhile: in a flood there is no end to it."""
        left = source.ring.pending()
        while left > 0:
            records = source.ring.read(BATCH)
            if not records:
                return
            source.take(records)
            left -= sum(len(record) + RECORD_HEAD for record in records)

    def _drain_all(self) -> None:
        for source in self._in_order():
            self._drain(source)
        self._take_queue()
        self._follow_all()

    def _take_queue(self) -> None:
        sets = self._sets
        asked: set[Judge] = set()
        for _ in range(len(self._queue)):
            event = self._queue.popleft()
            self.received[event.tracer] = self.received.get(event.tracer, 0) + 1
            if self.keep is not None:
                self.keep(event)
            if event.tracer in sets:
                judges = sets[event.tracer][0].all
                asked.update(judges)
                _ask(judges, event)
        self._steps += hand_over(asked, self._publish)

    def _on_thread(self, call: Callable[[], None]) -> None:
        """Run `call` between two turns of the event thread, and return when it has run."""
        if not self._thread.is_alive() or threading.current_thread() is self._thread:
            call()
            return
        done = threading.Event()

        def run() -> None:
            try:
                call()
            finally:
                done.set()

        self._calls.append(run)
        self._wake()
        while not done.wait(0.1):
            if not self._thread.is_alive():
                return

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)


def _ask(judges: tuple[Judge, ...], event: Event) -> None:
    for judge in judges:
        if judge.wants is None or judge.wants(event):
            judge.batch.append(tuple.__new__(Event, (*event[:11], judge.rule, *event[12:])))
