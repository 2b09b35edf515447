"""What the cgroup of a container shows: whether anything runs in it, whether it is frozen, how many the kernel killed.

cgroup v2 has `cgroup.events` (populated, frozen) and `memory.events` (oom_kill), and inotify tells of changes of both;
v1 has `freezer.state` and `memory.oom_control` (oom_kill, Linux 4.13), of which nothing tells. In hybrid mode a
container is in all hierarchies, by the same path. Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bpfd.containers.cgroups import MOUNTS, hierarchies

MOST_PROCESSES = 256
MOST_CGROUPS = 64
"""How many processes and cgroups of a container are looked at for its first process."""
_MOST_BYTES = 65536


class Shown(NamedTuple):
    """What a container's cgroups show now."""

    populated: bool
    """A process is in it, or in one below."""
    frozen: bool
    oom_kills: int


class Init(NamedTuple):
    """A container's first process, as far as it can be known."""

    pid: int
    """As the host numbers it; 0: there is none to be seen."""
    is_sure: bool
    """It is number 1 of a pid namespace of its own."""


NOBODY = Init(0, False)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the hierarchies are mounted, with what of their paths is not below the mount."""

    v2: tuple[str, str] | None
    freezer: tuple[str, str] | None
    memory: tuple[str, str] | None

    @classmethod
    def here(cls, mounts: Path = MOUNTS) -> Places:
        v2, v1 = hierarchies(mounts)
        return cls(
            (str(v2[0]), v2[1]) if v2 else None,
            *((str(v1[name][0]), v1[name][1]) if name in v1 else None for name in ("freezer", "memory")),
        )

    def inotified(self, path: str) -> list[str]:
        """The files of which inotify tells, of the cgroup at `path`."""
        found = [_file(self.v2, path, name) for name in ("cgroup.events", "memory.events")]
        return [name for name in found if name is not None]

    def has_silent(self) -> bool:
        """Whether there are files that change without a word, so that they must be read again and again."""
        return self.v2 is None or self.freezer is not None or self.memory is not None

    def look(self, path: str) -> Shown | None:
        """What the cgroup at `path` shows; None: it is gone. Takes some 10 µs a file."""
        events = _read(_file(self.v2, path, "cgroup.events"))
        if self.v2 is not None and events is None:
            return None
        state = _read(_file(self.freezer, path, "freezer.state"))
        if self.v2 is None and state is None:
            return None
        rows = _rows(events)
        populated = rows["populated"] == 1 if "populated" in rows else self._has_processes(path)
        frozen = rows.get("frozen") == 1 or state == b"FROZEN\n"
        # After `populated`: who is the last to end may have been killed.
        kills = _rows(_read(_file(self.v2, path, "memory.events"))).get("oom_kill", 0)
        kills += _rows(_read(_file(self.memory, path, "memory.oom_control"))).get("oom_kill", 0)
        return Shown(populated, frozen, kills)

    def find_init(self, path: str) -> Init:
        """The first process in the cgroup at `path`: the oldest that is number 1 of its pid namespace, or else the
        oldest. What a runtime makes on the way to it is not number 1."""
        best: tuple[bool, int, int] | None = None
        for number, pid in enumerate(self._processes(path)):
            if number >= MOST_PROCESSES:
                break
            found = _first_and_start(pid)
            if found is not None:
                is_first, start = found
                key = (not is_first, start, pid)
                best = key if best is None else min(best, key)
        return NOBODY if best is None else Init(best[2], not best[0])

    def _has_processes(self, path: str) -> bool:
        return any(True for _ in self._processes(path))

    def _processes(self, path: str) -> Iterator[int]:
        """The processes of the cgroup at `path` and of those below it, its own first."""
        waiting = [_file(self.v2 or self.freezer, path, "")]
        for _ in range(MOST_CGROUPS):
            directory = waiting.pop(0) if waiting else None
            if directory is None:
                return
            yield from (int(pid) for pid in (_read(directory + "cgroup.procs") or b"").split() if pid != b"0")
            try:
                with os.scandir(directory) as entries:
                    waiting += [entry.path + "/" for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue


def _file(place: tuple[str, str] | None, path: str, name: str) -> str | None:
    """A file of the cgroup at `path`, or None where its hierarchy is not mounted, or not from so far above."""
    if place is None:
        return None
    mount, root = place
    root = root.rstrip("/")
    return f"{mount}{path[len(root) :]}/{name}" if path.startswith(root) else None


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, _MOST_BYTES)
    except OSError:  # ENODEV: it went away; EOPNOTSUPP: a threaded cgroup, whose processes its parent lists
        return None
    finally:
        os.close(fd)


def _rows(text: bytes | None) -> dict[str, int]:
    """The numbers of a flat keyed file."""
    words = [row.split() for row in (text or b"").splitlines()]
    return {pair[0].decode(): int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}


def _first_and_start(pid: int) -> tuple[bool, int] | None:
    """Whether a process is number 1 of a pid namespace that is not ours, and the tick that it started at."""
    status, stat = _read(f"/proc/{pid}/status"), _read(f"/proc/{pid}/stat")
    if status is None or stat is None:
        return None
    numbers = status.partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
    words = stat[stat.rfind(b")") + 2 :].split()
    return (len(numbers) > 1 and numbers[-1] == b"1"), int(words[19])
