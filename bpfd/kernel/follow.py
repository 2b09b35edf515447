"""Keeps probes attached in every program of some names, on the host and in containers, now and as they come.

A uprobe belongs to a file, and each container has files of its own. So `uprobe:bash,sh:readline` is attached to the
file of each process of these names that runs when the tracer is loaded, and of each that starts later: follow.h tells
of those.
`uprobe:bash+libreadline.so:readline` looks into that library too, where the program does not have the function itself.

A probe keeps its file's mount from going, so a container's are taken off once no process runs the file.
"""

from __future__ import annotations

import logging
import os
import select
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bpfd.errors import LoadError
from bpfd.kernel import uprobes
from bpfd.kernel.elf import Found, find_function
from bpfd.kernel.maps import Map
from bpfd.kernel.probes import USER_KINDS
from bpfd.kernel.ring import Ring

log = logging.getLogger("bpfd.kernel")

MOST_FILES = 512
"""Files that are attached to at the same time; each keeps a descriptor, and one a probe."""
SWEEP_S = 5.0
"""How often what nobody runs any more is let go."""
FORGET_S = 60.0
"""How long a file without the function is taken to stay without: another may get its number."""
MAPPED_S = 1.0
"""How long a new process may take to load its library, and how often that is looked at."""
LOOK_S = 0.002
MOST_MAPS = 1 << 20
MOST_TABLE = 4 << 20
"""Bytes of a shell's or its library's symbol table that are looked at: anybody may call a file `bash`."""

_NEWCOMER = struct.Struct("=32sQ")
_KNOWN = struct.pack("=I", 1)


@dataclass(frozen=True, slots=True)
class Followed:
    """What a tracer follows."""

    names: tuple[str, ...]
    """The commands, as the kernel names processes: 15 bytes."""
    library: str
    symbol: str
    functions: tuple[tuple[str, bool], ...]
    """The C functions to call, and whether at the return."""

    @property
    def condition(self) -> str:
        """The C macro that follow.h asks whether a command, as two numbers of 8 bytes, is one of the names."""
        halves = [struct.unpack("=QQ", name.encode()[:15].ljust(16, b"\0")) for name in self.names]
        return "||".join(f"((a)=={one:#x}ULL&&(b)=={two:#x}ULL)" for one, two in halves)


def followed(tracer: str, probes: tuple[str, ...]) -> Followed | None:
    """What of `probes` follows programs by their names. Raises `LoadError` if they do not follow the same."""
    places: dict[str, str] = {}
    functions = []
    for probe in probes:
        kind, _, place = probe.partition(":")
        if kind in USER_KINDS and not place.startswith("/"):
            places[place] = probe
            functions.append((uprobes.function_of(probe), kind == "uretprobe"))
    if not places:
        return None
    if len(places) > 1:
        raise LoadError(f'tracer "{tracer}": probes: {" and ".join(places.values())} follow different programs')
    names, _, symbol = next(iter(places)).rpartition(":")
    commands, _, library = names.partition("+")
    return Followed(tuple(commands.split(",")), library, symbol, tuple(functions))


@dataclass(slots=True)
class _File:
    """A program's file that was looked at."""

    pid: int
    """A process that runs it."""
    keys: list[bytes]
    """What the kernel's programs know it by."""
    looked: float
    fd: int = -1
    """The file; -1: it does not have the function."""
    stays: bool = False
    """It is the host's: attached for as long as the file is there."""
    probes: list[int] = field(default_factory=list)


class Follower:
    """Attaches, on a thread of its own. `start` and `stop` it once; the program's descriptors stay the caller's."""

    def __init__(self, tracer: str, what: Followed, maps: Mapping[str, Map], program_fds: Mapping[str, int]) -> None:
        """Raises `LoadError` if the program lacks what it is to call."""
        self._what = what
        missing = [name for name, _ in what.functions if name not in program_fds] + sorted(
            {"bpfd_known", "bpfd_newcomers"} - maps.keys()
        )
        if missing:
            raise LoadError(
                f'tracer "{tracer}": the program lacks {", ".join(missing)}; add them, and #include "follow.h"'
            )
        self._functions = [(program_fds[name], at_return) for name, at_return in what.functions]
        self._known, ring = maps["bpfd_known"], maps["bpfd_newcomers"]
        self._ring = Ring(ring.fd, ring.max_entries)
        self._files: dict[tuple[int, int], _File] = {}
        self._waiting: list[tuple[float, int, bytes]] = []
        """Processes that have not loaded their library yet, and until when they may take."""
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = False
        self._host = {_mount_namespace(1), _mount_namespace(os.getpid())}
        self._thread = threading.Thread(target=self._run, name="bpfd-follow", daemon=True)
        self.refused = 0
        """Programs that were not attached to: too many files, or the kernel refused."""

    def start(self) -> None:
        """Returns when it is attached to what runs now."""
        self._look_around()
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        os.eventfd_write(self._wake_fd, 1)
        if self._thread.ident is not None:
            self._thread.join(2.0)
        for key in list(self._files):
            self._let_go(key)
        self._ring.close()
        os.close(self._wake_fd)

    @property
    def attached(self) -> int:
        """How many files it is attached to."""
        return sum(one.fd >= 0 for one in list(self._files.values()))

    def _run(self) -> None:
        with select.epoll() as epoll:
            epoll.register(self._ring.fd, select.EPOLLIN)
            epoll.register(self._wake_fd, select.EPOLLIN)
            due = time.monotonic() + SWEEP_S
            while not self._stopping:
                epoll.poll(LOOK_S if self._waiting else max(due - time.monotonic(), 0))
                try:
                    self._turn()
                    if time.monotonic() >= due:
                        self._sweep()
                        due = time.monotonic() + SWEEP_S
                except Exception:
                    log.exception("following programs met an error and goes on")
                    time.sleep(0.1)

    def _turn(self) -> None:
        for record in self._ring.read(64):
            key, pid = _NEWCOMER.unpack(record)
            self._meet(pid, key, time.monotonic() + MAPPED_S)
        waiting, self._waiting = self._waiting, []
        for until, pid, key in waiting:
            self._meet(pid, key, until)

    def _look_around(self) -> None:
        for pid in _processes():
            with suppress(OSError):
                command = Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n")
                if command in self._what.names:
                    self._meet(pid, b"", 0)

    def _meet(self, pid: int, key: bytes, until: float) -> None:
        """Look at the file that a process runs, unless it is known. What ended meanwhile is no loss."""
        with suppress(OSError):
            fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
            try:
                status = os.fstat(fd)
                place = status.st_dev, status.st_ino
                if (file := self._files.get(place)) is not None:
                    file.pid = pid
                else:
                    file = self._look(pid, fd, until)
                    if file is None:
                        self._waiting.append((until, pid, key))
                        return
                    self._files[place] = file
            finally:
                os.close(fd)
            if key and key not in file.keys:
                file.keys.append(key)
                self._known.write(key, _KNOWN)

    def _look(self, pid: int, fd: int, until: float) -> _File | None:
        """Attach to the file, or to its library. None: the library is not there yet."""
        made = _File(pid, [], time.monotonic())
        found = find_function(fd, self._what.symbol, MOST_TABLE)
        if found.offset is not None:
            self._attach(made, fd, found.offset)
        elif self._wants_library(found):
            with _library(pid, self._what.library) as library:
                if library < 0:
                    return None if time.monotonic() < until else made
                offset = find_function(library, self._what.symbol, MOST_TABLE).offset
                if offset is not None:
                    self._attach(made, library, offset)
        return made

    def _wants_library(self, found: Found) -> bool:
        library = self._what.library
        return bool(library) and any(name.startswith(library) for name in found.libraries)

    def _attach(self, file: _File, fd: int, offset: int) -> None:
        if self.attached >= MOST_FILES:
            self.refused += 1
            return
        try:
            for program_fd, at_return in self._functions:
                file.probes.append(uprobes.attach(program_fd, fd, offset, at_return))
        except OSError as error:
            self.refused += 1
            _close(file.probes)
            log.warning("pid %d: %s cannot be attached to: %s", file.pid, self._what.symbol, error.strerror)
            return
        file.fd = os.dup(fd)
        file.stays = _mount_namespace(file.pid) in self._host

    def _sweep(self) -> None:
        """Let go of what nobody runs any more."""
        now = time.monotonic()
        for place, file in list(self._files.items()):
            if file.fd < 0 and now - file.looked > FORGET_S:
                self._let_go(place)
        idle = {place for place, file in self._files.items() if file.fd >= 0 and _program(file.pid) != place}
        idle = {place for place in idle if not self._files[place].stays or _is_deleted(self._files[place].fd)}
        if not idle:
            return
        for pid in _processes():
            used = _program(pid)
            if used in idle:
                self._files[used].pid = pid
                idle.discard(used)
        for place in idle:
            self._let_go(place)

    def _let_go(self, place: tuple[int, int]) -> None:
        file = self._files.pop(place)
        for key in file.keys:
            self._known.delete(key)
        _close(file.probes)
        if file.fd >= 0:
            os.close(file.fd)


class _library:
    """Opens the library of that name which a process has mapped, for as long as it is looked at; -1: there is none."""

    def __init__(self, pid: int, name: str) -> None:
        self._pid, self._name = pid, name.encode()

    def __enter__(self) -> int:
        self._fd = -1
        with open(f"/proc/{self._pid}/maps", "rb") as maps:
            for line in maps.read(MOST_MAPS).splitlines():
                if line.rpartition(b"/")[2].startswith(self._name):
                    mapped = line.split(b" ", 1)[0].decode()
                    # Not by its path, which is the container's word for it.
                    self._fd = os.open(f"/proc/{self._pid}/map_files/{mapped}", os.O_RDONLY | os.O_CLOEXEC)
                    break
        return self._fd

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _program(pid: int) -> tuple[int, int] | None:
    """The file that a process runs, as device and inode."""
    try:
        status = os.stat(f"/proc/{pid}/exe")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_deleted(fd: int) -> bool:
    return os.fstat(fd).st_nlink == 0


def _mount_namespace(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino
    except OSError:
        return 0


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
    fds.clear()
