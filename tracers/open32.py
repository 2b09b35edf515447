"""Files that are opened by 32-bit calls, which the kernel's system-call tracepoints leave out."""

from __future__ import annotations

from pathlib import Path

from bpfd.plugin import BPFTracer
from bpfd.tracers.open import OpenTracer


class Open32Tracer(BPFTracer):
    """Files opened by 32-bit calls, successfully or not.

    `open` leaves them out, as the kernel's system-call tracepoints do (arch_trace_is_compat_syscall in
    arch/x86/include/asm/ftrace.h): those of 32-bit programs, and those that a 64-bit program makes with `int $0x80`.
    It looks at the end of every system call of the machine, which costs each some 20 nanoseconds: so it is a tracer of
    its own, loaded only where a rule names it. Its fields are those of `open`; `via` is never io_uring, of which `open`
    tells whatever the program is.
    """

    name = "open32"
    fields = OpenTracer.fields
    program = Path(__file__).with_name("open32.c")
    probes = ("raw_tracepoint:sys_exit",)

    @classmethod
    def settle(cls, data: dict[str, str], return_value: int) -> None:
        """As `open` does."""
        OpenTracer.settle(data, return_value)
