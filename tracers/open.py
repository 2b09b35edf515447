"""Files that are opened, by whichever call, whether or not they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from bpfd.plugin import BPFTracer, Field, Flags, Named, Spelled
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
VIA = dict(enumerate(("openat", "openat2", "open", "creat", "open_by_handle_at", "io_uring")))
"""As enum via in open.h."""
_MINOR_BITS = 20
"""How the kernel keeps a device's two numbers in one (MINORBITS in include/linux/kdev_t.h)."""
_others = Flags({name: getattr(os, name) for name in _FLAGS.split()}, none="")


def flags_text(number: int) -> str:
    """Flags of open(2) as the names that a program would write: `O_WRONLY|O_CREAT|O_TRUNC`."""
    access, others = _ACCESS[number & os.O_ACCMODE], _others(number & ~os.O_ACCMODE)
    return f"{access}|{others}" if others else access


def _device_text(number: int) -> str:
    return f"{number >> _MINOR_BITS}:{number & (1 << _MINOR_BITS) - 1}"


def _device_number(text: str) -> int:
    major, _, minor = text.partition(":")
    return int(major) << _MINOR_BITS | int(minor)


class OpenTracer(BPFTracer):
    """Files that are opened, successfully or not.

    Attaches to the calls' exits: there the kernel has read the file's name, so that it is in memory, and the descriptor
    leads to the file that was really opened. By a handle there is no name, so `filename` is empty, and `path` too where
    it failed.

    Through io_uring an open is told when it is complete (Linux 6.0 or later). Three kinds have the name made absolute
    for a `path`, which is not followed: files that are opened into the ring's own table; requests that ask for no word
    of success (IOSQE_CQE_SKIP_SUCCESS), told when they are submitted, with a `returnValue` of 0; and what else has no
    descriptor. The `command` may be that of the kernel's thread that did the work, the process is right.

    It misses 32-bit calls, which the kernel's system-call tracepoints leave out: `open32` tells those.
    """

    name = "open"
    default = True
    fields = (
        Field(
            "filename",
            "the name as the program passed it; ? where it can't be known",
            length=4096,
            example="../etc/shadow",
        ),
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
        Field("reads", "the flags let it read: neither O_WRONLY nor O_PATH", type="bool", example="true"),
        Field(
            "writes",
            "the flags let it write: O_WRONLY, O_RDWR, O_CREAT or O_TRUNC, and not O_PATH",
            type="bool",
            example="false",
        ),
        Field(
            "creates",
            "the flags let it make the file: O_CREAT, and not O_PATH",
            type="bool",
            optional=True,
            example="true",
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
        Field("inode", "on success the file's number", type="u64", late=True, optional=True, example="13109342"),
        Field(
            "device",
            "on success the device of its file system",
            type="u64",
            show=Spelled(_device_text, _device_number),
            late=True,
            optional=True,
            example="8:1",
        ),
        Field("via", "the way: " + ", ".join(VIA.values()), type="u64", show=Named(VIA), example="openat"),
        Field("mode", "the permissions asked for a new file, octal", type="u64", show="{:04o}".format, example="0644"),
    )
    program = Path(__file__).with_name("open.c")
    probes = (
        "tracepoint:syscalls:sys_exit_openat",
        "tracepoint:syscalls:sys_exit_openat2",
        "tracepoint:syscalls:sys_exit_open?",
        "tracepoint:syscalls:sys_exit_creat?",
        "tracepoint:syscalls:sys_exit_open_by_handle_at?",
        "tracepoint:io_uring:io_uring_submit_req?",
        "tracepoint:io_uring:io_uring_complete?",
        "tracepoint:io_uring:io_uring_cqe_overflow?",
    )
    counts = ("nameless", "orphaned")
    """Opens by io_uring whose names found no room (1,024 wait), and those whose process had ended before them."""
    ring_bytes = 4 << 20

    @classmethod
    def settle(cls, data: dict[str, str], return_value: int) -> None:
        """Where no file tells the path it is what the program said: take out its `.` and `..`, as far as names tell."""
        if (return_value < 0 or data["via"] == "io_uring") and data["path"]:
            data["path"] = plain(data["path"])
