"""Processes that end."""

from __future__ import annotations

from pathlib import Path

from bpfd import BPFTracer, Field


class ExitsTracer(BPFTracer):
    """Processes that end, with their priority.

    Attaches to sched:sched_process_exit, which the kernel passes for every thread of a process, not for the last alone.
    """

    name = "exits"
    fields = (
        Field("priority", "the kernel's priority, 120 for most", type="s64", example="120"),
        Field("thread", "the name of the thread that ends", length=16, example="sleep"),
    )
    program = Path(__file__).with_name("exits.c")
    probes = ("tracepoint:sched:sched_process_exit",)
