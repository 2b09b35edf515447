"""The lives of containers: what Docker says of them and what their cgroups show, put together and told once.

Docker's word goes first, for it has the exit code. A change that only the cgroup shows, of a container that is Docker's
or may be, is held back for `HOLD_S`: Docker then says it too, as a rule, and if it does not, the cgroup is believed.
Where Docker has nothing to say (another runtime, no Docker, a connection that broke off), cgroups are believed at once.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from bpfd.event import NOT_FOUND, Container
from bpfd.plugin import ContainerAction, ContainerChange

HOLD_S = 2.0
NEAR_NS = 2_000_000_000
"""Words of an oom that are no further apart mean the same one: a process that is killed, others that follow it, and
Docker's and the cgroup's word of each."""
MOST = 16384
"""Containers that are followed."""
MOST_ENDED = 4096
"""Containers that Docker removed, of which it may yet say something that is older."""
MOST_WAITING = 16

State = Literal["", "created", "running", "paused", "exited", "destroyed"]
"""`""`: nothing is known."""

_ACTIONS: dict[State, dict[State, tuple[ContainerAction, ...]]] = {
    "created": {"": ("created",)},
    "running": {"": ("running",), "created": ("running",), "exited": ("running",), "paused": ("resumed",)},
    "paused": {
        "": ("paused",),
        "created": ("running", "paused"),
        "exited": ("running", "paused"),
        "running": ("paused",),
    },
    "exited": {"": ("exited",), "created": ("exited",), "running": ("exited",), "paused": ("exited",)},
    "destroyed": {
        "": ("destroyed",),
        "created": ("destroyed",),
        "exited": ("destroyed",),
        "running": ("exited", "destroyed"),
        "paused": ("exited", "destroyed"),
    },
}
"""What happens on the way to a state, from each that it can be reached from. From others nothing does."""


class Listed(NamedTuple):
    """A container in Docker's list."""

    container_id: str
    state: State
    exit_code: int | None = None


@dataclass(slots=True)
class Life:
    """What is known of one container."""

    container: Container
    state: State = ""
    """As it has been told."""
    host_pid: int = 0
    cgroup: int = 0
    """The number of its topmost cgroup, the last one that it had."""
    shows: State = ""
    """What the cgroup shows; `destroyed`: it is gone."""
    told_by_docker: bool = False
    not_dockers: bool = False
    """Docker had its time to speak of it, and did not."""
    differs_since: int = 0
    """Since when the cgroup shows something else than Docker said, wall clock; 0: it does not."""
    waiting: list[tuple[State, int]] = field(default_factory=list)
    """What the cgroup showed while it is not clear whether Docker will speak of the container."""
    oom_waiting: int = 0
    """When the cgroup showed an oom of which Docker may yet speak; 0: it did not."""
    oom_told: int = 0
    """When the last oom was that was told."""
    due: float = 0.0
    """When what is held back is believed, by the monotonic clock."""
    changed_by_cgroup: int = 0
    """When the last change was that only the cgroup told: what Docker says of the time before is old."""


class Lives:
    """Keeps the lives of containers and tells of their changes. One thread; times are nanoseconds since 1970."""

    def __init__(
        self,
        tell: Callable[[ContainerChange], None],
        by_id: Callable[[str], Container],
        give_up: Callable[[int], None] = lambda cgroup: None,
        most: int = MOST,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`by_id` gives the container of an id with what is known of its name by now; `give_up` is told the cgroup of a
        container that is not followed any more, since there are too many."""
        self._tell, self._by_id, self._give_up = tell, by_id, give_up
        self._most, self._monotonic = most, monotonic
        self._lives: dict[str, Life] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        """Those in which nothing runs: they are given up first."""
        self._held: dict[str, Life] = {}
        self._ended: OrderedDict[str, Life] = OrderedDict()
        self._docker_is_there = False
        self._listed_at = 0
        self._forgot = False
        self.unfollowed = 0
        """How many containers had to be given up, or were not taken, since there are so many."""

    def __len__(self) -> int:
        return len(self._lives)

    def life(self, container_id: str) -> Life | None:
        """What is known of a container."""
        return self._lives.get(container_id)

    def found(self, container: Container, cgroup: int, shows: State, host_pid: int) -> None:
        """A container was there before anybody followed it: nothing is told."""
        life = self._get(container)
        if life is not None:
            life.cgroup, life.shows, life.host_pid = cgroup, shows, host_pid
            self._put(life, shows)

    def showed(self, container: Container, cgroup: int, shows: State, at: int, host_pid: int = 0) -> None:
        """A container's topmost cgroup came into being (`created`), shows something, or is gone (`destroyed`)."""
        if container.id in self._ended or (shows == "destroyed" and container.id not in self._lives):
            return
        life = self._get(container)
        if life is None:
            return
        if cgroup != life.cgroup:
            if shows == "destroyed":
                return  # of a former one
            life.cgroup, life.shows, life.host_pid = cgroup, "", 0
        life.host_pid = host_pid or life.host_pid
        if shows == life.shows:
            return
        life.shows = shows
        if life.told_by_docker:
            self._compare(life, at)
        elif self._docker_is_there and container.runtime == "docker" and not life.not_dockers:
            life.waiting.append((shows, at))
            self._hold(life)
            if len(life.waiting) >= MOST_WAITING:
                self._believe_cgroup(life)
        else:
            life.changed_by_cgroup = at
            self._move(life, shows, at)

    def showed_oom(self, container: Container, at: int) -> None:
        """The kernel killed a process of the container's cgroup for want of memory."""
        life = self._ended.get(container.id) or self._get(container)
        if life is None:
            return
        if self._docker_is_there and (life.told_by_docker or container.runtime == "docker") and not life.not_dockers:
            if not life.oom_waiting and not self._is_told(life, at):
                life.oom_waiting = at
                self._hold(life)
        else:
            self._say_oom(life, at)

    def said(self, container_id: str, state: State, at: int, exit_code: int | None = None, host_pid: int = 0) -> None:
        """Docker says that a container is now in that state."""
        if at <= self._listed_at or container_id in self._ended:
            return
        life = self._get_dockers(container_id)
        if life is None:
            return
        life.host_pid = host_pid or life.host_pid
        if at <= life.changed_by_cgroup:
            return
        self._move(life, state, at, exit_code)
        self._compare(life, at)

    def said_oom(self, container_id: str, at: int) -> None:
        """Docker says that a container ran out of memory."""
        life = self._ended.get(container_id) or self._get_dockers(container_id)
        if life is None or at <= self._listed_at:
            return
        life.oom_waiting = 0
        self._say_oom(life, at)

    def listed(self, listed: Iterable[Listed], at: int, is_whole: bool) -> None:
        """Docker is there, and says what containers there are, in a list that was asked for at that time.

        What changed since the last list is told; what the first one has was there before. `is_whole`: what is not in
        it does not exist any more.
        """
        is_first, self._listed_at, self._docker_is_there = not self._listed_at, at, True
        ids = set()
        for container_id, state, exit_code in listed:
            ids.add(container_id)
            life = self._get_dockers(container_id)
            if life is None:
                continue
            if life.state == "" and (is_first or self._forgot):
                self._put(life, state)
            else:
                if life.state == "":
                    self._move(life, "created", at)
                self._move(life, state, at, exit_code)
            self._compare(life, at)
        if is_whole:
            for life in [life for name, life in self._lives.items() if life.told_by_docker and name not in ids]:
                self._move(life, "destroyed", at)

    def docker_left(self) -> None:
        """Docker says nothing any more: cgroups are believed at once."""
        self._docker_is_there = False
        for life in list(self._held.values()):
            self._believe_cgroup(life)

    def due(self) -> list[int]:
        """The cgroups of what was held back for long enough: to be looked at once more before `settle`."""
        now = self._monotonic()
        return [life.cgroup for life in self._held.values() if life.due <= now]

    def settle(self) -> float | None:
        """Believe the cgroups of what was held back for long enough. When the next is due, by the monotonic clock."""
        now = self._monotonic()
        for life in list(self._held.values()):
            if life.due <= now:
                self._believe_cgroup(life)
        return min((life.due for life in self._held.values()), default=None)

    def _get(self, container: Container) -> Life | None:
        life = self._lives.get(container.id)
        if life is None:
            if len(self._lives) >= self._most and not self._make_room():
                self.unfollowed += 1
                return None
            life = self._lives[container.id] = Life(container)
            self._idle[container.id] = None
        return life

    def _get_dockers(self, container_id: str) -> Life | None:
        """The life of a container of which Docker has just spoken."""
        container = self._by_id(container_id)
        life = self._get(container._replace(runtime="docker") if container.runtime == NOT_FOUND else container)
        if life is not None:
            life.told_by_docker, life.not_dockers = True, False
            life.waiting.clear()
        return life

    def _make_room(self) -> bool:
        if not self._idle:
            return False
        container_id, _ = self._idle.popitem(last=False)
        self._forgot = True
        self.unfollowed += 1
        self._give_up(self._lives[container_id].cgroup)
        self.forget(container_id)
        return True

    def forget(self, container_id: str) -> None:
        """As if it had never been heard of; nothing is told."""
        for kept in (self._lives, self._idle, self._held):
            kept.pop(container_id, None)

    def _compare(self, life: Life, at: int) -> None:
        """Whether the cgroup shows what Docker says; if not, one of them is late."""
        if not _differs(life):
            life.differs_since = 0
        elif not self._docker_is_there:
            self._follow_cgroup(life, at)
        elif not life.differs_since:
            life.differs_since = at
            self._held.pop(life.container.id, None)  # this difference has its own time
            self._hold(life)

    def _follow_cgroup(self, life: Life, at: int) -> None:
        life.differs_since, life.changed_by_cgroup = 0, at
        self._move(life, "exited" if life.shows == "destroyed" else life.shows, at)

    def _hold(self, life: Life) -> None:
        if life.container.id not in self._held:
            life.due = self._monotonic() + HOLD_S
            self._held[life.container.id] = life

    def _believe_cgroup(self, life: Life) -> None:
        self._held.pop(life.container.id, None)
        if life.oom_waiting:
            at, life.oom_waiting = life.oom_waiting, 0
            self._say_oom(life, at)
        if life.differs_since:
            self._follow_cgroup(life, life.differs_since)
        if life.waiting:
            waiting, life.waiting = life.waiting, []
            life.not_dockers = self._docker_is_there
            for state, at in waiting:
                life.changed_by_cgroup = at
                self._move(life, state, at)

    def _move(self, life: Life, state: State, at: int, exit_code: int | None = None) -> None:
        """Tell what lies between the state that was told last and this one."""
        if state == "":
            return
        before, by_docker = life.state, life.told_by_docker
        if life.container.id in self._ended:
            return
        for action in _ACTIONS[state].get(before, ()):
            self._say(life, action, at, exit_code if action == "exited" else None)
        if state != "created" or before == "":
            self._put(life, state)
        if state == "destroyed":
            del self._lives[life.container.id]
            self._idle.pop(life.container.id, None)
            if by_docker:
                self._ended[life.container.id] = life
                if len(self._ended) > MOST_ENDED:
                    self._ended.popitem(last=False)

    def _put(self, life: Life, state: State) -> None:
        life.state = state
        if state in ("running", "paused"):
            self._idle.pop(life.container.id, None)
        else:
            self._idle[life.container.id] = None
            self._idle.move_to_end(life.container.id)

    def _say(self, life: Life, action: ContainerAction, at: int, exit_code: int | None = None) -> None:
        newest = self._by_id(life.container.id)
        if newest.runtime != NOT_FOUND:
            life.container = newest
        host_pid = 0 if action == "created" else life.host_pid
        self._tell(ContainerChange(action, life.container, at, exit_code, host_pid))

    def _say_oom(self, life: Life, at: int) -> None:
        if not self._is_told(life, at):
            life.oom_told = at
            self._say(life, "oom", at)

    @staticmethod
    def _is_told(life: Life, at: int) -> bool:
        """Whether that oom has been told already."""
        return life.oom_told != 0 and abs(life.oom_told - at) <= NEAR_NS


def _differs(life: Life) -> bool:
    """An empty cgroup shows nothing, and that it ended shows nothing of one that never began."""
    if life.shows in ("running", "paused"):
        return life.shows != life.state
    return life.shows in ("exited", "destroyed") and life.state in ("running", "paused")
