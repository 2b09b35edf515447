"""The cgroup tree: where it is mounted, and what path a cgroup's id leads to.

A cgroup's id, as the kernel's programs see it, is the inode number of its directory (kernfs; cgroup_id() in
include/linux/cgroup.h). kernfs makes file handles of that number alone, so that an id leads to its path directly.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bpfd.errors import KernelError

CONTROLLERS = ("freezer", "pids", "memory", "devices")
"""The cgroup v1 hierarchies that container runtimes put containers into, the best first."""
FILEID_KERNFS = 0xFE
"""include/linux/exportfs.h"""
MOST_CGROUPS = 65536
"""How many directories a scan visits."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted cgroup tree."""

    mount: Path
    version: int
    controller: str
    """The v1 controller; empty for v2."""
    hierarchy_id: int
    """What the tracepoints cgroup:cgroup_mkdir and cgroup_rmdir give as `root`; 0 is v2."""
    subsystem: int | None
    """The v1 controller's place in enum cgroup_subsys_id; None for v2."""


def find_hierarchy(prefer_v1: bool = False) -> Hierarchy:
    """The tree to take containers from: cgroup v2 wherever it is mounted, also beside v1; else a v1 controller.

    Raises `KernelError` if there is none.
    """
    mounts = list(_mounts())
    unified = next((mount for mount, kind, _ in mounts if kind == "cgroup2"), None)
    if unified is not None and not prefer_v1:
        return Hierarchy(unified, 2, "", 0, None)
    numbers = _controllers()
    for controller in CONTROLLERS:
        for mount, kind, options in mounts:
            if kind == "cgroup" and controller in options and controller in numbers:
                subsystem, hierarchy = numbers[controller]
                return Hierarchy(mount, 1, controller, hierarchy, subsystem)
    raise KernelError("no cgroup tree is mounted; mount one with: mount -t cgroup2 none /sys/fs/cgroup")


def _mounts() -> Iterator[tuple[Path, str, list[str]]]:
    """Mount point, file-system type and super-block options of every cgroup mount (proc_pid_mountinfo(5))."""
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        if kind in ("cgroup", "cgroup2"):
            yield Path(before.split()[4]), kind, options.split()[-1].split(",")


def _controllers() -> dict[str, tuple[int, int]]:
    """For each v1 controller its place in the kernel's list, which is enum cgroup_subsys_id, and its hierarchy."""
    lines = Path("/proc/cgroups").read_text().splitlines()[1:]
    return {words[0]: (number, int(words[1])) for number, words in enumerate(line.split() for line in lines)}


def walk(hierarchy: Hierarchy) -> Iterator[tuple[int, str]]:
    """The id and path of every cgroup, parents first; those that vanish meanwhile are left out."""
    waiting = [(hierarchy.mount, "/")]
    for _ in range(MOST_CGROUPS):
        if not waiting:
            return
        folder, path = waiting.pop()
        try:
            yield folder.stat().st_ino, path
            with os.scandir(folder) as entries:
                inner = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        waiting += [(folder / name, f"{path.rstrip('/')}/{name}") for name in inner]


class PathFinder:
    """Leads from a cgroup's id to its path, with two system calls. Holds a descriptor: close it."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._mount = os.fsencode(hierarchy.mount)
        self._fd = os.open(hierarchy.mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def path_of(self, cgroup_id: int) -> str | None:
        """The path inside the tree; None if there is no such cgroup any more, or the kernel can't tell."""
        handle = ctypes.create_string_buffer(struct.pack("=IiQ", 8, FILEID_KERNFS, cgroup_id))
        fd: int = _libc.open_by_handle_at(self._fd, handle, os.O_PATH | os.O_CLOEXEC)
        if fd < 0:
            return None
        try:
            full = os.readlink(b"/proc/self/fd/%d" % fd)
        except OSError:
            return None
        finally:
            os.close(fd)
        if not full.startswith(self._mount) or full.endswith(b" (deleted)"):
            return None
        return os.fsdecode(full[len(self._mount) :]) or "/"

    def close(self) -> None:
        os.close(self._fd)
