"""Alerts on disk until they are delivered: written before an event counts as handled, found again after a crash."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from bpfd.alert import Alert
from bpfd.counters import Counters
from bpfd.given_up import GivenUp
from bpfd.spool import InTurn, Letter, Spool
from bpfd.store import Placed, RuleTurns, Store, Stored
from bpfd.turns import Turns

FILE = "outbox.db"
LIMIT = 50_000
"""How many alerts may wait for one action, so that one that hangs does not take the room of the others."""
KEEP_DEAD = 1000
KEEP_DEAD_S = 30 * 86400.0


class Outbox:
    """The alerts that wait for notifying actions. Methods may be called from any thread but the event thread: they
    wait for the disk.

    Rules take turns (`Turns`): the next in turn is told first, and without room the last in turn is given up. Counts,
    beside what `Spool` does, as `action.NAME.dropped`: no room; `alerts.given_up.SEVERITY`: those, and dead letters;
    `action.NAME.dead`: too old for an action that there is no more; `outbox.forgotten`: dead letters that were deleted.
    """

    def __init__(self, directory: Path, counters: Counters, max_bytes: int = 256 << 20, limit: int = LIMIT) -> None:
        """Open the outbox in `directory`, which is made if need be. Never fails: `problem` says what is wrong."""
        self._limit = limit
        self._counters = counters
        self._given_up = GivenUp(counters)
        self._lock = threading.Lock()
        self._turns: defaultdict[str, Turns] = defaultdict(Turns)
        self._out: dict[str, int] = {}
        """By action the highest turn that was taken to be sent: up to it, nothing is given up for another."""
        self._wakers: dict[str, Callable[[], None]] = {}
        self._spool = Spool(directory / FILE, counters, max_bytes, self._learn_turns)

    def close(self) -> None:
        """Give back the database, once the deliveries have ended. What no disk takes even now is lost, and counted."""
        with self._lock:
            for action, severities in self._spool.close().items():
                self._given_up.without_room(action, severities)
        self._given_up.say(at_last=True)

    @property
    def problem(self) -> str:
        """What is wrong with the disk now; empty: nothing."""
        return self._spool.problem

    def put(self, action: str, alerts: Sequence[Alert], windows: Sequence[Alert] = ()) -> None:
        """Keep `alerts` for the action instance `action`; they are safe on return. What has no room is counted.

        `windows` are summaries as far as they go, of windows that have not ended: sent only if this process ends
        without their end. The summary that ends one has the same id.
        """
        with self._lock:
            turns = self._turns[action]
            letters = [(turns.give(alert.event.rule, alert.severity), alert) for alert in alerts]
            over = self._spool.waiting[action] + len(letters) - self._limit
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
        with self._lock:
            letters = self._spool.due(action, limit)
            if letters:
                self._out[action] = letters[-1].stored.turn
            return letters

    def next_due_s(self, action: str) -> float | None:
        """In how many seconds the next alert of `action` is due; None: nothing waits."""
        with self._lock:
            return self._spool.next_due_s(action)

    def done(self, letter: Letter) -> None:
        """The alert was delivered."""
        with self._lock:
            self._told(letter)
            self._spool.settle(letter, None)

    def postpone(self, letter: Letter, after_s: float, problem: str) -> None:
        """The alert could not be delivered: try it again in `after_s` seconds."""
        due_ns = time.time_ns() + int(after_s * 1e9)
        with self._lock:
            self._told(letter)
            self._spool.postpone(letter, due_ns, problem)

    def bury(self, letter: Letter, problem: str) -> None:
        """The alert is given up: a dead letter, of which the newest are kept."""
        with self._lock:
            self._told(letter)
            self._spool.settle(letter, problem)
            self._given_up.count({letter.stored.severity: 1})
            self._trim_dead()

    def age(self, running: Collection[str], keep_s: float) -> dict[str, int]:
        """Give up what waits for actions that are not among `running`, once it is older than `keep_s`; and forget dead
        letters that are too old.

        How many alerts wait for each such action then: nobody sends them as long as there is no such action.
        """
        made_ns = time.time_ns() - int(keep_s * 1e9)
        with self._lock:
            missing = self._spool.waiting.keys() - set(running)
            for action in missing:
                self._bury_older(action, made_ns)
            self._trim_dead()
            return {action: count for action in missing if (count := self._spool.waiting[action])}

    def waiting(self) -> dict[str, tuple[int, int]]:
        """How many alerts wait and how many are dead letters, for each action."""
        with self._lock:
            return self._spool.counts()

    def dead(self) -> list[Stored]:
        """The dead letters, the oldest first, with the problem that each one died of."""
        with self._lock:
            return [stored for letters in self._spool.each(Store.dead) for stored in letters]

    def retry(self, action: str | None = None) -> int:
        """Send dead letters again, all or those of `action`; how many."""
        with self._lock:
            names = [name for name in self._spool.counts() if action in (None, name)]
            count = sum(self._spool.revive(name, self._turns[name].now) for name in names)
            wakers = list(self._wakers.values())
        for waker in wakers:
            waker()
        return count

    # All below: the lock is held.

    def _told(self, letter: Letter) -> None:
        self._turns[letter.stored.action].told(letter.stored.turn)

    def _bury_older(self, action: str, made_ns: int) -> None:
        buried = self._spool.bury_older(action, made_ns, "too old; there is no such action any more")
        self._given_up.count(buried)
        if buried:
            self._counters.add(f"action.{action}.dead", buried.total())

    def _trim_dead(self) -> None:
        oldest_ns = time.time_ns() - int(KEEP_DEAD_S * 1e9)
        if forgotten := sum(self._spool.each(lambda store: store.trim_dead(KEEP_DEAD, oldest_ns))):
            self._counters.add("outbox.forgotten", forgotten)

    def _choose(self, action: str, letters: list[InTurn], over: int) -> list[InTurn]:
        """Give up the `over` alerts of `action` that are last in turn, among those that wait and `letters`; what is
        left of `letters`."""
        candidates: list[tuple[Store | None, Placed]] = [
            (None, Placed(turn, number, alert.event.rule, alert.severity))
            for number, (turn, alert) in enumerate(letters)
        ]
        candidates += self._spool.last(action, self._out.get(action, 0), over)
        last = sorted(candidates, key=lambda one: one[1].turn, reverse=True)[:over]
        refused = [one for store, one in last if store is None]
        removed = self._spool.remove(action, [(store, one) for store, one in last if store is not None])
        for one in [*refused, *removed]:
            self._turns[action].take_back(one.rule, one.severity, one.turn)
        self._given_up.without_room(action, Counter(one.severity for one in [*refused, *removed]))
        numbers = {one.seq for one in refused}
        return [letter for number, letter in enumerate(letters) if number not in numbers]

    def _add(self, action: str, letters: list[InTurn], windows: Sequence[Alert]) -> None:
        if self._spool.add(action, letters, windows):
            return
        letters = self._crowd_out(action, letters)
        if letters and not self._spool.add(action, letters):
            self._choose(action, letters, len(letters))

    def _crowd_out(self, action: str, letters: list[InTurn]) -> list[InTurn]:
        """Make room where disk and memory are full, at the cost of the action that has most waiting, and there of what
        is last in turn. What is left of `letters`: they may be among that."""
        waiting = self._spool.waiting
        most = max(waiting, key=lambda name: waiting[name], default=action)
        if waiting[most] <= waiting[action]:
            return self._choose(action, letters, len(letters))
        self._choose(most, [], 2 * len(letters))  # twice: those may be smaller
        return letters

    def _learn_turns(self, rows: Sequence[RuleTurns]) -> None:
        """Go on with the turns that what is in a database has."""
        for action in {row[0] for row in rows} - self._turns.keys():
            untried = [low for name, _, _, low in rows if name == action and low is not None]
            tried = [high for name, _, high, _ in rows if name == action]
            self._turns[action] = Turns(min(untried) - 1 if untried else max(tried))
        for action, rule, turn, _ in rows:
            self._turns[action].waits(rule, turn)
