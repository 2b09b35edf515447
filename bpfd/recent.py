"""What happened just before: a bounded ring of recent events in memory."""

from __future__ import annotations

from collections import deque

from bpfd.event import Event

MOST = 20_000
_DEEPEST = 16


class Recent:
    """The newest events that reached the daemon. `add` belongs to the event thread, `before` to any other."""

    def __init__(self, most: int = MOST) -> None:
        self._ring: deque[Event] = deque(maxlen=most)

    def add(self, events: list[Event]) -> None:
        """Note `events`, oldest first."""
        self._ring.extend(events)

    def before(self, event: Event, count: int) -> tuple[Event, ...]:
        """The last `count` events before `event`, oldest first, of its container, or on the host of its process tree.

        The tree is what the ring itself tells of it: whose parent the events' processes were.
        """
        earlier = [one for one in list(self._ring) if one.time < event.time]
        if event.container.id:
            related = [one for one in earlier if one.container.id == event.container.id]
        else:
            family = _family(event, earlier)
            related = [one for one in earlier if one.pid in family and not one.container.id]
        return tuple(sorted(related, key=lambda one: one.time)[-count:]) if count > 0 else ()


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
