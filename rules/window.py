"""When matches make a rule fire: counts within a time, and sequences of rules.

Memory is bounded, and what was forgotten for it is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from collections.abc import Sequence as Many
from itertools import islice

from bpfd.event import Event
from bpfd.rules import fields, model

MOST_TIMES = 1 << 17
"""How many times of matches one counter keeps: about 5 MB."""
MOST_KEYS = 1 << 15
"""How many processes, trees or containers one sequence follows."""


class Counter:
    """Fires when `count` events of one key came within `within_ns`; then that key begins anew.

    One thread. Keys that were silent longest make room when `most` times are kept; `evicted` counts those that could
    still have fired.
    """

    def __init__(self, spec: model.Count, most: int = MOST_TIMES) -> None:
        self._spec = spec
        self._most = max(most, spec.count)
        self._kept = 0
        self._times: dict[Hashable, deque[int]] = {}
        self._newest = 0
        self.evicted = 0

    def feed(self, key: Hashable, time_ns: int) -> bool:
        """Note a match; True: the rule fires. Times may come a little out of order."""
        self._newest = max(self._newest, time_ns)
        times = self._times.pop(key, None)
        if times is None:
            times = deque()
        while times and times[0] < time_ns - self._spec.within_ns:
            times.popleft()
            self._kept -= 1
        times.append(time_ns)
        self._kept += 1
        if len(times) >= self._spec.count:
            self._kept -= len(times)
            return True
        self._times[key] = times  # at the end: the order of the keys is that of their last match
        if self._kept > self._most:
            self._evict()
        return False

    def __len__(self) -> int:
        """How many keys are followed."""
        return len(self._times)

    def _evict(self) -> None:
        """Forget the key that was silent longest."""
        key = next(iter(self._times))
        times = self._times.pop(key)
        self._kept -= len(times)
        self.evicted += times[-1] >= self._newest - self._spec.within_ns


class Sequence:
    """Fires when the rules of a sequence matched in order for one key; then that key begins anew.

    For each key and each step it keeps when the latest run that got so far began: no earlier one can do better. One
    thread. Keys that were silent longest make room for new ones; `evicted` counts those that could still have fired.
    """

    def __init__(self, spec: model.Sequence, most: int = MOST_KEYS) -> None:
        self._spec = spec
        self._most = most
        self._begun: dict[Hashable, list[int]] = {}
        self._newest = 0
        self.evicted = 0

    def feed(self, rule: str, keys: Many[Hashable], time_ns: int) -> bool:
        """Note that `rule` matched; True: the sequence fires.

        `keys[0]` is the event's own process or container; what follows are, nearest first, the ancestors whose runs it
        may go on with (for `tree`). No keys: the event belongs to none.
        """
        if not keys:
            return False
        self._newest = max(self._newest, time_ns)
        # The last step first, so that one event never takes two steps of a rule that is named twice.
        for step in range(len(self._spec.rules) - 1, -1, -1):
            if self._spec.rules[step] == rule and self._step(step, keys, time_ns):
                return True
        return False

    def __len__(self) -> int:
        """How many keys are followed."""
        return len(self._begun)

    def _step(self, step: int, keys: Many[Hashable], time_ns: int) -> bool:
        if step == 0:
            self._start(keys[0], time_ns)
            return len(self._spec.rules) == 1
        oldest = time_ns - self._spec.within_ns
        for key in keys:
            begun = self._begun.get(key)
            if begun is None or len(begun) < step or not oldest <= begun[step - 1] <= time_ns:
                continue
            if step == len(self._spec.rules) - 1:
                del self._begun[key]
                return True
            begun[step:] = [begun[step - 1], *begun[step + 1 :]]
            self._begun[key] = self._begun.pop(key)
        return False

    def _start(self, key: Hashable, time_ns: int) -> None:
        begun = self._begun.pop(key, None) or [0]
        begun[0] = time_ns
        self._begun[key] = begun
        if len(self._begun) > self._most:
            silent = self._begun.pop(next(iter(self._begun)))
            self.evicted += max(silent) >= self._newest - self._spec.within_ns


def key_of(by: Many[str]) -> Callable[[Event], Hashable]:
    """What tells events apart for a `Counter`: the values of the fields `by`."""
    names = tuple(by)
    return lambda event: tuple(fields.value(event, name) for name in names)


def kin_of(by: model.Kin, ancestors: Callable[[Event], Many[Hashable]]) -> Callable[[Event], Many[Hashable]]:
    """The keys of an event for a `Sequence`. `ancestors` gives those of a process as (pid, start), nearest first."""
    if by == "container":
        return lambda event: (event.container.id,) if event.container.id else ()
    if by == "process":
        return lambda event: ((event.pid, event.start),)
    return lambda event: ((event.pid, event.start), *islice(ancestors(event), 64))
