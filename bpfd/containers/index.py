"""Names the container of every event by its cgroup's id: one look into a dictionary."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from bpfd.containers.cgroups import CgroupTree, Hierarchy
from bpfd.containers.runtimes import container_of, unclaimed_id
from bpfd.event import HOST, NOT_FOUND, Container

LATE = 16384
"""Cgroups that are remembered though they are gone or never were, the last ones: events may be behind."""
MOST = 262_144
"""Cgroups that are remembered beside those; beyond, the oldest are asked for anew."""
MOST_TOLD = 16384
"""Containers whose name is kept before or after they have a cgroup."""


NUMBERED = 64
"""The length of ids that are random, and so nobody's but one container's; shorter ones are names."""


class Told(NamedTuple):
    """What a runtime said about a container."""

    name: str
    image: str
    labels: Mapping[str, str]


class ContainerIndex:
    """Knows the container of each cgroup.

    `lookup` is for the event path: no disk, no network, no lock unless the cgroup is new to it. The other methods may
    be called from any thread; each holds the lock for some microseconds. `close` it once nobody asks any more.
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._tree = CgroupTree(hierarchy)
        self._lock = threading.Lock()
        self._named: dict[int, Container] = {}
        self._late: OrderedDict[int, None] = OrderedDict()
        """Of the named ones, those that are gone or were never seen, the oldest first."""
        self._told: OrderedDict[str, Told] = OrderedDict()
        self._members: dict[str, set[int]] = {}
        """The cgroups of each container, and of each id that may be one's."""
        self._unclaimed: dict[int, str] = {}
        """Cgroups that are the host's unless Docker says that there is a container of that id."""
        self._owners: dict[str, tuple[int, str]] = {}
        """Of each numbered container, the cgroup that had its id first, and where the id ends in that one's path."""
        self.on_scope: Callable[[int, str | None], None] = lambda cgroup_id, runtime: None
        """Called whenever the runtime of a cgroup becomes known, and with None when it is gone; on the thread that
        brought the news, without the lock. Not for a cgroup of which it is not sure yet. Of one that is gone, None is
        the last word."""

        self.on_cgroup: Callable[[int, Container, str | None], None] = lambda cgroup_id, container, path: None
        """Called whenever a cgroup of a container becomes known, with its path if that is at hand; as `on_scope`."""
        self.on_named: Callable[[Container], None] = lambda container: None
        """Called when Docker told of a container that has a cgroup; as `on_scope`."""
        self.on_gone: Callable[[int], None] = lambda cgroup_id: None
        """Called when a container's cgroup is gone; as `on_scope`."""

    def close(self) -> None:
        with self._lock:
            self._tree.close()

    def lookup(self, cgroup_id: int) -> Container:
        """The container of a cgroup; `HOST` for one that is in none, or that nobody can name. Event thread."""
        found = self._named.get(cgroup_id)
        return found if found is not None else self._look_up(cgroup_id)

    def by_id(self, container_id: str) -> Container:
        """The container of that full id, as far as it is known. Any thread."""
        with self._lock:
            sibling = self._sibling(container_id)
            told = self._told.get(container_id)
        return sibling or (Container(container_id, "docker", *told) if told else Container(container_id))

    def known(self) -> Mapping[int, str]:
        """The runtime of every cgroup that is there and sure, `not-found` for the host's. Any thread."""
        with self._lock:
            return {
                cgroup_id: container.runtime
                for cgroup_id, container in self._named.items()
                if cgroup_id not in self._late and cgroup_id not in self._unclaimed
            }

    def cgroups_where(self, wanted: Callable[[Container], bool]) -> set[int]:
        """The cgroups of containers that are `wanted`. Any thread."""
        with self._lock:
            return {cgroup_id for cgroup_id, container in self._named.items() if wanted(container)}

    def cgroups(self) -> Iterator[tuple[int, Container, str]]:
        """Every cgroup of a container that is there, with its path. Any thread; takes some 10 µs a cgroup."""
        for cgroup_id, path in self._tree.scan():
            container = self.lookup(cgroup_id)
            if container.id:
                yield cgroup_id, container, path

    def path_of(self, cgroup_id: int) -> str | None:
        """The path of a cgroup; None: it is gone. Any thread."""
        return self._tree.path_of(cgroup_id)

    def ids(self) -> frozenset[str]:
        """The ids of all containers that have a cgroup now. Any thread."""
        with self._lock:
            named = [container for cgroup_id, container in self._named.items() if cgroup_id not in self._late]
        return frozenset(container.id for container in named if container.id)

    def scan(self) -> None:
        """Learn of every cgroup that exists. Call it once `created` and `removed` are being called."""
        for cgroup_id, path in self._tree.scan():
            with self._lock:
                learnt = None if cgroup_id in self._named else self._learn(cgroup_id, path)
            if learnt is not None:
                self._tell(cgroup_id, learnt, path)

    def created(self, cgroup_id: int, path: str) -> None:
        """A cgroup was made. `path` is that of its hierarchy; a hostile one does no harm. Event thread."""
        with self._lock:
            learnt = self._learn(cgroup_id, path)
        if learnt is not None:
            self._tell(cgroup_id, learnt, path)

    def removed(self, cgroup_id: int) -> None:
        """A cgroup is gone; it is still named for a while, for events that come late. Event thread."""
        with self._lock:
            was = self._named.setdefault(cgroup_id, HOST)
            self._retire(cgroup_id)
        self.on_scope(cgroup_id, None)
        if was.id:
            self.on_gone(cgroup_id)

    def describe(self, container_id: str, name: str, image: str, labels: Mapping[str, str]) -> None:
        """Docker has a container of that id: name it so from now on, also in cgroups that are yet to come.

        Each cgroup's `Container` is swapped for a new one at once. `labels` must not change any more.
        """
        told = Told(name, image, labels)
        with self._lock:
            self._told[container_id] = told
            self._told.move_to_end(container_id)
            if len(self._told) > MOST_TOLD:
                self._told.popitem(last=False)
            members = list(self._members.get(container_id, ()))
        for cgroup_id in members:
            with self._lock:  # for each anew: a container may have made many, and the event thread must not wait
                claimed = self._rename(cgroup_id, container_id, told)
                container = self._named.get(cgroup_id, HOST)
            if claimed:
                self._tell(cgroup_id, container, None)
        if members:
            self.on_named(Container(container_id, "docker", *told))

    def _look_up(self, cgroup_id: int) -> Container:
        path = self._tree.path_of(cgroup_id)
        with self._lock:
            if path is None:
                self._named[cgroup_id] = HOST
                self._retire(cgroup_id)
                return HOST
            learnt = self._learn(cgroup_id, path)
        if learnt is None:
            return HOST
        self._tell(cgroup_id, learnt, path)
        return learnt

    def _tell(self, cgroup_id: int, container: Container, path: str | None) -> None:
        """Without the lock: whoever listens makes system calls. If the cgroup went meanwhile, that is told last."""
        self.on_scope(cgroup_id, container.runtime)
        if container.id:
            self.on_cgroup(cgroup_id, container, path)
        if cgroup_id in self._late or cgroup_id not in self._named:
            self.on_scope(cgroup_id, None)
            self.on_gone(cgroup_id)

    def _learn(self, cgroup_id: int, path: str) -> Container | None:
        """Remember the cgroup. None: it is named as the host's, but Docker may know better. Under the lock."""
        self._forget(cgroup_id)
        if len(self._named) >= MOST:
            self._forget(next(iter(self._named)))
        found = self._believed(cgroup_id, path)
        maybe = "" if found else unclaimed_id(path)
        if maybe and not self._owns(cgroup_id, maybe, path):
            maybe = ""
        container_id, runtime = found or (maybe, "docker")
        told = self._told.get(container_id)
        if container_id:
            self._members.setdefault(container_id, set()).add(cgroup_id)
        if maybe and told is None:
            self._unclaimed[cgroup_id] = maybe
            self._named[cgroup_id] = HOST
            return None
        container = HOST if not container_id else self._container(container_id, runtime, told)
        self._named[cgroup_id] = container
        return container

    def _believed(self, cgroup_id: int, path: str) -> tuple[str, str] | None:
        """`container_of`, but for cgroups that bear the id of somebody else's container. Under the lock."""
        while found := container_of(path):
            container_id, _ = found
            if len(container_id) < NUMBERED or self._owns(cgroup_id, container_id, path):
                return found
            path = path[: path.find(container_id)].rpartition("/")[0]
        return None

    def _owns(self, cgroup_id: int, container_id: str, path: str) -> bool:
        """Whether the cgroup at `path` is the one that has this id, or below it.

        A user with a delegated cgroup may give one below it the id of a container, and have his own process taken for
        the container's, or the container punished for it. But the container's own cgroup was there first: nobody can
        guess the number. Under the lock.
        """
        owner, root = self._owners.get(container_id, (-1, ""))
        if owner not in self._named or owner in self._late:
            self._owners[container_id] = (cgroup_id, path[: path.find(container_id) + len(container_id)])
            return True
        return path.startswith(root)

    def _container(self, container_id: str, runtime: str, told: Told | None) -> Container:
        """One object for all cgroups of a container. Under the lock."""
        if told is not None:
            self._told.move_to_end(container_id)
            return Container(container_id, runtime, *told)
        # What was told may be forgotten by now, but not by the container's other cgroups.
        return self._sibling(container_id, runtime) or Container(container_id, runtime)

    def _sibling(self, container_id: str, runtime: str = "") -> Container | None:
        """What another cgroup of the container says; a few are asked, for there may be very many. Under the lock."""
        for cgroup_id in islice(self._members.get(container_id, ()), 4):
            named = self._named.get(cgroup_id)
            if named is not None and named.id == container_id and runtime in {"", named.runtime}:
                return named
        return None

    def _rename(self, cgroup_id: int, container_id: str, told: Told) -> bool:
        """Whether a cgroup that nobody had claimed is now known to be the container's. Under the lock."""
        old = self._named.get(cgroup_id)
        if old is None:
            return False
        claimed = self._unclaimed.pop(cgroup_id, None) == container_id
        if claimed or old.id == container_id:
            runtime = "docker" if old.runtime == NOT_FOUND else old.runtime
            self._named[cgroup_id] = Container(container_id, runtime, *told)
        return claimed and cgroup_id not in self._late

    def _retire(self, cgroup_id: int) -> None:
        """Under the lock."""
        self._late[cgroup_id] = None
        self._late.move_to_end(cgroup_id)
        if len(self._late) > LATE:
            self._forget(next(iter(self._late)))

    def _forget(self, cgroup_id: int) -> None:
        """Under the lock."""
        old = self._named.pop(cgroup_id, None)
        maybe = self._unclaimed.pop(cgroup_id, None)
        self._late.pop(cgroup_id, None)
        container_id = maybe or (old.id if old else "")
        if self._owners.get(container_id, (-1, ""))[0] == cgroup_id:
            del self._owners[container_id]
        members = self._members.get(container_id)
        if members is not None:
            members.discard(cgroup_id)
            if not members:
                del self._members[container_id]
