"""What happened just before: a bounded ring of recent events in memory."""

from __future__ import annotations

import time
from collections import deque
from itertools import islice
from operator import attrgetter

from bpfd.event import Event
from bpfd.fold import Bucket

MOST = 8192
_DEEPEST = 16
PER_SECOND = 50
"""How many alerts a second learn what went before; in a flood, the others do without: looking takes a millisecond."""


class Recent:
    """The newest events that reached the daemon. `add` belongs to the event thread, the others to any other."""

    def __init__(self, most: int = MOST) -> None:
        self._ring: deque[Event] = deque(maxlen=most)
        self._budget = Bucket(60 * PER_SECOND, 2 * PER_SECOND)
        self.add = self._ring.append
        """Note one event; the oldest is forgotten."""

    def clear(self) -> None:
        """Forget all."""
        self._ring.clear()

    def sparing(self, event: Event, count: int) -> tuple[Event, ...]:
        """As `before`; empty if it was asked too often."""
        return self.before(event, count) if self._budget.take(time.monotonic()) else ()

    def before(self, event: Event, count: int) -> tuple[Event, ...]:
        """The last `count` events before `event`, oldest first, of its container, or on the host of its process tree.

        The tree is what the ring itself tells of it: whose parent the events' processes were.
        """
        earlier = [one for one in list(self._ring) if one.time < event.time]
        home = event.container.id
        if home:
            related = (one for one in reversed(earlier) if one.container.id == home)
        else:
            family = _family(event, earlier)
            related = (one for one in reversed(earlier) if one.pid in family and not one.container.id)
        return tuple(sorted(islice(related, max(0, count)), key=attrgetter("time")))


def _family(event: Event, earlier: list[Event]) -> set[int]:
    """The process of `event` and its parent with all their descendants, and its ancestors; as far as events tell."""
    parents = {one.pid: one.ppid for one in [*earlier, event]}
    ancestors: list[int] = []
    pid = event.ppid
    while pid > 1 and pid not in ancestors and len(ancestors) < _DEEPEST:
        ancestors.append(pid)
        pid = parents.get(pid, 0)
    family = {event.pid, *ancestors[:1]}
    for _ in range(_DEEPEST):
        children = {pid for pid, parent in parents.items() if parent in family} - family
        if not children:
            break
        family |= children
    return family | set(ancestors)
