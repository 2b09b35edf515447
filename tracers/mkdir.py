"""Directories that are made: mkdir and mkdirat, whether or not they succeed."""

from __future__ import annotations

from pathlib import Path

from bpfd.plugin import BPFTracer, Field
from bpfd.tracers.names import plain


class MkdirTracer(BPFTracer):
    """Directories that are made, successfully or not.

    The path is what the call named, made absolute: a symbolic link in it is not followed.
    It misses what bypasses these calls: io_uring, and 32-bit programs, whose calls the kernel's system-call tracepoints
    leave out (arch_trace_is_compat_syscall in arch/x86/include/asm/ftrace.h).
    """

    name = "mkdir"
    fields = (
        Field("filename", "the name as the program passed it", length=4096, example=".cache"),
        Field("path", "the name made absolute", length=8192, late=True, normalised=True, example="/root/.cache"),
        Field(
            "mode",
            "the permissions asked for, before the umask, octal",
            type="u64",
            show="{:04o}".format,
            example="0755",
        ),
    )
    program = Path(__file__).with_name("mkdir.c")
    probes = ("tracepoint:syscalls:sys_exit_mkdirat", "tracepoint:syscalls:sys_exit_mkdir?")

    @classmethod
    def settle(cls, data: dict[str, str], return_value: int) -> None:
        data["path"] = plain(data["path"])
