"""Alerts in the outbox's database, and in memory while the disk is full, read-only, corrupt or gone."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from bpfd.alert import Alert, from_json
from bpfd.counted import counted
from bpfd.counters import Counters
from bpfd.store import Placed, RuleTurns, Store, Stored, move_aside, open_store

MEMORY_BYTES = 32 << 20
_HORIZON_NS = 2 * 3600 * 10**9
_REOPEN_S = 30.0
_NOTE_AGAIN_S = 1.0

log = logging.getLogger(__name__)
T = TypeVar("T")
InTurn = tuple[int, Alert]
"""An alert with its turn."""


class Letter(NamedTuple):
    """An alert in the spool, and the store that has it."""

    store: Store
    stored: Stored


class Spool:
    """The store on disk, and one in memory, bounded, for what the disk does not take: an attacker who fills the disk
    does not silence the alerts. The disk is tried again with the next ones.

    Not thread-safe: its owner, the outbox, holds its lock around every call and around `waiting`; `problem` may be read
    without. No method raises for what the disk does: it is said in the log once and in `problem`.

    Counts `outbox.memory`: alerts kept in memory; `outbox.corrupt`: times that the file had to be made anew;
    `outbox.lost`: alerts in it then, as far as that is known.
    """

    def __init__(
        self,
        path: Path,
        counters: Counters,
        max_bytes: int,
        learn: Callable[[Sequence[RuleTurns]], None],
    ) -> None:
        """Open the database at `path`, whose directory is made if need be. `close` gives it back.

        `learn` is called under the owner's lock, here already, with the `Store.turns` of each database that is opened.
        """
        self._path = path
        self._counters = counters
        self._max_bytes = max_bytes
        self._learn = learn
        self._memory = Store(None, MEMORY_BYTES)
        self._disk: Store | None = None
        self._tried_s = 0.0
        self._unnoted: dict[tuple[Store, int], str | None] = {}
        """What the disk could not note yet: alerts that were delivered (None), or given up for a problem."""
        self.waiting: Counter[str] = Counter()
        """How many alerts wait for each action, without asking the disk."""
        self.problem = ""
        """What is wrong with the disk now; empty: nothing."""
        self._open_disk()

    def close(self) -> dict[str, Counter[str]]:
        """Have the disk take what is in memory only, if it does so by now. What is lost: by action, how many of each
        severity."""
        actions = self._memory.counts()
        if actions and self._disk is None:
            self._open_disk()
        lost = {}
        for action in actions:
            stored = self._memory.due(action, 0, -1, -1)
            letters = [(one.turn, from_json(one.body)) for one in stored]
            if self._disk is None or not self._add_to(self._disk, action, letters, ()):
                lost[action] = Counter(one.severity for one in stored)
        self._memory.close()
        if self._disk is not None:
            self._disk.close()
            self._disk = None
        return lost

    def add(self, action: str, letters: Collection[InTurn], windows: Collection[Alert] = ()) -> bool:
        """Keep `letters` for `action`, and `windows` as of `Store.add`; False: neither disk nor memory has room."""
        if self._disk is None and time.monotonic() - self._tried_s > _REOPEN_S:
            self._open_disk()
        return any(self._add_to(store, action, letters, windows) for store in self._stores())

    def due(self, action: str, limit: int) -> list[Letter]:
        """What is to be sent now, in turn, without what was settled."""
        now_ns = time.time_ns()

        def _due(store: Store) -> list[Letter]:
            found = store.due(action, now_ns, now_ns + _HORIZON_NS, limit + len(self._unnoted))
            return [Letter(store, stored) for stored in found if (store, stored.seq) not in self._unnoted][:limit]

        for store in {store for store, _ in self._unnoted}:
            self._note(store)
        found = [letter for letters in self.each(_due) for letter in letters]
        return sorted(found, key=lambda letter: letter.stored.turn)[:limit]

    def next_due_s(self, action: str) -> float | None:
        """In how many seconds the next alert of `action` is due; None: nothing waits."""
        due_ns = self.each(lambda store: store.next_due_ns(action))
        least_s = _NOTE_AGAIN_S if self._unnoted else 0.0  # they look as if they were due
        return max(least_s, (min(due_ns) - time.time_ns()) / 1e9) if due_ns else None

    def settle(self, letter: Letter, problem: str | None) -> None:
        """The alert was delivered (None), or is a dead letter for that problem. What the disk can't note is remembered
        until it can."""
        self._left(letter.stored.action, 1)
        self._unnoted[letter.store, letter.stored.seq] = problem
        self._note(letter.store)

    def postpone(self, letter: Letter, due_ns: int, problem: str) -> None:
        """Note a try that failed, and when the next one is due (wall clock)."""
        self._try(letter.store, lambda store: store.postpone(letter.stored.seq, due_ns, problem))

    def last(self, action: str, beyond: int, limit: int) -> list[tuple[Store, Placed]]:
        """Those of each store that would be sent last, of turns beyond `beyond`."""
        found = self.each(lambda store: [(store, one) for one in store.last(action, beyond, limit)])
        return [placed for of_store in found for placed in of_store]

    def remove(self, action: str, placed: Sequence[tuple[Store, Placed]]) -> list[Placed]:
        """Forget alerts that wait for `action`; those for which that could be done."""
        return [one for store in self._stores() for one in self._remove(store, action, placed)]

    def bury_older(self, action: str, made_ns: int, problem: str) -> Counter[str]:
        """Make all for `action` that was kept before `made_ns` dead letters; how many of each severity."""
        buried: Counter[str] = Counter()
        for severities in self.each(lambda store: store.bury_older(action, made_ns, problem)):
            buried.update(severities)
        self._left(action, buried.total())
        return buried

    def revive(self, action: str, turn: int) -> int:
        """Make the dead letters of `action` due now, in that turn; how many."""
        count = sum(self.each(lambda store: store.revive(action, turn, time.time_ns())))
        self._count_waiting()
        return count

    def counts(self) -> dict[str, tuple[int, int]]:
        """How many alerts wait and how many are dead letters, for each action that has any."""
        total: dict[str, tuple[int, int]] = {}
        for counts in self.each(Store.counts):
            for action, (waiting, dead) in counts.items():
                before = total.get(action, (0, 0))
                total[action] = (before[0] + waiting, before[1] + dead)
        return total

    def each(self, work: Callable[[Store], T | None]) -> list[T]:
        """What `work` answers on each store, without None and without stores that fail."""
        return [answer for store in self._stores() if (answer := self._try(store, work)) is not None]

    def _stores(self) -> list[Store]:
        return [self._memory] if self._disk is None else [self._disk, self._memory]

    def _add_to(self, store: Store, action: str, letters: Collection[InTurn], windows: Collection[Alert]) -> bool:
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
        self.waiting[action] += len(letters)
        return True

    def _remove(self, store: Store, action: str, placed: Sequence[tuple[Store, Placed]]) -> list[Placed]:
        ours = [one for of, one in placed if of is store]
        if not ours or self._try(store, lambda s: s.remove([one.seq for one in ours])) is None:
            return []
        self._left(action, len(ours))
        return ours

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

    def _left(self, action: str, count: int) -> None:
        self.waiting[action] = max(0, self.waiting[action] - count)

    def _count_waiting(self) -> None:
        self.waiting = Counter({action: waiting for action, (waiting, _) in self.counts().items()})

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
        self._learn(self._try(disk, Store.turns) or ())
        self._count_waiting()

    def _replace_disk(self) -> None:
        self._counters.add("outbox.corrupt")
        waited = self.waiting.total()
        self._drop_disk()
        lost = waited - self.waiting.total()
        self._counters.add("outbox.lost", lost)
        try:
            moved = move_aside(self._path)
        except OSError as error:
            self._complain(f"{self._path}: corrupt, and cannot be moved aside: {error.strerror}")
            return
        log.error("%s: corrupt; moved to %s with %s, and a new one started", self._path, moved, counted(lost, "alert"))
        self._open_disk()

    def _drop_disk(self) -> None:
        assert self._disk is not None
        self._disk.close()
        self._disk = None
        self._count_waiting()

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            log.error("%s", problem)
        self.problem = problem
