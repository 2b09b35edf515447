"""The tracers that run: loaded when somebody wants them, unloaded when nobody does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from bpfd.counters import Counters
from bpfd.errors import BpfdError, GivenUpError, LoadError
from bpfd.event import HOST, Container, Event
from bpfd.kernel import headers, image, probes, program
from bpfd.kernel.image import scope_number
from bpfd.kernel.program import Build, Program, Spec
from bpfd.kernel.record import Lookup, make_decoder
from bpfd.pipeline import Clock, Pipeline, Source
from bpfd.plugin import AnyTracer, BPFTracer, ContainerChange, Tracer
from bpfd.users import Users

log = logging.getLogger("bpfd.tracing")

PARALLEL = 4
"""How many programs are compiled at once; each takes 150 MB while it does."""
CLOSE_TOGETHER = 8


class Lives(Protocol):
    """Who tells of containers' lives."""

    def follow(self, listener: Callable[[ContainerChange], None]) -> None: ...

    def unfollow(self, listener: Callable[[ContainerChange], None]) -> None: ...


@dataclass(slots=True)
class Running:
    """A tracer that runs: a program and its source, or an object with threads of its own."""

    tracer: type[AnyTracer]
    program: Program | None = None
    source: Source | None = None
    plain: Tracer | None = None
    begin: Callable[[], None] | None = None
    """Lets its events come; None once they do. Events wait in the ring until there is somebody to judge them."""


class Tracing:
    """Loads and unloads tracers. `want` and `close` are called by one thread at a time; the rest by any."""

    def __init__(
        self,
        tracers: Mapping[str, type[AnyTracer]],
        pipeline: Pipeline,
        clock: Clock,
        counters: Counters,
        host: str,
        ring_bytes: int = 0,
    ) -> None:
        self.known = tracers
        self._pipeline, self._clock, self._counters, self._host = pipeline, clock, counters, host
        self._ring_bytes = ring_bytes
        self._users = Users()
        self._running: dict[str, Running] = {}
        self._failed: dict[str, str] = {}
        self._spared: Collection[tuple[int, int]] = ()
        self._build: Build | None = None
        self._container_of: Lookup = _no_container
        self._known_cgroups: Callable[[], Mapping[int, str]] = dict
        self._container_by_id: Callable[[str], Container] = _no_container_by_id
        self._lives: Lives | None = None
        self._lock = threading.Lock()

    def prepare(
        self,
        build: Build,
        container_of: Lookup,
        container_by_id: Callable[[str], Container],
        known: Callable[[], Mapping[int, str]],
        lives: Lives | None = None,
    ) -> None:
        """Say what programs are built with and how containers are named; once, before the first `want`.

        `known` gives the runtime of every cgroup that is known, `not-found` for the host's; `lives` tells of
        containers; without it no tracer can follow them.
        """
        self._lives = lives
        self._build, self._container_of, self._container_by_id = build, container_of, container_by_id
        self._known_cgroups = known

    def spare(self, keys: Collection[tuple[int, int]]) -> None:
        """Tell every program, and those that are loaded later, what it never sends a signal to: see `Program.spare`.

        Waits while tracers are loaded.
        """
        with self._lock:
            self._spared = keys
            for name, running in self._running.items():
                if running.program is not None:
                    self._tell_spared(name, running.program)

    def _tell_spared(self, name: str, loaded: Program) -> None:
        try:
            loaded.spare(self._spared)
        except OSError as error:
            log.error('tracer "%s": not all that is protected has room in the kernel: %s', name, error.strerror)

    def set_scope(self, cgroup: int, runtime: str | None) -> None:
        """Tell every program the runtime of a cgroup; None: the cgroup is gone. Event thread; a few system calls."""
        for running in list(self._running.values()):
            if running.program is None:
                continue
            if runtime is None:
                running.program.forget_scope(cgroup)
            else:
                running.program.set_scope(cgroup, scope_number(runtime))

    @property
    def running(self) -> Mapping[str, Running]:
        return dict(self._running)

    @property
    def failed(self) -> Mapping[str, str]:
        """Tracers that were wanted and did not load, with the reason."""
        return dict(self._failed)

    def want(self, names: Collection[str], again: Collection[str] = ()) -> None:
        """Run exactly `names`: load what is missing, side by side, and unload the rest.

        What fails is in `failed`; it stops nothing else, and is tried again only if it is among `again`: each change of
        any rule comes here. Blocks for as long as the compiler takes. Raises `GivenUpError` if the daemon ends.
        """
        with self._lock:
            settled = self._running.keys() | (self._failed.keys() - set(again))
            missing = sorted(set(names) - settled)
            for name in sorted(self._running.keys() - set(names)):
                self._stop(name)
            self._failed = {name: text for name, text in self._failed.items() if name in names and name not in missing}
            with ThreadPoolExecutor(PARALLEL, thread_name_prefix="bpfd-load") as pool:
                for name, problem in zip(missing, pool.map(self._start, missing), strict=True):
                    if problem:
                        self._failed[name] = problem
                        log.error("%s", problem)

    def begin(self) -> None:
        """Let the events of tracers that were loaded come: their rules are in force by now."""
        with self._lock:
            for name, running in list(self._running.items()):
                if running.begin is None:
                    continue
                try:
                    running.begin()
                    running.begin = None
                except Exception as error:
                    del self._running[name]
                    self._failed[name] = f'tracer "{name}": {type(error).__name__}: {error}'
                    log.error("%s", self._failed[name])

    def close(self) -> None:
        """Stop every tracer. Each failure is logged, and the rest goes on."""
        with self._lock, ThreadPoolExecutor(CLOSE_TOGETHER, thread_name_prefix="bpfd-unload") as pool:
            for _ in pool.map(self._stop, list(self._running)):
                pass

    def _start(self, name: str) -> str:
        """Load one; the problem, or nothing."""
        tracer = self.known[name]
        try:
            if issubclass(tracer, BPFTracer):
                self._running[name] = self._load(tracer)
            else:
                self._running[name] = self._start_plain(tracer)
        except GivenUpError:
            raise
        except BpfdError as error:
            return str(error)
        except Exception as error:
            log.debug("tracer %s", name, exc_info=True)
            return f'tracer "{name}": {type(error).__name__}: {error}'
        return ""

    def _load(self, tracer: type[BPFTracer]) -> Running:
        if self._build is None:
            raise LoadError(f'tracer "{tracer.name}": the kernel layer is not prepared')
        ring_bytes = self._ring_bytes or tracer.ring_bytes
        spec = Spec(tracer.name, tracer.program, tracer.fields, tracer.probes, ring_bytes)
        loaded = program.load(spec, self._build)
        # Others may compile for seconds yet, and no rule is in force before they are done. What came before
        # this passed.
        loaded.judge_by(image.nothing())
        for cgroup, runtime in self._known_cgroups().items():
            loaded.set_scope(cgroup, scope_number(runtime))
        self._tell_spared(tracer.name, loaded)
        tracer.loaded(loaded.maps)
        decode = make_decoder(tracer, self._container_of, self._users, self._clock, self._host)
        source = Source(tracer.name, loaded.ring, self._pipeline.taker(tracer.name, decode))
        self._counters.watch(f"tracer.{tracer.name}.lost", lambda: loaded.lost)
        if (follower := loaded.follower) is not None:
            self._counters.watch(f"tracer.{tracer.name}.unattached", lambda: follower.refused)
        for number, count in enumerate(tracer.counts):
            self._counters.watch(f"tracer.{tracer.name}.{count}", partial(loaded.own_count, number))
        return Running(tracer, loaded, source, begin=lambda: self._pipeline.add(source))

    def _start_plain(self, tracer: type[Tracer]) -> Running:
        name, host, pipeline = tracer.name, self._host, self._pipeline
        container_by_id, lives = self._container_by_id, self._lives
        if tracer.follows_containers and lives is None:
            raise LoadError(f'tracer "{name}": containers are not followed here')

        def emit(
            data: Mapping[str, str],
            *,
            time: int = 0,
            pid: int = 0,
            tid: int = 0,
            ppid: int = 0,
            uid: int = 0,
            gid: int = 0,
            command: str = "",
            return_value: int = 0,
            container_id: str = "",
            container: Container | None = None,
        ) -> bool:
            if container is None:
                container = container_by_id(container_id) if container_id else HOST
            when = time or self._clock.now()
            event = Event(
                when, name, pid, tid or pid, ppid, uid, gid, command, return_value, dict(data), container, "", host
            )
            return pipeline.put(event)

        plain = tracer()

        def begin() -> None:
            plain.start(emit)
            if tracer.follows_containers and lives is not None:
                lives.follow(plain.container_changed)

        return Running(tracer, plain=plain, begin=begin)

    def _stop(self, name: str) -> None:
        running = self._running.pop(name)
        try:
            if running.plain is not None and running.begin is None:
                if running.plain.follows_containers and self._lives is not None:
                    self._lives.unfollow(running.plain.container_changed)
                running.plain.stop()
            if running.program is not None and running.source is not None:
                self._pipeline.remove(running.source)
                for count in ("lost", "unattached", *getattr(running.tracer, "counts", ())):
                    self._counters.unwatch(f"tracer.{name}.{count}")
                running.program.close()
        except Exception:
            log.exception("tracer %s did not stop cleanly", name)


def probes_here(tracer: type[AnyTracer]) -> tuple[tuple[str, ...], str]:
    """What a tracer attaches to on this machine, and what keeps it from working here: nothing, if it can be loaded."""
    if not issubclass(tracer, BPFTracer):
        return (), ""
    if not headers.BTF.exists():
        return tracer.probes, "this kernel has no BTF"
    return probes.here(tracer.probes)


def _no_container(cgroup: int) -> Container:
    return HOST


def _no_container_by_id(container_id: str) -> Container:
    return Container(container_id)
