"""The lives of processes: fork, exec and exit in one stream."""

from __future__ import annotations

import signal
from pathlib import Path

from bpfd.plugin import BPFTracer, Field, Named

SIGNALS: dict[int, str] = {
    **{number: f"SIGRTMIN+{number - signal.SIGRTMIN}" for number in range(signal.SIGRTMIN + 1, signal.SIGRTMAX)},
    **{number: number.name for number in signal.Signals},
}
"""As signal(7) names them."""


class ProcessTracer(BPFTracer):
    """Processes that begin, run another program and end.

    A fork is seen in the parent, at task:task_newtask, which is the tracepoint that tells a thread's start from a
    process's; an exec that succeeds at sched:sched_process_exec; an exit at sched:sched_process_exit, when the last
    thread ends, whose `command` it has. Threads are not told, neither are programs that could not be started (see
    `exec`). Rules take `duration` from what every event has, so it is there for forks and execs too. Before Linux 6.16
    the kernel does not say which thread is the last: where two end in the same instant the exit may be told twice.
    """

    name = "process"
    fields = (
        Field("action", "fork, exec or exit", length=8, example="exit"),
        Field("child", "fork: the new process", type="u64", optional=True, example="4243"),
        Field(
            "filename",
            "exec: the program as it was asked for",
            length=4096,
            optional=True,
            example="/usr/bin/cat",
        ),
        Field(
            "exit_code",
            "exit: what the process said; 0 where a signal ended it",
            type="u64",
            optional=True,
            example="1",
        ),
        Field(
            "signal",
            "exit: the signal that ended the process",
            type="u64",
            show=Named(SIGNALS),
            optional=True,
            example="SIGSEGV",
        ),
        Field("core_dumped", "exit: the kernel wrote a core", type="bool", optional=True, example="true"),
        Field(
            "duration",
            "exit: how long the process lived, nanoseconds",
            type="u64",
            optional=True,
            example="5000000000",
        ),
    )
    program = Path(__file__).with_name("process.c")
    probes = (
        "tracepoint:task:task_newtask",
        "tracepoint:sched:sched_process_exec",
        "tracepoint:sched:sched_process_exit",
    )

    @classmethod
    def settle(cls, data: dict[str, str], return_value: int) -> None:
        """An exit code is told of exits alone, 0 too."""
        if data["action"] == "exit":
            data.setdefault("exit_code", "0")
