"""The thread that follows containers while somebody wants to know of them: what it hears, when it looks, whom it tells.

News of cgroups and what Docker says wait in one queue for it. It alone touches `Members`, which looks at the cgroups,
and `Lives`, which makes one story of both.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from bpfd.containers.lives import MOST, Listed, Lives, State
from bpfd.containers.members import Index, Members
from bpfd.containers.shown import Places
from bpfd.event import Container
from bpfd.plugin import ContainerChange

log = logging.getLogger("bpfd.containers")

POLL_S = 1.0
"""How often files are read of which nothing tells: those of cgroup v1, and what inotify had no room for."""
RESYNC_S = 10.0
"""How often at most all cgroups are looked through, for what was not heard of."""
MOST_NEWS = 65536
FIND_S = 5.0
"""How long a `follow` waits, at most, until all that is there has been looked at, and Docker has been heard."""
STOP_S = 1.0

Listener = Callable[[ContainerChange], None]


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
        self._news: deque[Callable[[], None]] = deque()
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
        self._know_nothing()

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
        at = time.time_ns()
        self._put(lambda: self._members.appeared(cgroup, container, path, at))

    def cgroup_went(self, cgroup: int) -> None:
        """A cgroup was removed. Event thread."""
        at = time.time_ns()
        self._put(lambda: self._members.vanished(cgroup, at))

    def docker_listed(self, listed: Iterable[Listed], at: int, is_whole: bool) -> None:
        """See `Lives.listed`."""
        kept = list(listed)

        def take() -> None:
            self._lives.listed(kept, at, is_whole)
            self._has_heard_docker.set()

        self._put_for_sure(take)

    def docker_is_away(self) -> None:
        """There is no Docker."""
        self._has_heard_docker.set()

    def docker_said(self, container_id: str, state: State | None, at: int, exit_code: int | None) -> None:
        """See `Lives.said`; without a state it is an oom."""

        def take() -> None:
            if state is None:
                self._lives.said_oom(container_id, at)
                return
            host_pid = self._members.init_of(container_id) if state == "running" else 0
            self._lives.said(container_id, state, at, exit_code, host_pid)

        self._put_for_sure(take)

    def docker_left(self) -> None:
        """See `Lives.docker_left`."""
        self._put_for_sure(self._lives.docker_left)

    def _put(self, news: Callable[[], None]) -> None:
        if not self._is_open:
            return
        if len(self._news) >= MOST_NEWS:
            self.changes_lost += 1
            return
        self._news.append(news)
        self._wake()

    def _put_for_sure(self, news: Callable[[], None]) -> None:
        while self._is_open and len(self._news) >= MOST_NEWS:
            time.sleep(0.01)
        self._put(news)

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def _know_nothing(self) -> None:
        """`Lives` reach the members through `_give_up`, so that no cycle keeps both once others take their place."""
        self._lives = Lives(self._tell, self._index.by_id, self._give_up, self._most)
        self._members = Members(self._index, self._places, self._lives)

    def _give_up(self, cgroup: int) -> None:
        self._members.give_up(cgroup)

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
                self._members.open(epoll)
                self._has_found_all.set()
                self._follow(epoll)
            finally:
                self._members.close()
                self._unfollowed += self._lives.unfollowed
                self._know_nothing()
                self._news.clear()

    def _follow(self, epoll: select.epoll) -> None:
        polled_at = resynced_at = time.monotonic()
        heard_of = self._missed()
        wait_s: float = 0
        while self._is_open:
            epoll.poll(wait_s)
            try:
                self._take_news()
                self._members.take_changes()
                now = time.monotonic()
                if now - polled_at >= POLL_S:
                    polled_at = now
                    self._members.poll()
                    if (missed := self._missed()) != heard_of and now - resynced_at >= RESYNC_S:
                        heard_of, resynced_at = missed, now
                        self._members.resync()
                due = min(polled_at + POLL_S, self._members.look_again())
                wait_s = max(0.0, due - time.monotonic())
            except Exception:
                log.exception("the thread that follows containers met an error and goes on")
                wait_s = POLL_S

    def _missed(self) -> int:
        return self.changes_lost + self.lost()

    def _take_news(self) -> None:
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            return
        for _ in range(len(self._news)):
            self._news.popleft()()
