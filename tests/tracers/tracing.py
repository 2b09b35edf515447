"""A tracer's program in the real kernel, without a daemon, and the deeds that it is to see."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator

from bpfd.event import Event
from bpfd.kernel.program import Build
from bpfd.plugin import BPFTracer
from tests.kernel.conftest import Bench


@contextlib.contextmanager
def tracing(tracer: type[BPFTracer], build: Build) -> Iterator[Bench]:
    """The tracer's program at work, which lets everything pass until it is told the rules."""
    bench = Bench(tracer, build)
    try:
        tracer.loaded(bench.program.maps)
        yield bench
    finally:
        bench.close()


def by(pid: int, **data: str) -> Callable[[Event], bool]:
    """Is an event the process's, with these fields?"""
    return lambda event: event.pid == pid and data.items() <= event.data.items()


def python(code: str, **options: object) -> int:
    """Run Python code in a process of its own; its pid."""
    process = subprocess.Popen([sys.executable, "-c", code], **options)  # type: ignore[call-overload]
    process.wait()
    return int(process.pid)
