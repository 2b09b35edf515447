"""Attaches a loaded program by perf_event_open(2), without bcc."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
from pathlib import Path

SYS_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
FD_CLOEXEC = 8
SET_BPF, ENABLE = 0x40042408, 0x2400
"""PERF_EVENT_IOC_SET_BPF and _ENABLE (include/uapi/linux/perf_event.h)."""
TYPE_TRACEPOINT = 2
ATTRIBUTES_BYTES = 112
"""How much of struct perf_event_attr is given: PERF_ATTR_SIZE_VER5."""

_libc = ctypes.CDLL(None, use_errno=True)


def attach(program_fd: int, attributes: bytes) -> int:
    """Have the program run for the event that `attributes` (struct perf_event_attr) name, whatever the processor.

    Returns the descriptor that keeps it attached. Raises OSError.
    """
    number = SYS_PERF_EVENT_OPEN[platform.machine()]
    fd = int(_libc.syscall(number, ctypes.c_char_p(attributes), -1, 0, -1, ctypes.c_ulong(FD_CLOEXEC)))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    try:
        fcntl.ioctl(fd, SET_BPF, program_fd)
        fcntl.ioctl(fd, ENABLE, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def attach_tracepoint(program_fd: int, id_file: Path) -> int:
    """Have the program run for the trace event whose number `id_file` tells. Raises OSError."""
    event = int(id_file.read_text())
    # type, size, config; no samples are taken, which the kernel forbids of irq_work_exit (asm/trace/irq_vectors.h)
    return attach(program_fd, struct.pack("=IIQ96x", TYPE_TRACEPOINT, ATTRIBUTES_BYTES, event))
