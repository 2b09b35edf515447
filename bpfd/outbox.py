"""Alerts on disk until they are delivered: written before an event counts as handled, found again after a crash."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from bpfd.alert import Alert, from_json
from bpfd.counters import Counters
from bpfd.given_up import GivenUp
from bpfd.store import Store, Stored, move_aside, open_store
from bpfd.turns import Turns

FILE = "outbox.db"
MEMORY_BYTES = 32 << 20
LIMIT = 50_000
"""How many alerts may wait for one action, so that one that hangs does not take the room of the others."""
KEEP_DEAD = 1000
KEEP_DEAD_S = 30 * 86400.0
_HORIZON_NS = 2 * 3600 * 10**9
_REOPEN_S = 30.0
_NOTE_AGAIN_S = 1.0

log = logging.getLogger(__name__)
T = TypeVar("T")
InTurn = tuple[int, Alert]
"""An alert with its turn."""


class Letter(NamedTuple):
    """An alert that was taken from the outbox, and the store that it is in."""

    store: Store
    stored: Stored


class _Candidate(NamedTuple):
    """An alert that may be given up: one that waits, or one that is new (`store` is None, `number` its place)."""

    turn: int
    store: Store | None
    number: int
    rule: str
    severity: str


class Outbox:
    """The alerts that wait for notifying actions. Methods may be called from any thread but the event thread: they
    wait for the disk.

    Rules take turns (`Turns`): the next in turn is told first, and without room the last in turn is given up.

    Where the disk takes nothing more (full, read-only, broken), alerts are kept in memory instead, bounded, and the
    disk is tried again with the next ones: an attacker who fills the disk does not silence the alerts. Counts, as
    `action.NAME.dropped`: no room; `alerts.given_up.SEVERITY`: those, and dead letters; `outbox.forgotten`: dead
    letters that were deleted; `outbox.memory`: kept in memory; `outbox.lost`: in a file that was found corrupt.
    """

    def __init__(self, directory: Path, counters: Counters, max_bytes: int = 256 << 20, limit: int = LIMIT) -> None:
        """Open the outbox in `directory`, which is made if need be. Never fails: `problem` says what is wrong."""
        self._path = directory / FILE
        self._max_bytes = max_bytes
        self._limit = limit
        self._counters = counters
        self._given_up = GivenUp(counters)
        self._lock = threading.Lock()
        self._memory = Store(None, MEMORY_BYTES)
        self._disk: Store | None = None
        self._tried_s = 0.0
        self._waiting: dict[str, int] = {}
        self._turns: dict[str, Turns] = {}
        self._out: dict[str, int] = {}
        """By action the highest turn that was taken to be sent: up to it, nothing is given up for another."""
        self._unnoted: dict[tuple[Store, int], str | None] = {}
        """What the disk could not note yet: alerts that were delivered (None), or given up for a problem."""
        self._wakers: dict[str, Callable[[], None]] = {}
        self.problem = ""
        """What is wrong with the disk now; empty: nothing."""
        with self._lock:
            self._open_disk()

    def close(self) -> None:
        """Give back the database, once the deliveries have ended. What no disk takes even now is lost, and counted."""
        with self._lock:
            self._rescue()
            self._memory.close()
            if self._disk is not None:
                self._disk.close()
                self._disk = None
        self._given_up.say(at_last=True)

    def put(self, action: str, alerts: Sequence[Alert], windows: Sequence[Alert] = ()) -> None:
        """Keep `alerts` for the action instance `action`; they are safe on return. What has no room is counted.

        `windows` are summaries as far as they go, of windows that have not ended: sent only if this process ends
        without their end. The summary that ends one has the same id.
        """
        with self._lock:
            turns = self._turns.setdefault(action, Turns())
            letters = [(turns.give(alert.event.rule, alert.severity), alert) for alert in alerts]
            over = self._waiting.get(action, 0) + len(letters) - self._limit
            if over > 0:
                letters = self._choose(action, letters, over)
            if letters or windows:
                self._add(action, letters, windows)
            waker = self._wakers.get(action)
        self._given_up.say()
        if waker is not None and alerts:
            waker()

    def wake(self, action: str, waker: Callable[[], None]) -> None:
        """Call `waker` whenever there is something new for `action`."""
        with self._lock:
            self._wakers[action] = waker

    def take(self, action: str, limit: int) -> list[Letter]:
        """What is to be sent now, in turn. It stays in the outbox until `done`, `postpone` or `bury`.

        What was taken before is not being sent any more.
        """
        now_ns = time.time_ns()

        def _due(store: Store) -> list[Letter]:
            found = store.due(action, now_ns, now_ns + _HORIZON_NS, limit + len(self._unnoted))
            return [Letter(store, stored) for stored in found if (store, stored.seq) not in self._unnoted][:limit]

        with self._lock:
            for store in {store for store, _ in self._unnoted}:
                self._note(store)
            found = [letter for store in self._stores() for letter in self._try(store, _due) or ()]
            letters = sorted(found, key=lambda letter: letter.stored.turn)[:limit]
            if letters:
                self._out[action] = letters[-1].stored.turn
            return letters

    def next_due_s(self, action: str) -> float | None:
        """In how many seconds the next alert of `action` is due; None: nothing waits."""
        with self._lock:
            times = [self._try(store, lambda s: s.next_due_ns(action)) for store in self._stores()]
            least_s = _NOTE_AGAIN_S if self._unnoted else 0.0  # they look as if they were due
        due = [time_ns for time_ns in times if time_ns is not None]
        return max(least_s, (min(due) - time.time_ns()) / 1e9) if due else None

    def done(self, letter: Letter) -> None:
        """The alert was delivered. Where the disk can't note it, this is remembered until it can."""
        with self._lock:
            self._told(letter)
            self._left(letter.stored.action)
            self._unnoted[letter.store, letter.stored.seq] = None
            self._note(letter.store)

    def postpone(self, letter: Letter, after_s: float, problem: str) -> None:
        """The alert could not be delivered: try it again in `after_s` seconds."""
        due_ns = time.time_ns() + int(after_s * 1e9)
        with self._lock:
            self._told(letter)
            self._try(letter.store, lambda store: store.postpone(letter.stored.seq, due_ns, problem))

    def bury(self, letter: Letter, problem: str) -> None:
        """The alert is given up: a dead letter, of which the newest are kept. What the disk can't note is remembered
        as of `done`."""
        with self._lock:
            self._told(letter)
            self._left(letter.stored.action)
            self._unnoted[letter.store, letter.stored.seq] = problem
            self._note(letter.store)
            self._given_up.count({letter.stored.severity: 1})
            self._trim_dead()

    def age(self, running: Collection[str], keep_s: float) -> dict[str, int]:
        """Give up what waits for actions that are not among `running`, once it is older than `keep_s`; and forget dead
        letters that are too old.

        How many alerts wait for each such action then: nobody sends them as long as there is no such action.
        """
        made_ns = time.time_ns() - int(keep_s * 1e9)
        left: dict[str, int] = {}
        with self._lock:
            for action in self._waiting.keys() - set(running):
                self._bury_older(action, made_ns)
                if self._waiting[action]:
                    left[action] = self._waiting[action]
            self._trim_dead()
        return left

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
        with self._lock:
            count = 0
            for store in self._stores():
                names = self._try(store, Store.counts) or {}
                count += sum(self._revive(store, name) for name in names if action in (None, name))
            self._count_waiting()
            wakers = list(self._wakers.values())
        for waker in wakers:
            waker()
        return count

    # All below: the lock is held.

    def _stores(self) -> list[Store]:
        return [self._memory] if self._disk is None else [self._disk, self._memory]

    def _note(self, store: Store) -> None:
        """Have `store` note what became of its alerts, as far as it can."""
        fates = {seq: problem for (of, seq), problem in self._unnoted.items() if of is store}
        delivered = [seq for seq, problem in fates.items() if problem is None]
        noted: list[int] = []

        def _write(store: Store) -> None:
            if delivered:
                store.remove(delivered)
                noted.extend(delivered)
            for seq, problem in fates.items():
                if problem is not None:
                    store.bury(seq, problem)
                    noted.append(seq)

        self._try(store, _write)
        for seq in noted if store in self._stores() else fates:
            del self._unnoted[store, seq]

    def _told(self, letter: Letter) -> None:
        self._turns.setdefault(letter.stored.action, Turns()).told(letter.stored.turn)

    def _left(self, action: str, count: int = 1) -> None:
        self._waiting[action] = max(0, self._waiting.get(action, 0) - count)

    def _bury_older(self, action: str, made_ns: int) -> None:
        problem = "too old; there is no such action any more"
        for store in self._stores():
            buried = self._try(store, lambda s: s.bury_older(action, made_ns, problem)) or {}
            self._given_up.count(buried)
            if count := sum(buried.values()):
                self._counters.add(f"action.{action}.dead", count)
                self._left(action, count)

    def _trim_dead(self) -> None:
        oldest_ns = time.time_ns() - int(KEEP_DEAD_S * 1e9)
        for store in self._stores():
            forgotten = self._try(store, lambda s: s.trim_dead(KEEP_DEAD, oldest_ns))
            if forgotten:
                self._counters.add("outbox.forgotten", forgotten)

    def _revive(self, store: Store, action: str) -> int:
        turn = self._turns.setdefault(action, Turns()).now
        return self._try(store, lambda s: s.revive(action, turn, time.time_ns())) or 0

    def _choose(self, action: str, letters: list[InTurn], over: int) -> list[InTurn]:
        """Give up the `over` alerts of `action` that are last in turn, among those that wait and `letters`; what is
        left of `letters`."""
        candidates = [_Candidate(turn, None, n, a.event.rule, a.severity) for n, (turn, a) in enumerate(letters)]
        for store in self._stores():
            waiting = self._try(store, lambda s: s.last(action, self._out.get(action, 0), over))
            candidates += [_Candidate(one.turn, store, one.seq, one.rule, one.severity) for one in waiting or ()]
        last = sorted(candidates, key=lambda one: one.turn, reverse=True)[:over]
        kept = {store for store in self._stores() if not self._remove(store, action, last)}
        gone = [one for one in last if one.store not in kept]
        for one in gone:
            self._turns[action].take_back(one.rule, one.severity, one.turn)
        self._given_up.without_room(action, Counter(one.severity for one in gone))
        refused = {one.number for one in gone if one.store is None}
        return [letter for number, letter in enumerate(letters) if number not in refused]

    def _remove(self, store: Store, action: str, candidates: list[_Candidate]) -> bool:
        """Remove those of `candidates` that wait in `store`; False: it can't be done."""
        seqs = [one.number for one in candidates if one.store is store]
        if seqs and self._try(store, lambda s: s.remove(seqs)) is None:
            return False
        self._left(action, len(seqs))
        return True

    def _add(self, action: str, letters: list[InTurn], windows: Sequence[Alert]) -> None:
        if self._disk is None and time.monotonic() - self._tried_s > _REOPEN_S:
            self._open_disk()
        for store in self._stores():
            if self._add_to(store, action, letters, windows):
                return
        letters = self._crowd_out(action, letters)
        for store in self._stores():
            if self._add_to(store, action, letters, ()):
                return
        self._choose(action, letters, len(letters))

    def _add_to(self, store: Store, action: str, letters: list[InTurn], windows: Sequence[Alert]) -> bool:
        """Keep it in `store`; whether that could be done. Windows are kept on disk only: in memory they are anyway."""
        if store is self._memory:
            windows = ()
        now_ns = time.time_ns()
        if self._try(store, lambda s: s.add(action, letters, windows, now_ns)) is None:
            return False
        if store is not self._memory:
            self.problem = ""
        elif letters:
            self._counters.add("outbox.memory", len(letters))
        self._waiting[action] = self._waiting.get(action, 0) + len(letters)
        return True

    def _crowd_out(self, action: str, letters: list[InTurn]) -> list[InTurn]:
        """Make room where disk and memory are full, at the cost of the action that has most waiting, and there of what
        is last in turn. What is left of `letters`: they may be among that."""
        most = max(self._waiting, key=lambda name: self._waiting[name], default=action)
        if self._waiting.get(most, 0) <= self._waiting.get(action, 0):
            return self._choose(action, letters, len(letters))
        self._choose(most, [], 2 * len(letters))  # twice: those may be smaller
        return letters

    def _rescue(self) -> None:
        """Have the disk take what is in memory only, if it does so by now; count what is lost."""
        waiting = self._memory.counts()
        if waiting and self._disk is None:
            self._open_disk()
        for action in waiting:
            stored = self._memory.due(action, 0, -1, -1)
            letters = [(one.turn, from_json(one.body)) for one in stored]
            if self._disk is None or not self._add_to(self._disk, action, letters, ()):
                self._given_up.without_room(action, Counter(one.severity for one in stored))

    def _try(self, store: Store, work: Callable[[Store], T]) -> T | None:
        """Do `work` on `store`; where the database fails, say so once and answer None."""
        if store is not self._memory and store is not self._disk:
            return None  # it was moved aside meanwhile
        try:
            return work(store)
        except sqlite3.Error as error:
            self._complain(f"{self._path}: {error}; alerts are kept in memory until the disk takes them")
            if store is self._disk and not isinstance(error, sqlite3.OperationalError):
                self._replace_disk()
            elif store is self._disk and getattr(error, "sqlite_errorname", "").startswith("SQLITE_IOERR"):
                self._drop_disk()  # opened again later, and looked through then
            return None

    def _open_disk(self) -> None:
        self._tried_s = time.monotonic()
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            disk, said = open_store(self._path, self._max_bytes)
        except (OSError, sqlite3.Error) as error:
            self._complain(f"{self._path}: cannot be opened: {error}; alerts are kept in memory until it can")
            return
        if said:
            log.error("%s", said)
            self._counters.add("outbox.corrupt")
        self.problem, self._disk = "", disk
        self._try(disk, lambda store: store.end_windows(time.time_ns()))
        self._learn_turns(disk)
        self._count_waiting()

    def _replace_disk(self) -> None:
        self._counters.add("outbox.corrupt")
        waited = sum(self._waiting.values())
        self._drop_disk()
        lost = waited - sum(self._waiting.values())
        self._counters.add("outbox.lost", lost)
        try:
            moved = move_aside(self._path)
        except OSError as error:
            self._complain(f"{self._path}: corrupt, and cannot be moved aside: {error.strerror}")
            return
        log.error("%s: corrupt; moved to %s with %d alerts, and a new one started", self._path, moved, lost)
        self._open_disk()

    def _drop_disk(self) -> None:
        assert self._disk is not None
        self._disk.close()
        self._disk = None
        self._count_waiting()

    def _count_waiting(self) -> None:
        self._waiting = {}
        for store in self._stores():
            for action, (waiting, _) in (self._try(store, Store.counts) or {}).items():
                self._waiting[action] = self._waiting.get(action, 0) + waiting

    def _learn_turns(self, store: Store) -> None:
        """Go on with the turns that what is in `store` has."""
        rows = self._try(store, Store.turns) or []
        for action in {row[0] for row in rows} - self._turns.keys():
            untried = [low for name, _, _, low in rows if name == action and low is not None]
            tried = [high for name, _, high, _ in rows if name == action]
            self._turns[action] = Turns(min(untried) - 1 if untried else max(tried))
        for action, rule, turn, _ in rows:
            self._turns[action].waits(rule, turn)

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            log.error("%s", problem)
        self.problem = problem
