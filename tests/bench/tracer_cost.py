"""What each tracer costs the call that it traces, by the kernel's own count. Add yours to `LOADS`."""

from __future__ import annotations

import os
import pty
import socket
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bpfd.kernel import headers, image, program
from bpfd.kernel.program import Build, Program, Spec
from bpfd.plugin import BPFTracer
from bpfd.rules import plan
from bpfd.rules.model import All, Condition, Test
from bpfd.tracers.bashreadline import BashreadlineTracer
from bpfd.tracers.bind import BindTracer
from bpfd.tracers.dockeropenbreakout import DockerOpenBreakoutTracer
from bpfd.tracers.exec import ExecTracer
from bpfd.tracers.listen import ListenTracer
from bpfd.tracers.open import OpenTracer
from bpfd.tracers.open32 import Open32Tracer
from bpfd.tracers.tcpaccept import TcpAcceptTracer
from bpfd.tracers.tcpconnect import TcpConnectTracer
from bpfd.tracers.tcpdrop import TcpDropTracer
from tests.bench.call_loads import CALL_LOADS
from tests.bench.machine import kernel_counting
from tests.bench.table import Table

REPEATS = 5
CALLS = 500
NEVER = Test("command", "is", ("nothing-so-named",))

Load = Callable[[], int]
"""Makes the calls that a tracer traces, and says how many."""


@contextmanager
def loaded(tracer: type[BPFTracer], conditions: list[Condition]) -> Iterator[Program]:
    """A tracer's program with rules in force, without a daemon; its ring fills and overflows."""
    with tempfile.TemporaryDirectory(prefix="bpfd-bench-") as cache:
        # The load is this process's own: it must be seen.
        build = Build(headers.ensure(Path(cache)), self_pid=0)
        spec = Spec(tracer.name, tracer.program, tracer.fields, tracer.probes, tracer.ring_bytes)
        running = program.load(spec, build)
    try:
        tracer.loaded(running.maps)
        running.judge_by(image.lay_out(plan.make(conditions, tracer.fields), tracer.fields, 1))
        yield running
    finally:
        running.close()


def ns_per_call(running: Program, load: Load) -> float:
    """The kernel's run_time_ns of all of a tracer's probes, for one call of `load`."""
    with kernel_counting():
        before, _ = running.run_time()
        calls = load()
        after, _ = running.run_time()
    return (after - before) / calls


def opens() -> int:
    for _ in range(CALLS):
        os.close(os.open("/etc/hostname", os.O_RDONLY))
    return CALLS


def execs() -> int:
    for _ in range(200):
        subprocess.run(["/bin/true"], check=True)
    return 200


def binds() -> int:
    for _ in range(CALLS):
        with socket.socket() as made:
            made.bind(("127.0.0.1", 0))
    return CALLS


def listens() -> int:
    for _ in range(CALLS):
        with socket.socket() as made:
            made.listen()
    return CALLS


def connections() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(CALLS):
            with socket.create_connection(listener.getsockname()):
                listener.accept()[0].close()
    return CALLS


def refusals() -> int:
    for _ in range(CALLS):
        with socket.socket() as made:
            made.connect_ex(("127.0.0.1", 1))
    return CALLS


def lines() -> int:
    """What is typed into a bash with a terminal of its own."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(["bash", "--norc", "-i"], stdin=theirs, stdout=theirs, stderr=theirs) as shell:
        os.close(theirs)
        for _ in range(CALLS):
            os.write(ours, b":\n")
            os.read(ours, 4096)
        os.write(ours, b"exit\n")
        with suppress(OSError):  # EIO: the shell is gone
            while os.read(ours, 4096):
                pass
        shell.wait()
    os.close(ours)
    return CALLS


LOADS: tuple[tuple[type[BPFTracer], Load], ...] = (
    (OpenTracer, opens),
    (Open32Tracer, opens),  # of a 64-bit program: what every two calls of the machine pay
    (ExecTracer, execs),
    (BindTracer, binds),
    (ListenTracer, listens),
    (TcpAcceptTracer, connections),
    (TcpConnectTracer, connections),
    *CALL_LOADS,
    (TcpDropTracer, refusals),
    (BashreadlineTracer, lines),
    (DockerOpenBreakoutTracer, opens),  # of the host: what every one of its opens pays
)
"""Each tracer with calls that it traces."""


def measure(table: Table) -> None:
    table.section("Nanoseconds that a traced call costs (run_time_ns a call; each probe's has 55 of counting in it)")
    for tracer, load in LOADS:
        for name, condition in (("a rule that never matches", NEVER), ("every event matched", All())):
            with loaded(tracer, [condition]) as running:
                load()
                found = statistics.median(ns_per_call(running, load) for _ in range(REPEATS))
            table.row(f"{tracer.name}, {name}", f"{found:,.0f} ns")
