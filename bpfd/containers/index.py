"""Which container a cgroup belongs to: the answer that the hot path needs for every event."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping

from bpfd.containers.cgroups import Hierarchy, PathFinder, walk
from bpfd.containers.runtimes import container_of
from bpfd.event import HOST, Container

log = logging.getLogger("bpfd.containers")

MOST_DEAD = 16384
"""How many cgroups are remembered after their end, for events that are read late."""
MOST_UNKNOWN = 4096
"""How many ids that lead nowhere are remembered, so that they are not looked up for every event."""
MOST_LIVE = 65536


class ContainerIndex:
    """Cgroups and their containers. `lookup`, `created` and `removed` belong to the event thread, the rest to any.

    What changes is guarded by a lock that is held for a few dictionary operations; a lookup that hits takes none.
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._hierarchy = hierarchy
        self._finder = PathFinder(hierarchy)
        self._lock = threading.Lock()
        self._containers: dict[int, Container] = {}
        self._dead: OrderedDict[int, None] = OrderedDict()
        self._unknown: OrderedDict[int, None] = OrderedDict()
        self._described: dict[str, Container] = {}
        self.on_scope: Callable[[int, str | None], None] | None = None
        """Told of every cgroup that becomes known, with its runtime, and of its end, with None."""
        self.unnamed = 0
        """Events whose cgroup was gone before anybody could say which container it was."""

    def scan(self) -> None:
        """Learn every cgroup that there is now."""
        for cgroup_id, path in walk(self._hierarchy):
            self.created(cgroup_id, path)

    def lookup(self, cgroup_id: int) -> Container:
        """The container of a cgroup; HOST where it is none, or nobody knows. Hot path: usually a dictionary hit."""
        container = self._containers.get(cgroup_id)
        return self._find(cgroup_id) if container is None else container

    def by_id(self, container_id: str) -> Container:
        """What is known of a container by its full id."""
        return self._described.get(container_id) or Container(container_id)

    def created(self, cgroup_id: int, path: str) -> None:
        """A cgroup was made, or was met."""
        found = container_of(path)
        container = HOST
        with self._lock:
            if found is not None:
                container = self._described.get(found[0]) or Container(*found)
                if container.runtime != found[1]:
                    container = container._replace(runtime=found[1])
                self._described[found[0]] = container
            self._containers[cgroup_id] = container
            self._dead.pop(cgroup_id, None)
            self._unknown.pop(cgroup_id, None)
            self._forget_old()
        if self.on_scope is not None:
            self.on_scope(cgroup_id, container.runtime)

    def removed(self, cgroup_id: int) -> None:
        """A cgroup is gone; it is remembered for events that are still to be read."""
        with self._lock:
            if cgroup_id not in self._containers:
                return
            self._dead[cgroup_id] = None
            self._forget_old()
        if self.on_scope is not None:
            self.on_scope(cgroup_id, None)

    def describe(self, container_id: str, name: str, image: str, labels: Mapping[str, str]) -> None:
        """What the container's runtime says of it; events from now on carry it."""
        with self._lock:
            before = self._described.get(container_id) or Container(container_id)
            described = before._replace(name=name, image=image, labels=dict(labels))
            self._described[container_id] = described
            for cgroup_id, container in self._containers.items():
                if container.id == container_id:
                    self._containers[cgroup_id] = described
            while len(self._described) > MOST_DEAD + MOST_LIVE:
                self._described.pop(next(iter(self._described)))

    def known(self) -> dict[int, str]:
        """The runtime of every cgroup that lives."""
        with self._lock:
            return {
                cgroup_id: container.runtime
                for cgroup_id, container in self._containers.items()
                if cgroup_id not in self._dead
            }

    def close(self) -> None:
        self._finder.close()

    def _find(self, cgroup_id: int) -> Container:
        if cgroup_id in self._unknown:
            return HOST
        path = self._finder.path_of(cgroup_id)
        if path is not None:
            self.created(cgroup_id, path)
            return self._containers[cgroup_id]
        with self._lock:
            self.unnamed += 1
            self._unknown[cgroup_id] = None
            while len(self._unknown) > MOST_UNKNOWN:
                self._unknown.popitem(last=False)
        return HOST

    def _forget_old(self) -> None:
        """Called with the lock: keep to the bounds."""
        while len(self._dead) > MOST_DEAD:
            self._drop(self._dead.popitem(last=False)[0])
        while len(self._containers) > MOST_LIVE + MOST_DEAD:
            self._drop(next(iter(self._containers)))

    def _drop(self, cgroup_id: int) -> None:
        container = self._containers.pop(cgroup_id)
        self._dead.pop(cgroup_id, None)
        if container.id:
            self._described.pop(container.id, None)
