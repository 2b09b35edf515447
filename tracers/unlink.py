"""Files and directories that are removed: unlink, unlinkat and rmdir, whether or not they succeed."""

from __future__ import annotations

from pathlib import Path

from bpfd.plugin import BPFTracer, Field, Flags
from bpfd.tracers.names import plain


class UnlinkTracer(BPFTracer):
    """Files and directories that are removed, successfully or not.

    The path is what the call named, made absolute: a symbolic link in it is not followed, so that one file may have
    several. A file that is overwritten by a rename is seen by `rename` alone.
    It misses what bypasses these calls: io_uring, and 32-bit programs, whose calls the kernel's system-call tracepoints
    leave out (arch_trace_is_compat_syscall in arch/x86/include/asm/ftrace.h).
    """

    name = "unlink"
    fields = (
        Field("filename", "the name as the program passed it", length=4096, example="auth.log"),
        Field("path", "the name made absolute", length=8192, late=True, normalised=True, example="/var/log/auth.log"),
        Field(
            "flags",
            "AT_REMOVEDIR where a directory was to be removed, rmdir's too",
            type="u64",
            show=Flags({"AT_REMOVEDIR": 0x200}),
            optional=True,
            example="AT_REMOVEDIR",
        ),
    )
    program = Path(__file__).with_name("unlink.c")
    probes = (
        "tracepoint:syscalls:sys_exit_unlinkat",
        "tracepoint:syscalls:sys_exit_unlink?",
        "tracepoint:syscalls:sys_exit_rmdir?",
    )

    @classmethod
    def settle(cls, data: dict[str, str], return_value: int) -> None:
        data["path"] = plain(data["path"])
