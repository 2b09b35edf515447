"""One tracer, watched without a daemon, rules or actions: what `bpfd run` is made of."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from bpfd import machine
from bpfd.containers import find
from bpfd.counters import Counters
from bpfd.errors import LoadError
from bpfd.event import NOT_FOUND, Event
from bpfd.live import Live
from bpfd.plugin import AnyTracer, BPFTracer
from bpfd.rules.model import All, Condition, Not, Rule, Test
from bpfd.settings import Settings
from bpfd.watching import Watching


class QuickLook:
    """Watches one tracer. Use it as a context manager; one thread, but for what `on_ready` is called on."""

    def __init__(
        self,
        tracer: type[AnyTracer],
        condition: Condition,
        settings: Settings,
        on_ready: Callable[[], None],
        container: str = "",
    ) -> None:
        """Only events for which `condition` holds come, of one `container` if its id or name is given.

        `on_ready` is called on the event thread when there is something to `take` and before there was not: it must
        return at once.
        """
        self._tracer, self._condition, self._wanted = tracer, condition, container
        self._by_daemon = issubclass(tracer, BPFTracer) or tracer.follows_containers
        """It needs what the daemon has: the kernel, or containers."""
        self._live = Live(settings.trace_queue)
        self._counters = Counters()
        self._counters.watch("trace.slow_client", lambda: self._live.lost)
        self._client = self._live.subscribe(on_ready)
        self._watching = Watching(
            {tracer.name: tracer}, settings, self._counters, self._live.publish, lambda names, events: None
        )

    def __enter__(self) -> QuickLook:
        """Returns when events come; compiling takes a second.

        Raises `KernelError` for what the machine lacks (root, unless the tracer needs no BPF), `ContainerError`, and
        `LoadError`; then nothing is left behind.
        """
        try:
            self._start()
        except BaseException:
            self._watching.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Detach everything. What had happened by now can still be taken, and all losses are known. Idempotent."""
        self._watching.stop()

    def take(self) -> list[Event]:
        """All that waits, oldest first."""
        return self._client.take()[0]

    def lost(self) -> dict[str, int]:
        """How many events were lost, by the daemon's names for what lost them. A cgroup not heard of loses no event."""
        table = self._counters.table()
        return {name: count for name, count in table.items() if count and not name.startswith("containers.")}

    def _start(self) -> None:
        if self._by_daemon or self._wanted:
            machine.check("bpfd run")
        container = find.container(self._wanted) if self._wanted else ""
        watching, name = self._watching, self._tracer.name
        watching.start()
        if self._by_daemon or container:
            watching.follow_containers([name])
        else:
            watching.tracing.want([name])
        self._raise_failure()
        if container:
            watching.narrow_to(container)
        watching.enforcement.apply([Rule("", name, condition=self._whole(container))])
        self._raise_failure()

    def _whole(self, container: str) -> Condition:
        if not container:
            return self._condition
        somewhere = Not(Test("containerRuntime", "is", (NOT_FOUND,)))
        return All((somewhere, Test("containerID", "is", (container,)), self._condition))

    def _raise_failure(self) -> None:
        for problem in self._watching.tracing.failed.values():
            raise LoadError(problem)
