"""Files that are renamed or moved: rename, renameat and renameat2, whether or not they succeed."""

from __future__ import annotations

from pathlib import Path

from bpfd.plugin import BPFTracer, Field, Flags
from bpfd.tracers.names import plain

FLAGS = {"RENAME_NOREPLACE": 1, "RENAME_EXCHANGE": 2, "RENAME_WHITEOUT": 4}
"""include/uapi/linux/fs.h"""


class RenameTracer(BPFTracer):
    """Files and directories that are renamed or moved, successfully or not.

    The paths are what the call named, made absolute: a symbolic link in them is not followed, so that one file may have
    several. Where a process moves the directory that the name starts from, its path is that after the move.
    It misses what bypasses these calls: io_uring, and 32-bit programs, whose calls the kernel's system-call tracepoints
    leave out (arch_trace_is_compat_syscall in arch/x86/include/asm/ftrace.h).
    """

    name = "rename"
    fields = (
        Field("filename", "the old name as the program passed it", length=4096, example="access.log"),
        Field(
            "path",
            "the old name made absolute",
            length=8192,
            late=True,
            normalised=True,
            example="/var/log/access.log",
        ),
        Field("new_filename", "the new name as the program passed it", length=4096, example="/var/lib/.hidden"),
        Field(
            "new_path",
            "the new name made absolute",
            length=8192,
            late=True,
            normalised=True,
            example="/var/lib/.hidden",
        ),
        Field(
            "flags",
            "whether what has the new name is kept (RENAME_NOREPLACE) or takes the old one (RENAME_EXCHANGE)",
            type="u64",
            show=Flags(FLAGS),
            optional=True,
            example="RENAME_NOREPLACE",
        ),
    )
    program = Path(__file__).with_name("rename.c")
    probes = (
        "tracepoint:syscalls:sys_exit_renameat2",
        "tracepoint:syscalls:sys_exit_renameat?",
        "tracepoint:syscalls:sys_exit_rename?",
    )

    @classmethod
    def settle(cls, data: dict[str, str], return_value: int) -> None:
        data["path"] = plain(data["path"])
        data["new_path"] = plain(data["new_path"])
