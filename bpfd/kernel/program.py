"""A loaded program, on the daemon's side: its ring, maps, counts and probes."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import struct
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpfd.errors import LoadError
from bpfd.event import HOST
from bpfd.kernel import child, probes, source, uprobes
from bpfd.kernel.child import close_all
from bpfd.kernel.compiled import SELF, Kept, from_answer, key_of
from bpfd.kernel.follow import Follower, followed
from bpfd.kernel.image import PAGE_BYTES, Image, scope_number
from bpfd.kernel.install import CannotInstallError, install
from bpfd.kernel.maps import Map, create_pages, possible_cpus, program_info
from bpfd.kernel.ring import Ring
from bpfd.plugin import Field

log = logging.getLogger(__name__)

FIRST = struct.pack("=I", 0)
"""The key of the only entry."""
COUNTS_BYTES = 64
"""sizeof(struct bpfd_counts) in filter.h."""


@dataclass(frozen=True, slots=True)
class Build:
    """What all programs of a daemon are built with."""

    headers: Path
    cgroup_v1: int | None = None
    """The index of the cgroup v1 controller to take ids from (enum cgroup_subsys_id); None: cgroup v2."""
    self_pid: int = 0
    """The process whose own events are left out."""
    given_up: Callable[[], bool] = lambda: False
    """Whether nobody waits any more for what is being loaded. Asked by any thread, often."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One program to load."""

    name: str
    program: Path | str
    """The C file, or its text."""
    fields: tuple[Field, ...]
    probes: tuple[str, ...]
    ring_bytes: int


class Program:
    """A program that is attached. `close` detaches it; so does the end of the daemon, whatever ends it, because nothing
    but descriptors of this process holds the probes."""

    def __init__(self, name: str, answer: Mapping[str, Any], fds: list[int]) -> None:
        self.name = name
        self._fds = fds
        self.maps: dict[str, Map] = {}
        self._spared: set[bytes] = set()
        for entry, fd in zip(answer["maps"], fds, strict=False):
            self.maps[entry["name"]] = Map(
                fd, entry["name"], entry["type"], entry["key_size"], entry["value_size"], entry["max_entries"]
            )
        first = len(self.maps)
        self.program_fds: dict[str, int] = dict(zip(answer["programs"], fds[first:], strict=False))
        ring = self.maps["bpfd_ring"]
        self.ring = Ring(ring.fd, ring.max_entries)
        self._counts_map = mmap.mmap(self.maps["bpfd_counts"].fd, _whole_pages(possible_cpus() * COUNTS_BYTES))
        self._counts: memoryview | list[int] = memoryview(self._counts_map).cast("Q")
        self._skipped = 0
        self._reading = threading.Lock()
        """Held while what ends with the descriptors is looked at, by whichever thread: others may get their numbers."""
        self.follower: Follower | None = None

    def attach(self, names: tuple[str, ...]) -> None:
        """Attach the probes that are in programs; the loader has attached the others. Raises `LoadError`, OSError."""
        self._fds += uprobes.attach_named(self.name, names, self.program_fds)
        what = followed(self.name, names)
        if what is not None:
            self.follower = Follower(self.name, what, self.maps, self.program_fds)
            self.follower.start()

    def count(self, number: int) -> int:
        """The sum over all processors of one of `struct bpfd_counts`: 0 seen, 1 passed, 2 lost, 3 to 7 the tracer's.

        After the end what it was then; so are the other counts.
        """
        with self._reading:
            return sum(self._counts[cpu * 8 + number] for cpu in range(possible_cpus()))

    @property
    def seen(self) -> int:
        return self.count(0)

    @property
    def passed(self) -> int:
        return self.count(1)

    @property
    def lost(self) -> int:
        """Events that found the ring full, and probes that the kernel skipped because another ran on that processor."""
        return self.count(2) + self.skipped

    @property
    def skipped(self) -> int:
        with self._reading:
            return self._skipped + sum(int(program_info(fd).recursion_misses) for fd in self.program_fds.values())

    def own_count(self, number: int) -> int:
        """What the program counted itself with `bpfd_count(number)`."""
        return self.count(3 + number)

    def judge_by(self, image: Image) -> None:
        """Put a set of rules in force for every event from now on. Raises OSError.

        Returns when no probe is at work with the set before (kernel/bpf/syscall.c, maybe_wait_bpf_programs).
        """
        fd = create_pages(image.parts, image.pages, PAGE_BYTES)
        try:
            self.maps["bpfd_rules"].write(FIRST, struct.pack("=I", fd))
        finally:
            os.close(fd)

    def spare(self, keys: Collection[tuple[int, int]]) -> None:
        """Never send a signal to these, and to nobody else that was spared before: what runs the file of a number on a
        device (as the kernel counts devices), or with device 0 the process of that number, or with device 2^64-1 what
        is in the cgroup of that number. Raises OSError when the table is full (1,024); the first of `keys` are in it.
        """
        table, wanted = self.maps["bpfd_protected"], [struct.pack("=QQ", *key) for key in keys]
        for key in self._spared - set(wanted):
            table.delete(key)
        self._spared &= set(wanted)
        for key in wanted:
            if key not in self._spared:
                table.write(key, struct.pack("=I", 1))
                self._spared.add(key)

    def set_scope(self, cgroup: int, scope: int) -> None:
        """Say which runtime a cgroup belongs to, by image.py's number. A full table only means that Python judges."""
        with contextlib.suppress(OSError):
            self.maps["bpfd_scope"].write(struct.pack("=Q", cgroup), struct.pack("=I", scope))

    def forget_scope(self, cgroup: int) -> None:
        self.maps["bpfd_scope"].delete(struct.pack("=Q", cgroup))

    def run_time(self) -> tuple[int, int]:
        """Nanoseconds in the kernel and calls, over all of its probes, while kernel.bpf_stats_enabled is 1."""
        with self._reading:
            infos = [program_info(fd) for fd in self.program_fds.values()]
        return sum(int(info.run_time_ns) for info in infos), sum(int(info.run_cnt) for info in infos)

    def close(self) -> None:
        """Detach and give everything back. The thread that reads the ring must have let go of it."""
        if self.follower is not None:
            self.follower.stop()
        self.ring.close()
        skipped = self.skipped
        with self._reading:
            mapped, self._counts = self._counts, list(self._counts)
            if isinstance(mapped, memoryview):
                mapped.release()
            self._counts_map.close()
            self._skipped, self.program_fds = skipped, {}
            close_all(self._fds)
            self._fds = []


def load(spec: Spec, build: Build) -> Program:
    """Compile `spec` in a child unless it was compiled before, put it into the kernel and attach it. Any thread.

    Blocks for a second or two where there is something to compile, else for the verifier: tenths of a second.
    Raises `LoadError` with the tracer's name and all that the compiler or verifier said, and `GivenUpError`.
    """
    child.refuse_if(build.given_up, spec.name)
    answer, fds = _install_compiled(spec, build) or _load_in_child(spec, build)
    try:
        loaded = Program(spec.name, answer, fds)
    except (OSError, KeyError, ValueError) as error:
        close_all(fds)
        raise LoadError(f'tracer "{spec.name}": its ring buffer cannot be mapped: {error}') from None
    try:
        loaded.attach(spec.probes)
    except BaseException as error:
        loaded.close()
        if isinstance(error, OSError):
            raise LoadError(f'tracer "{spec.name}": its probes cannot be attached: {error}') from None
        raise
    return loaded


def _install_compiled(spec: Spec, build: Build) -> tuple[Mapping[str, Any], list[int]] | None:
    """What `install` gives, or None where bcc must do it: it knows more kinds of maps and probes, and says in the words
    of the source what the verifier refuses. It can't chain programs of two types. Raises `LoadError` for what the
    compiler refuses, and where bcc can't help."""
    job = _job(spec, build, SELF)
    kept, key = Kept(build.headers.parent), key_of(job)
    compiled = kept.read(key)
    try:
        if compiled is None:
            answer, _ = child.ask(spec.name, {**job, "compile": True}, build.given_up)
            compiled = from_answer(answer)
            kept.write(key, compiled)
            child.refuse_if(build.given_up, spec.name)
        return install(compiled, job["kind"], build.self_pid)
    except (OSError, CannotInstallError) as error:
        if probes.are_mixed(spec.probes):
            said = "\n".join([str(error), *getattr(error, "__notes__", ())])
            raise LoadError(f'tracer "{spec.name}": the kernel does not take its programs: {said}') from None
        log.debug("tracer %s: bcc loads it: %s", spec.name, error)
        return None


def _load_in_child(spec: Spec, build: Build) -> tuple[Mapping[str, Any], list[int]]:
    return child.ask(spec.name, {**_job(spec, build, build.self_pid), "compile": False}, build.given_up)


def _job(spec: Spec, build: Build, self_pid: int) -> dict[str, Any]:
    kind = probes.kind_of(spec.name, spec.probes)
    has = probes.available(spec.name, spec.probes)
    what = followed(spec.name, spec.probes)
    text = source.program_text(spec.program, spec.fields)
    defines: dict[str, object] = {
        "BPFD_SELF": self_pid,
        "BPFD_CPUS": possible_cpus(),
        "BPFD_SCOPE_HOST": scope_number(HOST.runtime),
        "BPFD_RING_PAGES": spec.ring_bytes // mmap.PAGESIZE,
    }
    defines.update({f"BPFD_HAS_{name}": 1 for name in has})
    if build.cgroup_v1 is not None:
        defines["BPFD_CGROUP_V1"] = build.cgroup_v1
    if source.wants_all_types(text):
        defines["BPFD_VMLINUX"] = 1
    if kind == "uprobe":
        defines["BPFD_PREEMPTIBLE"] = 1
    if what is not None:
        defines["BPFD_IS_FOLLOWED(a,b)"] = f"({what.condition})"
    cflags = [f"-D{name}={value}" for name, value in defines.items()]
    return {"text": text, "kind": kind, "headers": str(build.headers), "cflags": [*cflags, "-Wno-unused-function"]}


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
