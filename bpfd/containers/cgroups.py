"""The tree of cgroups: which hierarchy ids are taken from, and what path an id has.

A cgroup's id, `bpf_get_current_cgroup_id()`, is the number of its kernfs node: the inode number of its directory on
64-bit machines (kernel commit 40430452fd5d, "kernfs: use 64bit inos if ino_t is 64bit"), and a file handle of type
FILEID_KERNFS by the same patches (Linux 5.5).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bpfd.containers.subsystems import subsystem_index
from bpfd.errors import KernelError

MOUNTS = Path("/proc/self/mountinfo")
V1_CONTROLLERS = ("freezer", "pids", "memory", "devices")
"""Hierarchies that runtimes put every container into, the best first."""

_FILEID_KERNFS = 0xFE
_UP = "/".join([".."] * 8)
_MOST_CLIMBS = 512
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy of cgroups."""

    mount: Path
    version: Literal[1, 2]
    controller: str = ""
    """v1: the controller it was chosen for."""
    hierarchy_id: int = 0
    """The number in /proc/self/cgroup and the tracepoints' `root`; v2 has 0."""
    root: str = "/"
    """The cgroup that is mounted; another than / inside a container."""
    subsystem: int | None = None
    """v1: the controller's enum cgroup_subsys_id in this kernel, where a program finds the task's cgroup."""


def hierarchies(mounts: Path = MOUNTS) -> tuple[tuple[Path, str] | None, Mapping[str, tuple[Path, str]]]:
    """Where v2 is mounted, and each controller of v1, with the cgroup that is mounted there."""
    v2: tuple[Path, str] | None = None
    v1: dict[str, tuple[Path, str]] = {}
    for row in mounts.read_text(errors="surrogateescape").splitlines():
        left, _, right = row.partition(" - ")
        fields, kind, options = left.split(" "), right.split(" ")[0], right.split(" ")[-1]
        if len(fields) < 5 or kind not in {"cgroup", "cgroup2"}:
            continue
        root, mount = (_OCTAL.sub(lambda found: chr(int(found[1], 8)), field) for field in fields[3:5])
        if kind == "cgroup2":
            v2 = v2 or (Path(mount), root)
        else:
            for controller in options.split(","):
                v1.setdefault(controller, (Path(mount), root))
    return v2, v1


def find_hierarchy(prefer_v1: bool = False, mounts: Path = MOUNTS) -> Hierarchy:
    """The hierarchy to know containers by: v2, also in hybrid mode, for runtimes put containers there as well.

    Without v2, or if v1 is preferred: a v1 controller's. Raises `KernelError` if there is none.
    """
    v2, v1 = hierarchies(mounts)
    chosen = next((name for name in V1_CONTROLLERS if name in v1), None)
    if chosen is not None and (prefer_v1 or v2 is None):
        mounted, root = v1[chosen]
        return Hierarchy(mounted, 1, chosen, _hierarchy_id(chosen), root, subsystem_index(chosen))
    if v2 is None:
        raise KernelError("cgroups: no hierarchy is mounted; mount -t cgroup2 none /sys/fs/cgroup")
    return Hierarchy(v2[0], 2, root=v2[1])


def _hierarchy_id(controller: str) -> int:
    for row in Path("/proc/cgroups").read_text().splitlines():
        name, number, *_ = row.split("\t")
        if name == controller:
            return int(number)
    raise KernelError(f"/proc/cgroups: no controller {controller!r}; mount -t cgroup2 none /sys/fs/cgroup")


class CgroupTree:
    """Finds paths of cgroups. Any thread; `close` it once nobody asks any more."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._mount = str(hierarchy.mount)
        self._root = hierarchy.root.rstrip("/")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = os.open(self._mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def scan(self) -> Iterator[tuple[int, str]]:
        """Every cgroup's id and path, parents first. What comes or goes meanwhile may be missing."""
        yield os.stat(self._mount).st_ino, self._root or "/"
        waiting = [self._mount]
        while waiting:
            directory = waiting.pop()
            try:
                with os.scandir(directory) as entries:
                    below = [(entry.inode(), entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:  # it went away, or lies deeper than a path can say; `path_of` gets there
                continue
            for cgroup_id, path in below:
                yield cgroup_id, self._root + path[len(self._mount) :]
                waiting.append(path)

    def path_of(self, cgroup_id: int) -> str | None:
        """The path of one cgroup; None: there is none (any more), or this kernel can't tell. Takes 10 µs, no disk.

        Of one that is too deep for a path, the path of the nearest one above it that is not.
        """
        fd = self._open(cgroup_id)
        if fd < 0:
            return None
        try:
            for _ in range(_MOST_CLIMBS):
                try:
                    return self._below_mount(os.readlink(f"/proc/self/fd/{fd}"))
                except OSError as error:
                    if error.errno != errno.ENAMETOOLONG:
                        return None
                above = os.open(_UP, os.O_PATH | os.O_CLOEXEC, dir_fd=fd)
                os.close(fd)
                fd = above
        except OSError:
            return None
        finally:
            os.close(fd)
        return None

    def _open(self, cgroup_id: int) -> int:
        handle = _KernfsHandle(8, _FILEID_KERNFS, cgroup_id & 0xFFFF_FFFF_FFFF_FFFF)
        flags = os.O_PATH | os.O_CLOEXEC
        return int(self._libc.open_by_handle_at(self._fd, ctypes.byref(handle), flags))

    def _below_mount(self, link: str) -> str | None:
        if link == self._mount:
            return self._root or "/"
        if not link.startswith(self._mount + "/"):
            return None
        return self._root + link[len(self._mount) :].removesuffix(" (deleted)")


class _KernfsHandle(ctypes.Structure):
    """struct file_handle of include/uapi/linux/fcntl.h, with what kernfs puts into it (fs/kernfs/mount.c)."""

    _fields_ = [("handle_bytes", ctypes.c_uint), ("handle_type", ctypes.c_int), ("id", ctypes.c_uint64)]
