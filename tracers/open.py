"""Files that are opened: open, openat, openat2 and creat, whether or not they succeed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from bpfd.plugin import BPFTracer, Field, Flags, Named
from bpfd.tracers.names import plain

_ACCESS = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")
_FLAGS = (
    "O_SYNC O_TMPFILE O_APPEND O_ASYNC O_CLOEXEC O_CREAT O_DIRECT O_DIRECTORY O_DSYNC O_EXCL O_LARGEFILE O_NOATIME "
    "O_NOCTTY O_NOFOLLOW O_NONBLOCK O_PATH O_TRUNC"
)
FILE_TYPES = {
    stat.S_IFMT(mode) >> 12: name
    for mode, name in (
        (stat.S_IFREG, "regular"),
        (stat.S_IFDIR, "directory"),
        (stat.S_IFCHR, "character"),
        (stat.S_IFBLK, "block"),
        (stat.S_IFIFO, "fifo"),
        (stat.S_IFSOCK, "socket"),
        (stat.S_IFLNK, "symlink"),
    )
}
"""What a file is, by the four bits of its mode that say so (inode(7))."""
_others = Flags({name: getattr(os, name) for name in _FLAGS.split()}, none="")


def flags_text(number: int) -> str:
    """Flags of open(2) as the names that a program would write: `O_WRONLY|O_CREAT|O_TRUNC`."""
    access, others = _ACCESS[number & os.O_ACCMODE], _others(number & ~os.O_ACCMODE)
    return f"{access}|{others}" if others else access


class OpenTracer(BPFTracer):
    """Files that are opened, successfully or not.

    Attaches to the calls' exits: there the kernel has read the file's name, so that it is in memory, and the descriptor
    leads to the file that was really opened. It misses what bypasses these calls: io_uring, open_by_handle_at, and
    32-bit programs, whose calls the kernel's system-call tracepoints leave out (arch_trace_is_compat_syscall in
    arch/x86/include/asm/ftrace.h).
    """

    name = "open"
    default = True
    fields = (
        Field("filename", "the name as the program passed it", length=4096, example="../etc/shadow"),
        Field(
            "path",
            "on success the path of the file really opened, in the view of its mount namespace; on failure the name "
            "made absolute. A rule on it is judged against origin too",
            length=8192,
            late=True,
            normalised=True,
            also="origin",
            example="/etc/shadow",
        ),
        Field(
            "origin",
            "where a bind mount shows the file elsewhere: its path in its own file system",
            length=4096,
            late=True,
            optional=True,
            example="/var/lib/data/shadow",
        ),
        Field("flags", "how it was opened", type="u64", show=flags_text, example="O_RDONLY|O_CLOEXEC"),
        Field(
            "writes",
            "the flags let it write: O_WRONLY, O_RDWR, O_CREAT or O_TRUNC, and not O_PATH",
            type="bool",
            example="false",
        ),
        Field(
            "file_type",
            "on success what the file is: " + ", ".join(FILE_TYPES.values()),
            type="u64",
            show=Named(FILE_TYPES),
            late=True,
            optional=True,
            example="regular",
        ),
        Field("mode", "the permissions asked for a new file, octal", type="u64", show="{:04o}".format, example="0644"),
    )
    program = Path(__file__).with_name("open.c")
    probes = (
        "tracepoint:syscalls:sys_exit_openat",
        "tracepoint:syscalls:sys_exit_openat2",
        "tracepoint:syscalls:sys_exit_open?",
        "tracepoint:syscalls:sys_exit_creat?",
    )
    ring_bytes = 4 << 20

    @classmethod
    def settle(cls, data: dict[str, str], return_value: int) -> None:
        """A failed call's path is what the program said: take out its `.` and `..`, as far as names alone tell."""
        if return_value < 0:
            data["path"] = plain(data["path"])
