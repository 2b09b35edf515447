"""A loaded program, on the daemon's side: its ring, maps, counts and probes."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpfd.errors import LoadError
from bpfd.kernel import loader, probes, source, uprobes
from bpfd.kernel.follow import Follower, followed
from bpfd.kernel.image import PAGE_BYTES
from bpfd.kernel.maps import Map, create_pages, possible_cpus, program_info
from bpfd.kernel.ring import Ring
from bpfd.plugin import Field

LOAD_TIMEOUT_S = 60.0
_TOO_SLOW = "it was not loaded in time; is the machine short of memory (150 MB) or processors?"
ANSWER_BYTES = 4 << 20
"""The most that is read of what a child says; it runs as root too, but its text comes from compilers and plugins."""
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
        for entry, fd in zip(answer["maps"], fds, strict=False):
            self.maps[entry["name"]] = Map(
                fd, entry["name"], entry["type"], entry["key_size"], entry["value_size"], entry["max_entries"]
            )
        first = len(self.maps)
        self.program_fds: dict[str, int] = dict(zip(answer["programs"], fds[first:], strict=False))
        ring = self.maps["bpfd_ring"]
        self.ring = Ring(ring.fd, ring.max_entries)
        self._counts_map = mmap.mmap(self.maps["bpfd_counts"].fd, _whole_pages(possible_cpus() * COUNTS_BYTES))
        self._counts = memoryview(self._counts_map).cast("Q")
        self.follower: Follower | None = None

    def attach(self, names: tuple[str, ...]) -> None:
        """Attach the probes that are in programs; the loader has attached the others. Raises `LoadError`, OSError."""
        self._fds += uprobes.attach_named(self.name, names, self.program_fds)
        what = followed(self.name, names)
        if what is not None:
            self.follower = Follower(self.name, what, self.maps, self.program_fds)
            self.follower.start()

    def count(self, number: int) -> int:
        """The sum over all processors of one of `struct bpfd_counts`: 0 seen, 1 passed, 2 lost, 3 to 7 the tracer's."""
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
        return sum(int(program_info(fd).recursion_misses) for fd in self.program_fds.values())

    def own_count(self, number: int) -> int:
        """What the program counted itself with `bpfd_count(number)`."""
        return self.count(3 + number)

    def judge_by(self, pages: list[bytes]) -> None:
        """Put a set of rules, laid out by image.py, in force for every event from now on. Raises OSError.

        Returns when no probe is at work with the set before (kernel/bpf/syscall.c, maybe_wait_bpf_programs).
        """
        fd = create_pages(pages, PAGE_BYTES)
        try:
            self.maps["bpfd_rules"].write(FIRST, struct.pack("=I", fd))
        finally:
            os.close(fd)

    def protect(self, device: int, number: int) -> None:
        """Never send a signal to what runs the file `number` on `device` (as the kernel counts devices), or, with
        device 0, to the process `number`. Raises OSError when the table is full (1,024).
        """
        self.maps["bpfd_protected"].write(struct.pack("=QQ", device, number), struct.pack("=I", 1))

    def set_scope(self, cgroup: int, scope: int) -> None:
        """Say which runtime a cgroup belongs to, by image.py's number. A full table only means that Python judges."""
        with contextlib.suppress(OSError):
            self.maps["bpfd_scope"].write(struct.pack("=Q", cgroup), struct.pack("=I", scope))

    def forget_scope(self, cgroup: int) -> None:
        self.maps["bpfd_scope"].delete(struct.pack("=Q", cgroup))

    def run_time(self) -> tuple[int, int]:
        """Nanoseconds in the kernel and calls, over all of its probes, while kernel.bpf_stats_enabled is 1."""
        infos = [program_info(fd) for fd in self.program_fds.values()]
        return sum(int(info.run_time_ns) for info in infos), sum(int(info.run_cnt) for info in infos)

    def close(self) -> None:
        """Detach and give everything back. The thread that reads the ring must have let go of it."""
        if self.follower is not None:
            self.follower.stop()
        self.ring.close()
        self._counts.release()
        self._counts_map.close()
        close_all(self._fds)
        self._fds = []


def load(spec: Spec, build: Build) -> Program:
    """Compile, load and attach `spec` in a child, and take over its descriptors.

    Blocks for half a second or more; any thread.

    Raises `LoadError` with the tracer's name and all that the compiler or verifier said.
    """
    job = _job(spec, build)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen(
            [sys.executable, "-I", loader.__file__, str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        theirs.close()
        started = time.monotonic()
        try:
            said, answer, fds = _converse(child, ours, json.dumps(job).encode() + b"\n")
        finally:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()
    if answer is None:
        close_all(fds)
        late = time.monotonic() - started >= LOAD_TIMEOUT_S
        raise LoadError(f'tracer "{spec.name}": {_TOO_SLOW if late else _cause(said, child.returncode)}')
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


def _job(spec: Spec, build: Build) -> dict[str, Any]:
    kind = probes.kind_of(spec.name, spec.probes)
    has = probes.available(spec.name, spec.probes)
    what = followed(spec.name, spec.probes)
    text = source.program_text(spec.program, spec.fields)
    defines: dict[str, object] = {
        "BPFD_SELF": build.self_pid,
        "BPFD_CPUS": possible_cpus(),
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


def _converse(child: subprocess.Popen[bytes], peer: socket.socket, job: bytes) -> tuple[bytes, Any, list[int]]:
    """Send the job; gather what the child prints, and its answer with the descriptors, until both streams end."""
    peer.settimeout(LOAD_TIMEOUT_S)
    with contextlib.suppress(OSError):
        peer.sendall(job)
    said, replied, fds = bytearray(), bytearray(), list[int]()
    deadline = time.monotonic() + LOAD_TIMEOUT_S
    assert child.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ, said)
        selector.register(peer, selectors.EVENT_READ, replied)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(deadline - time.monotonic()):
                if key.fileobj is peer:
                    part, received = _receive(peer)
                    fds += received
                else:
                    part = os.read(key.fd, 65536)
                if not part:
                    selector.unregister(key.fileobj)
                elif len(key.data) < ANSWER_BYTES:
                    key.data.extend(part)
    line, newline, _ = bytes(replied).partition(b"\n")
    answer = json.loads(line) if newline else None
    if answer is not None and len(fds) != len(answer["maps"]) + len(answer["programs"]) + answer["links"]:
        answer = None
    return bytes(said), answer, fds


def _receive(peer: socket.socket) -> tuple[bytes, list[int]]:
    try:
        part, fds, _, _ = socket.recv_fds(peer, 65536, loader.FDS_A_MESSAGE, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return b"", []
    return part, fds


def _cause(said: bytes, status: int | None) -> str:
    """What matters of a failed load: the compiler's errors or the verifier's last words, without Python's traceback."""
    text = said.decode(errors="replace").strip()
    before, _, traceback = text.partition("Traceback (most recent call last):")
    last = traceback.strip().split("\n")[-1]
    parts = [part for part in (_last_lines(before.strip()), last) if part]
    if not parts:
        return f"the loader ended with status {status} and said nothing; is there memory enough (150 MB)?"
    return "\n".join(parts)


def _last_lines(text: str, most: int = 40) -> str:
    """The verifier's log ends with what it refused; before that it may have thousands of lines."""
    lines = (
        [line for line in text.split("\n") if not re.match(r"(; |\d+: \(|\s*$)", line)]
        if len(text) > 20000
        else text.split("\n")
    )
    if len(lines) <= most:
        return "\n".join(lines)
    return f"({len(lines) - most} lines left out)\n" + "\n".join(lines[-most:])


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def close_all(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
