"""Attaches a loaded program to a function in a program's or library's file, for every process that runs it.

By perf_event_open(2), without bcc. The kernel keeps a reference to the file, and to its mount, until the descriptor is
closed (create_local_trace_uprobe, kernel/trace/trace_uprobe.c).
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from bpfd.errors import LoadError
from bpfd.kernel import perf
from bpfd.kernel.elf import find_function
from bpfd.kernel.probes import USER_KINDS

PMU = Path("/sys/bus/event_source/devices/uprobe")


def attach(program_fd: int, file_fd: int, offset: int, at_return: bool) -> int:
    """Have the program run whenever any process comes to `offset` of the file open as `file_fd`, or returns from there.

    Returns the descriptor that keeps it attached. Raises OSError.
    """
    path = ctypes.create_string_buffer(f"/proc/self/fd/{file_fd}".encode())
    kind, is_return = int((PMU / "type").read_text()), 1 if at_return else 0
    attributes = struct.pack("=IIQ40xQQ40x", kind, perf.ATTRIBUTES_BYTES, is_return, ctypes.addressof(path), offset)
    return perf.attach(program_fd, attributes)


def function_of(probe: str) -> str:
    """The name of the C function that `uprobe:PATH:SYMBOL` calls: `uprobe__SYMBOL`."""
    return f"{probe.partition(':')[0]}__{probe.rstrip('?').rpartition(':')[2]}"


def attach_named(tracer: str, probes: tuple[str, ...], program_fds: dict[str, int]) -> list[int]:
    """Attach each of `probes` that is a `uprobe:/PATH:SYMBOL` or a `uretprobe:…`; their descriptors.

    Raises `LoadError` naming the file or symbol that is missing, unless the probe ends in `?`; then none is attached.
    """
    fds: list[int] = []
    try:
        for probe in probes:
            kind, _, place = probe.rstrip("?").partition(":")
            path, _, symbol = place.rpartition(":")
            if kind not in USER_KINDS or not path.startswith("/"):
                continue
            problem = _attach_one(fds, path, symbol, program_fds.get(function_of(probe)), kind == "uretprobe")
            if problem and not probe.endswith("?"):
                raise LoadError(f'tracer "{tracer}": {probe}: {problem}')
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return fds


def _attach_one(fds: list[int], path: str, symbol: str, program_fd: int | None, at_return: bool) -> str:
    """The problem, or nothing."""
    if program_fd is None:
        return f"the program has no function {'uretprobe' if at_return else 'uprobe'}__{symbol}"
    try:
        file_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            offset = find_function(file_fd, symbol).offset
            if offset is None:
                return f'"{path}" has no function "{symbol}"'
            fds.append(attach(program_fd, file_fd, offset, at_return))
        finally:
            os.close(file_fd)
    except OSError as error:
        return f"cannot be attached: {error.strerror}"
    return ""
