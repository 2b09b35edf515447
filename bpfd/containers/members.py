"""The cgroups of containers that are followed, the topmost of each, and what they show over time.

Everything here is for one thread, that of `LifeWatch`, which says when to look; what is seen goes to `Lives`.
"""

from __future__ import annotations

import logging
import math
import select
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from bpfd.containers.index import NUMBERED
from bpfd.containers.lives import Lives, State
from bpfd.containers.runtimes import container_of
from bpfd.containers.shown import NOBODY, Init, Places, Shown
from bpfd.event import Container
from bpfd.inotify import IN_MODIFY, IN_Q_OVERFLOW, Inotify

log = logging.getLogger("bpfd.containers")

MOST_POLLED = 1000
"""Containers that are looked at each time; the others have their turn the next."""
INIT_S = 0.5
"""How long a container's first process is waited for while its runtime is still making it."""
INIT_STEP_S = 0.02


class Index(Protocol):
    """What is asked of the container index."""

    def by_id(self, container_id: str) -> Container: ...

    def cgroups(self) -> Iterator[tuple[int, Container, str]]: ...

    def path_of(self, cgroup_id: int) -> str | None: ...


@dataclass(slots=True)
class Member:
    """The topmost cgroup of a container."""

    cgroup: int
    container: Container
    path: str
    was_there: bool = False
    """Before anybody followed it."""
    watches: list[int] = field(default_factory=list)
    kills: int = 0
    init: Init = NOBODY
    has_init: bool = False
    """`init` is all that will be known."""
    populated_at: int = 0
    """When a process was first seen in it, wall clock; 0: never."""
    give_up_at: float = 0.0
    """When its first process is taken as it is, by the monotonic clock; 0: it is not waited for."""


class Members:
    """Looks at cgroups, from `open` to `close`, and tells `lives` of what changed. Times are nanoseconds since 1970."""

    def __init__(self, index: Index, places: Places, lives: Lives) -> None:
        self._index, self._places, self._lives = index, places, lives
        self._members: dict[int, Member] = {}
        self._turn: OrderedDict[int, None] = OrderedDict()
        """Those that are polled, the next first."""
        self._soon: dict[int, float] = {}
        """When those are looked at again whose first process is waited for, by the monotonic clock."""
        self._by_watch: dict[int, Member] = {}
        self._inotify: Inotify | None = None

    def open(self, epoll: select.epoll) -> None:
        """Find what is there already, none of which is told. From now on changes that inotify tells of wake `epoll`."""
        try:
            self._inotify = Inotify()
            epoll.register(self._inotify.fd, select.EPOLLIN)
        except OSError as error:
            log.warning("containers: no inotify: %s; all are looked at once a second", error.strerror)
        for cgroup, container, path in self._index.cgroups():
            if _is_topmost(path, container):
                member = Member(cgroup, container, path, was_there=True)
                self._add(member)
                self._find(member)

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()

    def appeared(self, cgroup: int, container: Container, path: str | None, at: int) -> None:
        """A cgroup of a container was made; without a path the index is asked for it."""
        path = path or self._index.path_of(cgroup) or ""
        if path and not _is_topmost(path, container):
            return
        member = self._members.get(cgroup)
        if member is not None:
            if not member.was_there:
                return
            self._drop(member)  # it came while we began to follow, and this is the news of it
            self._lives.forget(container.id)
        self._lives.showed(container, cgroup, "created", at)
        if self._lives.life(container.id) is not None:
            member = Member(cgroup, container, path)
            self._add(member)
            self._look(member)

    def vanished(self, cgroup: int, at: int) -> None:
        """A cgroup was removed; it need not be one of these."""
        member = self._members.get(cgroup)
        if member is None:
            return
        self._drop(member)
        self._show_running(member)
        self._lives.showed(member.container, cgroup, "destroyed", at)

    def give_up(self, cgroup: int) -> None:
        """There are too many containers; this one is not followed any more."""
        member = self._members.get(cgroup)
        if member is not None:
            self._drop(member)

    def resync(self) -> None:
        """Find what came and went while it was not heard of. Takes some 10 µs for each cgroup of the machine."""
        at, there = time.time_ns(), set()
        for cgroup, container, path in self._index.cgroups():
            there.add(cgroup)
            if cgroup not in self._members:
                self.appeared(cgroup, container, path, at)
        for cgroup in self._members.keys() - there:
            self.vanished(cgroup, at)

    def take_changes(self) -> None:
        """Look at those of which inotify tells."""
        for change in self._inotify.read() if self._inotify is not None else ():
            if change.mask & IN_Q_OVERFLOW:
                self._look_at(list(self._members))
            elif (member := self._by_watch.get(change.watch)) is not None:
                self._look(member)

    def poll(self) -> None:
        """Look at those of which nothing tells, `MOST_POLLED` of them, the longest unseen first."""
        polled = list(islice(self._turn, MOST_POLLED))
        for cgroup in polled:
            self._turn.move_to_end(cgroup)
        self._look_at(polled)

    def look_again(self) -> float:
        """Look at those that are due, and believe what they show. When to call it again, by the monotonic clock."""
        now = time.monotonic()
        self._look_at([cgroup for cgroup, due in self._soon.items() if due <= now])
        self._look_at(self._lives.due())
        return min([*self._soon.values(), self._lives.settle() or math.inf])

    def init_of(self, container_id: str) -> int:
        """The first process of a container that runs by now, as the host numbers it; 0: there is none to be seen."""
        life = self._lives.life(container_id)
        member = self._members.get(life.cgroup) if life is not None else None
        if member is None:
            return 0
        if not member.has_init:
            member.init = self._places.find_init(member.path)
        return member.init.pid

    def _add(self, member: Member) -> None:
        self._members[member.cgroup] = member
        if self._inotify is not None:
            self._watch(member, self._inotify)
        if self._places.has_silent() or not member.watches:
            self._turn[member.cgroup] = None

    def _watch(self, member: Member, inotify: Inotify) -> None:
        for name in self._places.inotified(member.path):
            try:
                watch = inotify.add(name, IN_MODIFY)
            except OSError:  # it is not there, or there is no room: then it is polled
                continue
            member.watches.append(watch)
            self._by_watch[watch] = member

    def _drop(self, member: Member) -> None:
        del self._members[member.cgroup]
        self._turn.pop(member.cgroup, None)
        self._soon.pop(member.cgroup, None)
        for watch in member.watches:  # those of a removed cgroup stay otherwise
            self._by_watch.pop(watch, None)
            if self._inotify is not None:
                self._inotify.remove(watch)

    def _look_at(self, cgroups: Iterable[int]) -> None:
        for cgroup in cgroups:
            member = self._members.get(cgroup)
            if member is not None:  # a look may give up another
                self._look(member)

    def _find(self, member: Member) -> None:
        """See what the cgroup shows that was there before anybody looked."""
        at = time.time_ns()
        shown = self._places.look(member.path)
        if shown is None:
            self._drop(member)
            return
        member.kills, member.init = shown.oom_kills, self._places.find_init(member.path)
        member.has_init, member.populated_at = shown.populated, at if shown.populated else 0
        self._lives.found(member.container, member.cgroup, _state_of(shown, has_run=False), member.init.pid)

    def _look(self, member: Member) -> None:
        """See what the cgroup shows, and tell it."""
        at = time.time_ns()
        shown = self._places.look(member.path)
        if shown is None:
            self.vanished(member.cgroup, at)
            return
        if shown.oom_kills > member.kills:
            member.kills = shown.oom_kills
            self._begin(member, at)
            self._show_running(member)
            self._lives.showed_oom(member.container, at)
        if shown.populated:
            if self._is_init_awaited(member, at):
                return
        else:
            self._show_running(member)
            member.has_init, member.init = False, NOBODY
        state = _state_of(shown, has_run=member.populated_at != 0)
        self._lives.showed(member.container, member.cgroup, state, at, member.init.pid)

    def _begin(self, member: Member, at: int) -> None:
        """Something runs, or did."""
        if not member.has_init and not member.give_up_at:
            member.populated_at, member.give_up_at = at, time.monotonic() + INIT_S

    def _is_init_awaited(self, member: Member, at: int) -> bool:
        """Whether the container's first process is still being made; else it is known as well as it will be."""
        if member.has_init:
            return False
        self._begin(member, at)
        now = time.monotonic()
        member.init = self._places.find_init(member.path)
        if member.init.is_sure or now >= member.give_up_at:
            self._settle_init(member)
            return False
        self._soon[member.cgroup] = now + INIT_STEP_S
        return True

    def _settle_init(self, member: Member) -> None:
        member.has_init, member.give_up_at = True, 0.0
        self._soon.pop(member.cgroup, None)

    def _show_running(self, member: Member) -> None:
        """It ended before its first process was known for sure: it did run."""
        if member.give_up_at:
            self._settle_init(member)
            self._lives.showed(member.container, member.cgroup, "running", member.populated_at, member.init.pid)


def _state_of(shown: Shown, has_run: bool) -> State:
    """What a cgroup shows; an empty one tells by whether something ran in it."""
    if shown.populated:
        return "paused" if shown.frozen else "running"
    return "exited" if has_run else "created"


def _is_topmost(path: str, container: Container) -> bool:
    """Whether a cgroup of the container is not below another of it."""
    above = path.rpartition("/")[0]
    if len(container.id) == NUMBERED:
        return container.id not in above
    return container_of(above) != (container.id, container.runtime)
