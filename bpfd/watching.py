"""From the kernel to a match, put together: containers are followed, tracers run, rules judge."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from bpfd import machine
from bpfd.containers import watch
from bpfd.containers.cgroups import find_hierarchy
from bpfd.containers.docker import DockerWatch
from bpfd.containers.index import ContainerIndex
from bpfd.containers.life_watch import LifeWatch
from bpfd.counters import Counters
from bpfd.enforcement import DeliverTo, Enforcement
from bpfd.event import NOT_FOUND, Container, Event
from bpfd.kernel import headers, program
from bpfd.kernel.program import Build, Program
from bpfd.pipeline import Clock, Pipeline, Source
from bpfd.plugin import AnyTracer
from bpfd.protected import Protected
from bpfd.settings import Settings
from bpfd.sparing import Sparing, has_name
from bpfd.tracing import Tracing


class Watching:
    """What the daemon and `bpfd run` have in common. `start`, `follow_containers` and `stop` it once, in this order."""

    def __init__(
        self,
        tracers: Mapping[str, type[AnyTracer]],
        settings: Settings,
        counters: Counters,
        publish: Callable[[list[Event]], None],
        deliver: DeliverTo,
        responders: Callable[[tuple[str, ...]], tuple[str, ...]] = lambda names: (),
        note: Callable[[list[Event]], None] = lambda events: None,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """`publish` gets every batch of matches, and so does `deliver`, with the actions of their rule: both on the
        event thread, which they must not hold up. `responders` and `note` are as for `Enforcement`. Once `given_up`
        says so, nothing more is loaded."""
        self._settings, self._counters, self._given_up = settings, counters, given_up
        self.host = machine.host()
        clock = Clock()
        self.pipeline = Pipeline(publish, clock, settings.event_queue)
        self.tracing = Tracing(tracers, self.pipeline, clock, counters, self.host, settings.ring_bytes)
        self.enforcement = Enforcement(self.tracing, self.pipeline, deliver, settings.default_actions, responders, note)
        self.index: ContainerIndex | None = None
        """The containers, once they are followed."""
        self._lives: LifeWatch | None = None
        self._closing = ExitStack()
        self._closing.callback(self.pipeline.stop)

    def start(self) -> None:
        """Begin to read what tracers send."""
        self.pipeline.start()
        self._counters.watch("events.queue_full", lambda: self.pipeline.queue_lost)
        self._closing.callback(self._close_index)  # after the tracers, whose last events it names
        self._closing.callback(self.tracing.close)

    def stop(self) -> None:
        """End everything, last things first; what is in the rings is still handed over."""
        self._closing.close()

    def follow_containers(self, wanted: Collection[str]) -> None:
        """Load the tracers `wanted`, and beside them what watches containers: each keeps a processor busy.

        Raises `BpfdError` if containers can't be followed. A tracer that does not load is in `tracing.failed`.
        """
        hierarchy = find_hierarchy()
        self.index = index = ContainerIndex(hierarchy)
        tree = headers.ensure_apart(self._settings.cache_dir)
        build = Build(tree, hierarchy.subsystem, self_pid=machine.own_pid(), given_up=self._given_up)
        index.scan()
        self._lives = lives = LifeWatch(index)
        self.tracing.prepare(build, index.lookup, index.by_id, index.known, lives)
        index.on_scope = self.tracing.set_scope
        sparing = Sparing(Protected(self._settings.protected), self.tracing.spare, self._cgroups_named)

        def came(cgroup_id: int, container: Container, path: str | None) -> None:
            lives.cgroup_came(cgroup_id, container, path)
            sparing.container_came(container)

        index.on_cgroup, index.on_gone, index.on_named = came, lives.cgroup_went, sparing.container_came
        sparing.refresh()
        sparing.start()
        self._closing.callback(sparing.stop)
        with ThreadPoolExecutor(1, thread_name_prefix="bpfd-load") as pool:
            watcher = pool.submit(program.load, watch.SPEC, build)
            self.tracing.want(wanted)
            self._follow(watcher.result(), index, lives, hierarchy.hierarchy_id)

    def _cgroups_named(self, names: Set[str]) -> set[int]:
        """The cgroups of containers that go by one of `names`."""
        if self.index is None or not names:
            return set()
        return self.index.cgroups_where(lambda container: has_name(container, names))

    def narrow_to(self, container_id: str) -> None:
        """Tell the kernel that all other containers are the host, so that a rule for containers leaves them out there.

        It is told runtimes only, so what else a rule says of the container is for Python. Call it before rules are in
        force.
        """
        index, set_scope = self.index, self.tracing.set_scope
        assert index is not None

        def tell(cgroup_id: int, runtime: str | None) -> None:
            other = runtime is not None and index.lookup(cgroup_id).id != container_id
            set_scope(cgroup_id, NOT_FOUND if other else runtime)

        index.on_scope = tell
        for cgroup_id, runtime in index.known().items():
            tell(cgroup_id, runtime)

    def _follow(self, watcher: Program, index: ContainerIndex, lives: LifeWatch, hierarchy_id: int) -> None:
        source = Source("cgroups", watcher.ring, watch.make_taker(index, hierarchy_id), first=True)
        self._closing.callback(watcher.close)
        self._closing.callback(self.pipeline.remove, source)
        lives.lost = lambda: watcher.lost
        for name, count in {
            "lost": lives.lost,
            "changes_lost": lambda: lives.changes_lost,
            "unfollowed": lambda: lives.unfollowed,
        }.items():
            self._counters.watch(f"containers.{name}", count)
            self._closing.callback(self._counters.unwatch, f"containers.{name}")
        self.pipeline.add(source)
        index.scan()  # again: what came since the first time
        docker = DockerWatch(index, lives=lives)
        lives.on_begin = docker.again
        docker.start()
        self._closing.callback(docker.stop)

    def _close_index(self) -> None:
        if self._lives is not None:
            self._lives.close()
        if self.index is not None:
            self.index.close()
