"""What no signal that the kernel sends may hit: told to every program, and kept up to date.

The kernel spares pid 1, kernel threads and what its table holds: the daemon and its ancestors, container runtimes, and
what the configuration protects. Programs are known by the file that they run, which an upgrade replaces, and containers
by their cgroups, which come and go: so all is looked up again every few seconds.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Set

from bpfd import process
from bpfd.event import Container
from bpfd.protected import Protected, exe_of, shares_our_files

log = logging.getLogger("bpfd.sparing")

REFRESH_S = 10.0
"""How long a program that is new may go without protection; a container has it once it has a cgroup and a name."""
REST_S = 0.2
"""How long it rests between two times, at least."""
PROCESS, CGROUP = 0, (1 << 64) - 1
"""In place of a device: the number is that of a process, or of a cgroup (see filter.h)."""
FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/libexec", "/usr/lib")

Key = tuple[int, int]
"""A device as the kernel counts it, and the number of a file on it; or one of the above, and what it says."""


class Sparing:
    """Keeps the tables of all programs. `start` and `stop` it once; `refresh` may be called from any thread."""

    def __init__(
        self, protected: Protected, spare: Callable[[Collection[Key]], None], cgroups: Callable[[Set[str]], Set[int]]
    ) -> None:
        """`spare` tells all programs; `cgroups` gives those of containers, by their names or ids."""
        self._protected, self._spare, self._cgroups = protected, spare, cgroups
        self._stopping, self._hurry = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="bpfd-sparing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 0.5) -> None:
        """End the thread; one that waits for a tracer that is being loaded ends by itself. Idempotent."""
        self._stopping.set()
        self._hurry.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def container_came(self, container: Container) -> None:
        """A container has a cgroup, or a name: look at once if it is a protected one. Any thread; does not wait."""
        if has_name(container, self._protected.containers):
            self._hurry.set()

    def refresh(self) -> None:
        """Look everything up, and tell the programs. The more important first, should a table be full."""
        own = os.getpid()
        keys = [(PROCESS, pid) for pid in (own, *sorted(process.ancestors(own)))]
        keys += sorted(executables(self._protected.programs))
        keys += [(CGROUP, number) for number in sorted(self._cgroups(self._protected.containers))]
        self._spare(keys)

    def _run(self) -> None:
        while True:
            self._hurry.wait(REFRESH_S)
            if self._stopping.is_set():
                return
            self._hurry.clear()
            try:
                self.refresh()
            except Exception:
                log.exception("what the kernel spares was not looked up; it goes on with what it knows")
            self._stopping.wait(REST_S)


def executables(programs: Iterable[str]) -> set[Key]:
    """The files of `programs`, names or absolute paths: in the usual folders, and of processes that run them."""
    names = set(programs)
    paths = {path for path in names if path.startswith("/")}
    bare = names - paths
    folders = {*FOLDERS, *os.environ.get("PATH", "").split(os.pathsep)}
    paths |= {os.path.join(folder, name) for folder in folders if folder.startswith("/") for name in bare}
    paths |= {
        f"/proc/{pid}/exe"
        for pid in filter(str.isdigit, os.listdir("/proc"))
        if os.path.basename(exe_of(int(pid))) in bare and shares_our_files(int(pid))
    }
    return {key for key in map(_key_of, paths) if key is not None}


def has_name(container: Container, names: Set[str]) -> bool:
    """Whether the container goes by one of these names or ids."""
    return not names.isdisjoint({container.id, container.id[:12], container.name} - {""})


def _key_of(path: str) -> Key | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    # The kernel's own dev_t (include/linux/kdev_t.h, MKDEV), not the one that system calls use.
    return os.major(found.st_dev) << 20 | os.minor(found.st_dev), found.st_ino
