"""What thousands of rules cost a call, by the kernel's own count and by what a loop still gets done."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from pathlib import Path

from bpfd.kernel.program import Program
from bpfd.rules.model import All, Condition, Test
from bpfd.tracers.open import OpenTracer
from tests.bench.machine import LONG, kernel_counting, load_program, never_rules, opens_per_second
from tests.bench.table import Table
from tests.bench.tracer_cost import loaded

REPEATS = 5


def measure(table: Table) -> None:
    with load_program() as load:
        loop_speed(table, load)


def ns_per_probe(running: Program, load: Path) -> float:
    """The kernel's run_time_ns / run_cnt while the loop runs."""
    with kernel_counting():
        time_before, calls_before = running.run_time()
        opens_per_second(load, LONG)
        time_after, calls_after = running.run_time()
    return (time_after - time_before) / max(calls_after - calls_before, 1)


def never(count: int = 1) -> list[Condition]:
    return [Test("filename", "contains", (name,)) for name in never_rules(count)]


def loop_speed(table: Table, load: Path) -> None:
    table.section("A tight loop of open and close, pinned to one core (41-byte path), and the kernel's count")
    bare: list[float] = []
    kept: dict[str, list[float]] = {}
    costs: dict[str, float] = {}
    cases: dict[str, list[Condition]] = {
        "1 rule that never matches": never(),
        "100 rules that never match": never(100),
        "10,000 rules that never match": never(10_000),
        "every event matched": [All()],
    }
    for name, conditions in cases.items():
        with loaded(OpenTracer, conditions) as running:
            costs[name] = statistics.median(ns_per_probe(running, load) for _ in range(REPEATS))
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
