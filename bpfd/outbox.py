"""Alerts on disk until they are delivered: written before an event counts as handled, found again after a crash."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from bpfd.alert import Alert
from bpfd.counters import Counters
from bpfd.store import Store, Stored, move_aside, open_store

FILE = "outbox.db"
MEMORY_BYTES = 32 << 20
LIMIT = 50_000
"""How many alerts may wait for one action, so that one that hangs does not take the room of the others."""
KEEP_DEAD = 1000
KEEP_DEAD_S = 30 * 86400.0
_HORIZON_NS = 2 * 3600 * 10**9
_REOPEN_S = 30.0

log = logging.getLogger(__name__)
T = TypeVar("T")


class Letter(NamedTuple):
    """An alert that was taken from the outbox, and the store that it is in."""

    store: Store
    stored: Stored


class Outbox:
    """The alerts that wait for notifying actions. Methods may be called from any thread but the event thread: they
    wait for the disk.

    Where the disk takes nothing more (full, read-only, broken), alerts are kept in memory instead, bounded, and the
    disk is tried again with the next ones: an attacker who fills the disk does not silence the alerts. Counts, as
    `action.NAME.…`: `dropped` (no room), `forgotten` (dead letters given up); and `outbox.memory`: kept in memory.
    """

    def __init__(self, directory: Path, counters: Counters, max_bytes: int = 256 << 20, limit: int = LIMIT) -> None:
        """Open the outbox in `directory`, which is made if need be. Never fails: `problem` says what is wrong."""
        self._path = directory / FILE
        self._max_bytes = max_bytes
        self._limit = limit
        self._counters = counters
        self._lock = threading.Lock()
        self._memory = Store(None, MEMORY_BYTES)
        self._disk: Store | None = None
        self._tried_s = 0.0
        self._waiting: dict[str, int] = {}
        self._settled: set[tuple[Store, int]] = set()
        self._wakers: dict[str, Callable[[], None]] = {}
        self.problem = ""
        """What is wrong with the disk now; empty: nothing."""
        with self._lock:
            self._open_disk()

    def close(self) -> None:
        """Give back the database, once the deliveries have ended. What is only in memory is lost, and counted."""
        with self._lock:
            for action, (waiting, _) in self._memory.counts().items():
                self._counters.add(f"action.{action}.dropped", waiting)
            self._memory.close()
            if self._disk is not None:
                self._disk.close()
                self._disk = None

    def put(self, action: str, alerts: list[Alert]) -> None:
        """Keep `alerts` for the action instance `action`; they are safe on return. What has no room is counted."""
        with self._lock:
            room = max(0, self._limit - self._waiting.get(action, 0))
            kept, refused = alerts[:room], len(alerts) - room
            if refused > 0:
                self._counters.add(f"action.{action}.dropped", refused)
            if kept and self._add(action, kept):
                self._waiting[action] = self._waiting.get(action, 0) + len(kept)
            waker = self._wakers.get(action)
        if waker is not None:
            waker()

    def wake(self, action: str, waker: Callable[[], None]) -> None:
        """Call `waker` whenever there is something new for `action`."""
        with self._lock:
            self._wakers[action] = waker

    def take(self, action: str, limit: int) -> list[Letter]:
        """What is to be sent now, the longest due first. It stays in the outbox until `done`, `postpone` or `bury`."""
        now_ns = time.time_ns()

        def _due(store: Store) -> list[Letter]:
            found = store.due(action, now_ns, now_ns + _HORIZON_NS, limit + len(self._settled))
            return [Letter(store, stored) for stored in found if (store, stored.seq) not in self._settled][:limit]

        with self._lock:
            return [letter for store in self._stores() for letter in self._try(store, _due) or ()]

    def next_due_s(self, action: str) -> float | None:
        """In how many seconds the next alert of `action` is due; None: nothing waits."""
        with self._lock:
            times = [self._try(store, lambda s: s.next_due_ns(action)) for store in self._stores()]
        due = [time_ns for time_ns in times if time_ns is not None]
        return max(0.0, (min(due) - time.time_ns()) / 1e9) if due else None

    def done(self, letter: Letter) -> None:
        """The alert was delivered. Where the disk can't note it, this is remembered until it can."""
        with self._lock:
            self._left(letter)
            self._settled.add((letter.store, letter.stored.seq))
            seqs = [seq for store, seq in self._settled if store is letter.store]
            if self._try(letter.store, lambda store: store.remove(seqs)) is not None:
                self._settled -= {(letter.store, seq) for seq in seqs}

    def postpone(self, letter: Letter, after_s: float, problem: str) -> None:
        """The alert could not be delivered: try it again in `after_s` seconds."""
        due_ns = time.time_ns() + int(after_s * 1e9)
        with self._lock:
            self._try(letter.store, lambda store: store.postpone(letter.stored.seq, due_ns, problem))

    def bury(self, letter: Letter, problem: str) -> None:
        """The alert is given up: a dead letter, of which the newest are kept."""
        with self._lock:
            self._left(letter)
            self._try(letter.store, lambda store: store.bury(letter.stored.seq, problem))
            oldest_ns = time.time_ns() - int(KEEP_DEAD_S * 1e9)
            forgotten = self._try(letter.store, lambda store: store.trim_dead(KEEP_DEAD, oldest_ns))
        if forgotten:
            self._counters.add("outbox.forgotten", forgotten)

    def waiting(self) -> dict[str, tuple[int, int]]:
        """How many alerts wait and how many are dead letters, for each action."""
        total: dict[str, tuple[int, int]] = {}
        with self._lock:
            for store in self._stores():
                for action, (waiting, dead) in (self._try(store, Store.counts) or {}).items():
                    before = total.get(action, (0, 0))
                    total[action] = (before[0] + waiting, before[1] + dead)
        return total

    def dead(self) -> list[Stored]:
        """The dead letters, the oldest first, with the problem that each one died of."""
        with self._lock:
            return [stored for store in self._stores() for stored in self._try(store, Store.dead) or ()]

    def retry(self, action: str | None = None) -> int:
        """Send dead letters again, all or those of `action`; how many."""
        now_ns = time.time_ns()
        with self._lock:
            count = sum(self._try(store, lambda s: s.revive(action, now_ns)) or 0 for store in self._stores())
            self._count_waiting()
            wakers = list(self._wakers.values())
        for waker in wakers:
            waker()
        return count

    # All below: the lock is held.

    def _stores(self) -> list[Store]:
        return [self._memory] if self._disk is None else [self._disk, self._memory]

    def _left(self, letter: Letter) -> None:
        action = letter.stored.action
        self._waiting[action] = max(0, self._waiting.get(action, 0) - 1)

    def _add(self, action: str, alerts: list[Alert]) -> bool:
        if self._disk is None and time.monotonic() - self._tried_s > _REOPEN_S:
            self._open_disk()
        now_ns = time.time_ns()
        for store in self._stores():
            if self._try(store, lambda s: s.add(action, alerts, now_ns)):
                if store is self._memory:
                    self._counters.add("outbox.memory", len(alerts))
                else:
                    self.problem = ""
                return True
        self._counters.add(f"action.{action}.dropped", len(alerts))
        return False

    def _try(self, store: Store, work: Callable[[Store], T]) -> T | None:
        """Do `work` on `store`; where the database fails, say so once and answer None."""
        if store is not self._memory and store is not self._disk:
            return None  # it was moved aside meanwhile
        try:
            return work(store)
        except sqlite3.Error as error:
            self._complain(f"{self._path}: {error}; alerts are kept in memory until the disk takes them")
            broken = not isinstance(error, sqlite3.OperationalError)
            if broken and store is self._disk:
                self._replace_disk()
            return None

    def _open_disk(self) -> None:
        self._tried_s = time.monotonic()
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._disk, said = open_store(self._path, self._max_bytes)
        except (OSError, sqlite3.Error) as error:
            self._complain(f"{self._path}: cannot be opened: {error}; alerts are kept in memory until it can")
            return
        if said:
            log.error("%s", said)
            self._counters.add("outbox.corrupt")
        self.problem = ""
        self._count_waiting()

    def _replace_disk(self) -> None:
        assert self._disk is not None
        self._disk.close()
        self._disk = None
        self._counters.add("outbox.corrupt")
        try:
            log.error("%s: corrupt; moved to %s, and a new one started", self._path, move_aside(self._path))
        except OSError as error:
            self._complain(f"{self._path}: corrupt, and cannot be moved aside: {error.strerror}")
            return
        self._open_disk()

    def _count_waiting(self) -> None:
        self._waiting = {}
        for store in self._stores():
            for action, (waiting, _) in (self._try(store, Store.counts) or {}).items():
                self._waiting[action] = self._waiting.get(action, 0) + waiting

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            log.error("%s", problem)
        self.problem = problem
