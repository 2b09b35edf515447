"""Files outside of a container that its processes open."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from bpfd.plugin import BPFTracer, Field, TracerMap

_LATER = bytes(16)
"""A `struct insider` of which nothing is known yet."""


class DockerOpenBreakoutTracer(BPFTracer):
    """Files that a process in a container opens outside of the container's root file system and volumes.

    Looks at successful opens (open, openat, openat2, creat, open_by_handle_at) of processes that were started inside a
    container, and of all that descend from them. The kernel's own records decide, no path is compared: the file's mount
    and its mount namespace. The container's volumes are the mounts that its namespace had when its first program was
    started there. Silent for procfs, sysfs, cgroups and devices of /dev.

    It misses what a container's process broke out to before the tracer was loaded, opens through io_uring, 32-bit
    programs, host paths mounted in later that are not on a disk (or on kernels before 6.8, which number no mounts), and
    those mounted before the process went into a mount namespace of its own making.
    """

    name = "dockeropenbreakout"
    fields = (
        Field(
            "filename",
            "the name as the program passed it; nothing where it was opened by a handle",
            length=4096,
            optional=True,
            example="../../etc/shadow",
        ),
        Field(
            "path",
            "the path of the file really opened, in the view of the mount namespace that its mount belongs to",
            length=8192,
            late=True,
            example="/etc/shadow",
        ),
        Field(
            "origin",
            "where the file's mount shows it elsewhere: its path in its own file system",
            length=4096,
            late=True,
            optional=True,
            example="/etc/shadow",
        ),
        Field(
            "reason",
            "host-namespace: the process entered the host's mount namespace; other-namespace: the file's mount belongs "
            "to another one (a leaked descriptor); outside-mount: the file lies outside of what its mount shows (a "
            "handle); mounted-later: a disk's file, mounted into the container while it ran",
            length=32,
            example="other-namespace",
        ),
    )
    program = Path(__file__).with_name("dockeropenbreakout.c")
    probes = (
        "tracepoint:syscalls:sys_exit_openat",
        "tracepoint:syscalls:sys_exit_openat2",
        "tracepoint:syscalls:sys_exit_open_by_handle_at",
        "tracepoint:syscalls:sys_exit_open?",
        "tracepoint:syscalls:sys_exit_creat?",
        "tracepoint:sched:sched_process_exec",
        "tracepoint:sched:sched_process_fork",
        "tracepoint:sched:sched_process_exit",
    )
    ring_bytes = 256 << 10
    counts = ("untracked",)

    @classmethod
    def loaded(cls, maps: Mapping[str, TracerMap]) -> None:
        """Say which mount namespace is the host's, and which processes have another: they may be containers'."""
        host = _mount_namespace("1") or _mount_namespace("self")
        maps["host_space"].write(struct.pack("=I", 0), struct.pack("=I", host))
        for _ in range(2):  # who was forked meanwhile by one that was not known yet
            for thread in _threads_elsewhere(host):
                if maps["insiders"].read(struct.pack("=I", thread)) is None:
                    with suppress(OSError):  # there is no more room: what it starts or becomes is counted
                        maps["insiders"].write(struct.pack("=I", thread), _LATER)


def _threads_elsewhere(host: int) -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit() and _mount_namespace(name) not in {0, host}:
            try:
                yield from map(int, os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue  # it ended


def _mount_namespace(process: str) -> int:
    try:
        return os.stat(f"/proc/{process}/ns/mnt").st_ino
    except OSError:
        return 0
