"""Pauses and ends the containers of any runtime through their cgroups.

cgroup v2: `cgroup.freeze` (Linux 5.2) and `cgroup.kill` (5.14); v1: the freezer controller, and signals to what is
frozen. Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/freezer-subsystem.rst of the kernel.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from bpfd.containers.runtimes import container_of, unclaimed_id
from bpfd.errors import ActionError, TargetGoneError
from bpfd.process import open_pidfd, refuse_own, send

_DEEPEST = 8
_MOST = 100_000
_FROZEN_S = 5.0


def cgroups_of(container_id: str) -> list[Path]:
    """The topmost cgroup directories of the container: the v2 one, or those of the v1 freezer. May take milliseconds.

    Raises `TargetGoneError` if there is none.
    """
    if not container_id or not container_id.isascii() or "/" in container_id:
        raise ActionError(f"container {container_id!r}: no id to find a cgroup by")
    for root, control in _roots():
        found = _find(root, container_id)
        usable = [path for path in found if (path / control).exists()]
        if usable:
            return usable
    raise TargetGoneError(f"container {container_id[:12]}: it has no cgroup any more")


def freeze(container_id: str, frozen: bool) -> None:
    """Freeze or thaw the container; returns once it is so. Raises `TargetGoneError` and `ActionError`."""
    for path in cgroups_of(container_id):
        if (path / "cgroup.freeze").exists():
            _write(path / "cgroup.freeze", "1" if frozen else "0")
            _await(path / "cgroup.events", f"frozen {int(frozen)}")
        else:
            state = "FROZEN" if frozen else "THAWED"
            _write(path / "freezer.state", state)
            _await(path / "freezer.state", state)


def kill(container_id: str) -> None:
    """End every process of the container, the frozen ones too. Raises `TargetGoneError` and `ActionError`."""
    for path in cgroups_of(container_id):
        refuse_members(path)
        if (path / "cgroup.kill").exists():
            _write(path / "cgroup.kill", "1")
        else:
            _kill_frozen(path)


def refuse_members(path: Path) -> None:
    """Raise `RefusedError` if this daemon or an ancestor of it is in the cgroup at `path` or below."""
    for pid in _members(path):
        refuse_own(pid)


def _kill_frozen(path: Path) -> None:
    """Nothing can fork while it is frozen; the signals act once it is thawed."""
    freezer = path / "freezer.state"
    if freezer.exists():
        _write(freezer, "FROZEN")
        _await(freezer, "FROZEN")
    try:
        for pid in _members(path):
            try:
                pidfd = open_pidfd(pid)
            except TargetGoneError:
                continue
            try:
                send(pidfd, pid, signal.SIGKILL)
            except TargetGoneError:
                pass
            finally:
                os.close(pidfd)
    finally:
        if freezer.exists():
            _write(freezer, "THAWED")


def _members(path: Path) -> list[int]:
    members: list[int] = []
    for directory, _, files in os.walk(path):
        if "cgroup.procs" in files:
            try:
                members += [int(row) for row in (Path(directory) / "cgroup.procs").read_text().split()]
            except OSError:
                continue  # it went away, or is a threaded one, whose processes its parent lists
    return [pid for pid in members if pid > 0]


def _roots() -> list[tuple[Path, str]]:
    """Where cgroups are mounted that can be frozen, and the file that does it: v2 first."""
    roots: list[tuple[Path, str]] = []
    for row in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        left, _, right = row.partition(" - ")
        kind, _, options = right.split(" ", 2)
        mounted = Path(left.split(" ")[4])
        if kind == "cgroup2":
            roots.insert(0, (mounted, "cgroup.freeze"))
        elif kind == "cgroup" and "freezer" in options.split(" ")[-1].split(","):
            roots.append((mounted, "freezer.state"))
    return roots


def _find(root: Path, container_id: str) -> list[Path]:
    """The container's directories that lie in no other of its own.

    Told as an event's container is told: what merely has the id in its name is another container ("shop" is not
    "shop-2"), or the runtime's own (libpod-conmon-ID.scope, lxc.monitor.NAME).
    """
    found: list[Path] = []
    seen = 0
    for directory, names, _ in os.walk(root):
        path = Path(directory)
        above = path.relative_to(root).parts
        seen += len(names)
        matching = {name for name in names if _is_of("/" + "/".join((*above, name)), container_id)}
        found += [path / name for name in sorted(matching)]
        if len(above) >= _DEEPEST or seen > _MOST:
            names.clear()
        else:
            names[:] = [name for name in names if name not in matching]
    return found


def _is_of(path: str, container_id: str) -> bool:
    claimed = container_of(path)
    return claimed[0] == container_id if claimed else unclaimed_id(path) == container_id


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except FileNotFoundError:
        raise TargetGoneError(f"{path.parent.name}: the cgroup has gone") from None
    except OSError as error:
        raise ActionError(f"{path}: cannot be written: {error.strerror}") from None


def _await(path: Path, text: str) -> None:
    deadline = time.monotonic() + _FROZEN_S
    while True:
        try:
            if text in path.read_text().splitlines():
                return
        except OSError:
            raise TargetGoneError(f"{path.parent.name}: the cgroup has gone") from None
        if time.monotonic() > deadline:
            raise ActionError(f"{path}: did not become {text!r} within {_FROZEN_S:g} s")
        time.sleep(0.005)
