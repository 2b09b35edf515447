"""The live trace: every client has a bounded queue of its own, and a slow one loses its own events only."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from bpfd.event import Event


class Owner(Protocol):
    """Who keeps clients."""

    def forget(self, client: Client) -> None: ...


class Client:
    """One client's queue. The event thread puts, the API's thread takes; the lock is held for an append or a swap."""

    def __init__(self, owner: Owner, limit: int, on_ready: Callable[[], None], rule: str, tracer: str) -> None:
        self._owner, self._limit, self._on_ready = owner, limit, on_ready
        self._rule, self._tracer = rule, tracer
        self._lock = threading.Lock()
        self._events: deque[Event] = deque()
        self._lost = 0

    def put(self, events: list[Event]) -> int:
        """Queue a batch, all of one rule; returns how many old events had to go."""
        if (self._rule and events[0].rule != self._rule) or (self._tracer and events[0].tracer != self._tracer):
            return 0
        with self._lock:
            queue = self._events
            was_empty = not queue
            queue.extend(events)
            over = max(0, len(queue) - self._limit)
            for _ in range(over):
                queue.popleft()
            self._lost += over
        if was_empty:
            self._on_ready()
        return over

    def take(self) -> tuple[list[Event], int]:
        """All that waits, oldest first, and how many were lost since the last call."""
        with self._lock:
            events, self._events = self._events, deque()
            lost, self._lost = self._lost, 0
        return list(events), lost

    def missed(self, event: Event) -> str:
        """Nothing: what matched missed no clause."""
        return ""

    def close(self) -> None:
        self._owner.forget(self)


class Live:
    """All clients. `publish` is on the hot path; without clients it costs a look at an empty tuple."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._clients: tuple[Client, ...] = ()
        self.lost = 0
        """Events that slow clients lost, all together."""

    def publish(self, events: list[Event]) -> None:
        for client in self._clients:
            self.lost += client.put(events)

    def subscribe(self, on_ready: Callable[[], None], rule: str = "", tracer: str = "") -> Client:
        client = Client(self, self._limit, on_ready, rule, tracer)
        with self._lock:
            self._clients = (*self._clients, client)
        return client

    def forget(self, client: Client) -> None:
        with self._lock:
            self._clients = tuple(other for other in self._clients if other is not client)

    @property
    def clients(self) -> int:
        return len(self._clients)
