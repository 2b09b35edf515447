"""Calls for the bench: of processes, of names of files, and of what takes privileges."""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bpfd.plugin import BPFTracer
from bpfd.tracers.bpf import BpfTracer
from bpfd.tracers.iouring import IouringTracer
from bpfd.tracers.mkdir import MkdirTracer
from bpfd.tracers.module import ModuleTracer
from bpfd.tracers.mount import MountTracer
from bpfd.tracers.process import ProcessTracer
from bpfd.tracers.ptrace import PtraceTracer
from bpfd.tracers.rename import RenameTracer
from bpfd.tracers.setns import SetnsTracer
from bpfd.tracers.setuid import SetuidTracer
from bpfd.tracers.syslog import SyslogTracer
from bpfd.tracers.unlink import UnlinkTracer
from tests.tracers.ring import Ring

CALLS = 500
SYS_BPF, SYS_DELETE_MODULE = 321, 176  # x86-64
BPF_MAP_LOOKUP_ELEM, STATX, AT_FDCWD = 1, 21, -100
PTRACE_SEIZE = 0x4206
libc = ctypes.CDLL(None, use_errno=True)


def _in_a_directory(act: Callable[[str], object]) -> int:
    """`act` so many times, each with a name of its own that is not there before."""
    with tempfile.TemporaryDirectory(prefix="bpfd-bench-") as directory:
        for number in range(CALLS):
            act(f"{directory}/{number}")
    return CALLS


def renames() -> int:
    with tempfile.TemporaryDirectory(prefix="bpfd-bench-") as directory:
        name = f"{directory}/file"
        Path(name).touch()
        for number in range(CALLS):
            os.rename(name, f"{directory}/{number}")
            name = f"{directory}/{number}"
    return CALLS


def unlinks() -> int:
    for _ in range(CALLS):
        with suppress(FileNotFoundError):
            os.unlink("/no-such-file")
    return CALLS


def mkdirs() -> int:
    return _in_a_directory(os.mkdir)


def forks() -> int:
    for _ in range(200):
        if not os.fork():
            os._exit(0)
        os.wait()
    return 200


def namespaces() -> int:
    own = os.open("/proc/self/ns/uts", os.O_RDONLY)
    try:
        for _ in range(CALLS):
            libc.setns(own, 0)
    finally:
        os.close(own)
    return CALLS


def looks() -> int:
    for _ in range(CALLS):
        libc.ptrace(PTRACE_SEIZE, os.getpid(), None, None)  # nobody may seize himself
    return CALLS


def users() -> int:
    for _ in range(CALLS):
        os.setresuid(-1, -1, -1)
    return CALLS


def mounts() -> int:
    for _ in range(CALLS):
        libc.mount(b"none", b"/no-such-directory", b"tmpfs", 0, None)
    return CALLS


def maps() -> int:
    given = ctypes.create_string_buffer(32)  # a look-up in the map of descriptor 0, which is none
    for _ in range(CALLS):
        libc.syscall(SYS_BPF, BPF_MAP_LOOKUP_ELEM, given, len(given))
    return CALLS


def requests() -> int:
    with Ring() as ring:
        for _ in range(CALLS):
            ring.do(STATX, AT_FDCWD, b"/no-such-file", 0x7FF, bytes(256))
    return CALLS


def writes() -> int:
    """To a file, as what is written mostly goes: what each such call pays while messages to the log are looked for."""
    with open("/dev/null", "wb", buffering=0) as file:
        for _ in range(CALLS):
            file.write(b"x")
    return CALLS


def modules() -> int:
    for _ in range(CALLS):
        libc.syscall(SYS_DELETE_MODULE, b"no_such_module", 0)
    return CALLS


CALL_LOADS: tuple[tuple[type[BPFTracer], Callable[[], int]], ...] = (
    (RenameTracer, renames),
    (UnlinkTracer, unlinks),
    (MkdirTracer, mkdirs),
    (ProcessTracer, forks),
    (SetnsTracer, namespaces),
    (PtraceTracer, looks),
    (SetuidTracer, users),
    (MountTracer, mounts),
    (BpfTracer, maps),
    (IouringTracer, requests),
    (SyslogTracer, writes),
    (ModuleTracer, modules),
)
"""Each tracer with calls that it traces; `module` counts those of the whole machine on a kernel without modules."""
