"""Follows the lives of containers while somebody wants to know of them: cgroups as they change, Docker as it speaks."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bpfd.containers.lives import MOST, Listed, Lives, State
from bpfd.containers.runtimes import container_of
from bpfd.containers.shown import NOBODY, Init, Places
from bpfd.event import Container
from bpfd.inotify import IN_MODIFY, IN_Q_OVERFLOW, Inotify
from bpfd.plugin import ContainerChange

log = logging.getLogger("bpfd.containers")

POLL_S = 1.0
"""How often files are read of which nothing tells: those of cgroup v1, and what inotify had no room for."""
MOST_POLLED = 1000
"""Containers that are looked at each time; the others have their turn the next."""
RESYNC_S = 10.0
"""How often at most all cgroups are looked through, for what was not heard of."""
INIT_S = 0.5
"""How long a container's first process is waited for while its runtime is still making it."""
INIT_STEP_S = 0.02
MOST_NEWS = 65536
FIND_S = 5.0
"""How long a `follow` waits, at most, until all that is there has been looked at, and Docker has been heard."""
STOP_S = 1.0
NUMBERED = 64
"""The length of ids that stand for one container alone; shorter ones are names, and may be part of others."""

Listener = Callable[[ContainerChange], None]


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
    is_known: bool = False
    """It has been looked at."""
    watches: list[int] = field(default_factory=list)
    kills: int = 0
    init: Init = NOBODY
    has_init: bool = False
    """`init` is all that will be known."""
    populated_at: int = 0
    """When a process was first seen in it, wall clock; 0: never."""
    give_up_at: float = 0.0
    """When its first process is taken as it is, by the monotonic clock."""


class LifeWatch:
    """Tells listeners of containers' lives. Its thread runs from the first `follow` to the last `unfollow`.

    `cgroup_came` and `cgroup_went` are for the event thread and never wait; what finds no room is counted, and made up
    for by looking at all cgroups. The methods about Docker are for the thread that follows it, and may wait.
    """

    def __init__(self, index: Index, places: Places | None = None, most: int = MOST) -> None:
        """`close` it once nobody calls it any more."""
        self._index, self._most = index, most
        self._places = places or Places.here()
        self._lock = threading.Lock()
        self._listeners: tuple[Listener, ...] = ()
        self._thread: threading.Thread | None = None
        self._news: deque[tuple[Callable[..., None], Sequence[Any]]] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_open = False
        self._has_found_all, self._has_heard_docker = threading.Event(), threading.Event()
        self.on_begin: Callable[[], bool] = lambda: False
        """Called when the first listener came, for Docker to be asked what there is: whether word of it will come."""
        self.lost: Callable[[], int] = lambda: 0
        """How many cgroups came or went and were not heard of."""
        self.changes_lost = 0
        """News of cgroups that found no room."""
        self._unfollowed = 0
        self._lives = self._new_lives()
        self._members: dict[int, Member] = {}
        self._turn: deque[int] = deque()
        self._soon: dict[int, float] = {}
        self._by_watch: dict[int, Member] = {}
        self._inotify: Inotify | None = None

    @property
    def is_followed(self) -> bool:
        return self._is_open

    @property
    def unfollowed(self) -> int:
        """Containers that were given up, or not taken, since there are so many."""
        return self._unfollowed + self._lives.unfollowed

    def follow(self, listener: Listener) -> None:
        """Call `listener` with every change from now on, on a thread of this object's. It must return at once.

        Blocks for `FIND_S` at most, usually for some 10 ms.
        """
        with self._lock:
            self._listeners = (*self._listeners, listener)
            if self._thread is None:
                self._is_open = True
                self._has_found_all.clear()
                self._has_heard_docker.clear()
                self._thread = threading.Thread(target=self._run, name="bpfd-lives", daemon=True)
                self._thread.start()
                until = time.monotonic() + FIND_S
                if self.on_begin():
                    self._has_heard_docker.wait(FIND_S)
                self._has_found_all.wait(max(0.0, until - time.monotonic()))

    def unfollow(self, listener: Listener) -> None:
        """Call it no more; on return no call is under way. Within a second."""
        with self._lock:
            self._listeners = tuple(one for one in self._listeners if one != listener)
            if not self._listeners and self._thread is not None:
                self._is_open = False
                self._wake()
                self._thread.join(STOP_S)
                self._thread = None

    def close(self) -> None:
        os.close(self._wake_fd)

    def cgroup_came(self, cgroup: int, container: Container, path: str | None) -> None:
        """A cgroup of a container was made. Event thread."""
        self._put(self._appeared, (cgroup, container, path, time.time_ns()))

    def cgroup_went(self, cgroup: int) -> None:
        """A cgroup was removed. Event thread."""
        self._put(self._vanished, (cgroup, time.time_ns()))

    def docker_listed(self, listed: Iterable[Listed], at: int, is_whole: bool) -> None:
        """See `Lives.listed`."""
        self._put_for_sure(self._docker_lists, (list(listed), at, is_whole))

    def docker_is_away(self) -> None:
        """There is no Docker."""
        self._has_heard_docker.set()

    def docker_said(self, container_id: str, state: State | None, at: int, exit_code: int | None) -> None:
        """See `Lives.said`; without a state it is an oom."""
        self._put_for_sure(self._docker_says, (container_id, state, at, exit_code))

    def docker_left(self) -> None:
        """See `Lives.docker_left`."""
        self._put_for_sure(self._docker_leaves, ())

    def _put(self, method: Callable[..., None], arguments: Sequence[Any]) -> bool:
        if not self._is_open:
            return True
        if len(self._news) >= MOST_NEWS:
            self.changes_lost += 1
            return False
        self._news.append((method, arguments))
        self._wake()
        return True

    def _put_for_sure(self, method: Callable[..., None], arguments: Sequence[Any]) -> None:
        while self._is_open and len(self._news) >= MOST_NEWS:
            time.sleep(0.01)
        self._put(method, arguments)

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def _new_lives(self) -> Lives:
        return Lives(self._tell, self._index.by_id, self._give_up, self._most)

    def _tell(self, change: ContainerChange) -> None:
        for listener in self._listeners:
            try:
                listener(change)
            except Exception:
                log.exception("whoever follows containers met an error and goes on")

    def _run(self) -> None:
        with select.epoll() as epoll:
            epoll.register(self._wake_fd, select.EPOLLIN)
            try:
                self._inotify = Inotify()
                epoll.register(self._inotify.fd, select.EPOLLIN)
            except OSError as error:
                log.warning("containers: no inotify: %s; all are looked at once a second", error.strerror)
            try:
                self._follow(epoll)
            finally:
                self._forget_all()

    def _follow(self, epoll: select.epoll) -> None:
        self._find_all()
        self._has_found_all.set()
        polled_at = resynced_at = time.monotonic()
        heard_of = self._missed()
        wait_s: float = 0
        while self._is_open:
            epoll.poll(wait_s)
            try:
                self._take_news()
                self._take_changes()
                now = time.monotonic()
                if now - polled_at >= POLL_S:
                    polled_at = now
                    self._poll()
                    if (missed := self._missed()) != heard_of and now - resynced_at >= RESYNC_S:
                        heard_of, resynced_at = missed, now
                        self._resync()
                self._look_at(cgroup for cgroup, due in list(self._soon.items()) if due <= now)
                self._look_at(self._lives.due())
                dues = [*self._soon.values(), polled_at + POLL_S, self._lives.settle() or polled_at + POLL_S]
                wait_s = max(0.0, min(dues) - time.monotonic())
            except Exception:
                log.exception("the thread that follows containers met an error and goes on")
                wait_s = POLL_S

    def _missed(self) -> int:
        return self.changes_lost + self.lost()

    def _forget_all(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
        self._unfollowed += self._lives.unfollowed
        self._lives = self._new_lives()
        for kept in (self._members, self._turn, self._soon, self._by_watch, self._news):
            kept.clear()

    def _take_news(self) -> None:
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            return
        for _ in range(len(self._news)):
            method, arguments = self._news.popleft()
            method(*arguments)

    def _take_changes(self) -> None:
        if self._inotify is None:
            return
        for change in self._inotify.read():
            if change.mask & IN_Q_OVERFLOW:
                self._look_at(list(self._members))
            elif (member := self._by_watch.get(change.watch)) is not None:
                self._look(member)

    def _find_all(self) -> None:
        """What is there already."""
        for cgroup, container, path in self._index.cgroups():
            if _is_topmost(path, container):
                self._add(Member(cgroup, container, path, was_there=True))

    def _resync(self) -> None:
        """Find what came and went while it was not heard of."""
        at, there = time.time_ns(), set()
        for cgroup, container, path in self._index.cgroups():
            there.add(cgroup)
            if cgroup not in self._members:
                self._appeared(cgroup, container, path, at)
        for cgroup in self._members.keys() - there:
            self._vanished(cgroup, at)

    def _appeared(self, cgroup: int, container: Container, path: str | None, at: int) -> None:
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
            self._add(Member(cgroup, container, path))

    def _vanished(self, cgroup: int, at: int) -> None:
        member = self._members.get(cgroup)
        if member is None:
            return
        self._drop(member)
        self._show_running(member)
        self._lives.showed(member.container, cgroup, "destroyed", at)

    def _add(self, member: Member) -> None:
        self._members[member.cgroup] = member
        for name in self._places.inotified(member.path) if self._inotify is not None else ():
            try:
                watch = self._inotify.add(name, IN_MODIFY) if self._inotify is not None else -1
            except OSError:  # it is not there, or there is no room: then it is polled
                continue
            member.watches.append(watch)
            self._by_watch[watch] = member
        if self._places.has_silent() or not member.watches:
            self._turn.append(member.cgroup)
        self._look(member)

    def _drop(self, member: Member) -> None:
        del self._members[member.cgroup]
        self._soon.pop(member.cgroup, None)
        for watch in member.watches:  # those of a removed cgroup stay otherwise
            self._by_watch.pop(watch, None)
            if self._inotify is not None:
                self._inotify.remove(watch)

    def _give_up(self, cgroup: int) -> None:
        """There are too many containers; this one is not followed any more."""
        member = self._members.get(cgroup)
        if member is not None:
            self._drop(member)

    def _poll(self) -> None:
        for _ in range(min(len(self._turn), MOST_POLLED)):
            cgroup = self._turn.popleft()
            member = self._members.get(cgroup)
            if member is not None:
                self._turn.append(cgroup)
                self._look(member)

    def _look_at(self, cgroups: Iterable[int]) -> None:
        for cgroup in cgroups:
            member = self._members.get(cgroup)
            if member is not None:
                self._look(member)

    def _look(self, member: Member) -> None:
        """See what the cgroup shows, and tell it."""
        at = time.time_ns()
        shown = self._places.look(member.path)
        if shown is None:
            self._vanished(member.cgroup, at)
            return
        state: State = "paused" if shown.frozen else "running"
        if member.was_there and not member.is_known:
            member.is_known = True
            member.kills, member.init = shown.oom_kills, self._places.find_init(member.path)
            member.has_init, member.populated_at = shown.populated, at if shown.populated else 0
            state = state if shown.populated else "created"
            self._lives.found(member.container, member.cgroup, state, member.init.pid)
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
            state = "exited" if member.populated_at else "created"
            self._show_running(member)
            member.has_init, member.init = False, NOBODY
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

    def _docker_lists(self, listed: list[Listed], at: int, is_whole: bool) -> None:
        self._lives.listed(listed, at, is_whole)
        self._has_heard_docker.set()

    def _docker_says(self, container_id: str, state: State | None, at: int, exit_code: int | None) -> None:
        if state is None:
            self._lives.said_oom(container_id, at)
            return
        host_pid = self._init_of(container_id) if state == "running" else 0
        self._lives.said(container_id, state, at, exit_code, host_pid)

    def _docker_leaves(self) -> None:
        self._lives.docker_left()

    def _init_of(self, container_id: str) -> int:
        """The first process of a container that runs by now."""
        life = self._lives.life(container_id)
        member = self._members.get(life.cgroup) if life is not None else None
        if member is None:
            return 0
        if not member.has_init:
            member.init = self._places.find_init(member.path)
        return member.init.pid


def _is_topmost(path: str, container: Container) -> bool:
    """Whether a cgroup of the container is not below another of it."""
    above = path.rpartition("/")[0]
    if len(container.id) == NUMBERED:
        return container.id not in above
    return container_of(above) != (container.id, container.runtime)
