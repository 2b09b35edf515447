"""What no response may hit, beside pid 1, kernel threads, the daemon and its ancestors (see `bpfd.process`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Literal

from bpfd.errors import RefusedError
from bpfd.event import Container, Event, printable

PROGRAMS = frozenset(
    "dockerd containerd containerd-shim containerd-shim-runc-v2 docker-proxy crio conmon podman kubelet".split()
)
"""Programs of container runtimes: whoever ends one of them ends every container."""


CONTAINER = "container:"
"""What names of protected containers begin with in the configuration."""


class Protected:
    """What is never hit: the runtimes' programs, the daemon's own container, and what the configuration adds."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        """`more` are programs, by name or absolute path, and containers, as `container:NAME` or `container:ID`."""
        named = frozenset(more)
        self.containers = frozenset(name.removeprefix(CONTAINER) for name in named if name.startswith(CONTAINER))
        """Names and ids."""
        self.programs = PROGRAMS | {name for name in named if not name.startswith(CONTAINER)}
        """Names and absolute paths."""

    def refuse(self, event: Event, acts_on: Literal["process", "container"]) -> None:
        """Raise `RefusedError` if what acted, or the container that it is in, is protected."""
        self._refuse_container(event.container)
        if acts_on == "container":
            refuse_own_container(event.container.id)
        else:
            refuse_program(event.pid, self.programs)

    def spares(self, pid: int) -> bool:
        """Whether process `pid` runs a protected program."""
        try:
            refuse_program(pid, self.programs)
        except RefusedError:
            return True
        return False

    def _refuse_container(self, container: Container) -> None:
        for name in (container.id, container.id[:12], container.name):
            if name and name in self.containers:
                raise RefusedError(f"container {printable(name)}: it is protected")


def refuse_program(pid: int, programs: Set[str]) -> None:
    """Raise `RefusedError` if process `pid` runs one of `programs`: names, or absolute paths.

    Told by the file that it runs and not by its command, which anybody can set; and only where that file is the
    host's, for a container may hold a program of the same name.
    """
    program = exe_of(pid)
    if programs.isdisjoint({program, program.rpartition("/")[2]}):
        return
    if shares_our_files(pid):
        raise RefusedError(f"process {pid}: {printable(program)} is protected")


def refuse_own_container(container_id: str) -> None:
    """Raise `RefusedError` if there is no container, or it is the one that this daemon runs in."""
    if not container_id:
        raise RefusedError("container: the event comes from none")
    for name in (
        "cgroup",
        "mountinfo",
    ):  # the one names it unless we have a cgroup namespace, the other Docker's mounts
        if container_id in Path(f"/proc/self/{name}").read_text(errors="replace"):
            raise RefusedError(f"container {container_id[:12]}: the daemon runs in it")


def exe_of(pid: int) -> str:
    """The path of the program that process `pid` runs, in its own mount namespace; empty if it can't be known."""
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except OSError:
        return ""


def shares_our_files(pid: int) -> bool:
    """True if the path of the program of process `pid` means what it says here.

    So it is in our mount namespace or init's; and in one of its own, which systemd gives to many services (PrivateTmp=,
    ProtectSystem=), if the file is the one that we find there.
    """
    theirs = _mount_namespace(str(pid))
    return bool(theirs) and (theirs in {_mount_namespace("self"), _mount_namespace("1")} or _runs_our_file(pid))


def _runs_our_file(pid: int) -> bool:
    try:
        return os.path.samefile(f"/proc/{pid}/exe", exe_of(pid))
    except OSError:
        return False


def _mount_namespace(pid: str) -> int:
    """Its number; 0 if it can't be known, as init's where init is shut off from root."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino
    except OSError:
        return 0
