"""What the tracers cost the calls that they trace, by the kernel's own count and by what a loop still gets done."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bpfd.kernel import headers, image, program
from bpfd.kernel.program import Build, Program, Spec
from bpfd.plugin import BPFTracer
from bpfd.rules import plan
from bpfd.rules.model import All, Condition, Test
from bpfd.tracers.exec import ExecTracer
from bpfd.tracers.open import OpenTracer
from tests.bench.machine import LONG, SHORT, interleaved, kernel_counting, load_program, never_rules, opens_per_second
from tests.bench.table import Table

REPEATS = 5


@contextmanager
def loaded(tracer: type[BPFTracer], conditions: list[Condition]) -> Iterator[Program]:
    """A tracer's program with rules in force, without a daemon; its ring fills and overflows."""
    with tempfile.TemporaryDirectory(prefix="bpfd-bench-") as cache:
        build = Build(headers.ensure(Path(cache)), self_pid=os.getpid())
        spec = Spec(tracer.name, tracer.program, tracer.fields, tracer.probes, tracer.ring_bytes)
        running = program.load(spec, build)
    try:
        running.judge_by(image.lay_out(plan.make(conditions, tracer.fields), tracer.fields, 1))
        yield running
    finally:
        running.close()


def ns_per_call(running: Program, load: Callable[[], object]) -> float:
    """The kernel's run_time_ns / run_cnt over `load`."""
    with kernel_counting():
        time_before, calls_before = running.run_time()
        load()
        time_after, calls_after = running.run_time()
    return (time_after - time_before) / max(calls_after - calls_before, 1)


def run_execs() -> None:
    for _ in range(200):
        subprocess.run(["/bin/true"], check=True)


def measure(table: Table) -> None:
    with load_program() as load:
        per_call(table, load)
        loop_speed(table, load)


def never(tracer: type[BPFTracer], count: int = 1) -> list[Condition]:
    return [Test("filename", "contains", (name,)) for name in never_rules(count)]


def per_call(table: Table, load: Path) -> None:
    table.section("Nanoseconds a call inside the kernel (run_time_ns / run_cnt, of which about 55 are the counting)")
    loads: dict[type[BPFTracer], Callable[[], object]] = {
        OpenTracer: lambda: opens_per_second(load, SHORT),
        ExecTracer: run_execs,
    }
    for tracer, run in loads.items():
        for name, conditions in (("a rule that never matches", never(tracer)), ("every event matched", [All()])):
            with loaded(tracer, conditions) as running:
                found = interleaved({"": lambda r=running, f=run: ns_per_call(r, f)}, REPEATS)  # type: ignore[misc]
            table.row(f"{tracer.name}, {name}", f"{found['']:.0f} ns")


def loop_speed(table: Table, load: Path) -> None:
    table.section("A tight loop of open and close, pinned to one core (41-byte path), and the kernel's count")
    bare: list[float] = []
    kept: dict[str, list[float]] = {}
    costs: dict[str, float] = {}
    cases: dict[str, list[Condition]] = {
        "1 rule that never matches": never(OpenTracer),
        "100 rules that never match": never(OpenTracer, 100),
        "10,000 rules that never match": never(OpenTracer, 10_000),
        "every event matched": [All()],
    }
    for name, conditions in cases.items():
        with loaded(OpenTracer, conditions) as running:
            costs[name] = interleaved(
                {"": lambda r=running: ns_per_call(r, lambda: opens_per_second(load, LONG))}, REPEATS
            )[""]  # type: ignore[misc]
    for _ in range(REPEATS):
        bare.append(opens_per_second(load, LONG))
        for name, conditions in cases.items():
            with loaded(OpenTracer, conditions):
                kept.setdefault(name, []).append(opens_per_second(load, LONG))
        kept.setdefault("bpftrace, one equal filter", []).append(with_bpftrace(load))
        if shutil.which("auditctl"):
            kept.setdefault("audit, one watch", []).append(with_audit(load))
    base = sorted(bare)[REPEATS // 2]
    table.row("nothing attached", f"{base:,.0f} /s")
    for name, values in kept.items():
        speed = sorted(values)[REPEATS // 2]
        cost = f", {costs[name]:.0f} ns" if name in costs else ""
        target, reached = "", None
        if name == "10,000 rules that never match":
            target, reached = "keeps 80 %", speed >= 0.8 * base
        table.row(name, f"{speed:,.0f} /s ({speed / base:.0%}){cost}", target, reached)
    one, many = costs["1 rule that never matches"], costs["10,000 rules that never match"]
    table.row("41-byte path, 1 rule", f"{one:.0f} ns", "<= 250 ns", one <= 250)
    table.row("10,000 rules against 1", f"{many / one:.2f} x", "<= 1.1 x", many / one <= 1.1)


def with_bpftrace(load: Path) -> float:
    text = 'tracepoint:syscalls:sys_enter_openat /str(args->filename) == "/never/opened"/ { printf("hit\\n"); }'
    tracer = subprocess.Popen(["bpftrace", "-e", text], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert tracer.stdout is not None
    try:
        tracer.stdout.readline()
        time.sleep(0.2)
        return opens_per_second(load, LONG)
    finally:
        tracer.terminate()
        tracer.wait()
        tracer.stdout.close()


def with_audit(load: Path) -> float:
    """The kernel's audit with one watch, as auditd would set it; it is as it was before afterwards."""
    watch = ["-w", "/etc/gshadow", "-p", "r", "-k", "bpfd-bench"]
    before = subprocess.run(["auditctl", "-s"], check=True, capture_output=True, text=True).stdout.split()[1]
    subprocess.run(["auditctl", *watch], check=True, capture_output=True)
    subprocess.run(["auditctl", "-e", "1"], check=True, capture_output=True)
    try:
        return opens_per_second(load, LONG)
    finally:
        subprocess.run(["auditctl", "-e", before], check=True, capture_output=True)
        subprocess.run(["auditctl", "-W", *watch[1:]], check=True, capture_output=True)
