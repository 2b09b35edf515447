"""Places in the kernel where a program attaches: which there are, and the file system that lists them."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from bpfd.errors import KernelError, LoadError

TRACEFS = Path("/sys/kernel/tracing")
DEBUGFS = Path("/sys/kernel/debug/tracing")


def tracefs() -> Path:
    """Where tracefs is mounted; mounts it if it is not. Raises `KernelError` if that is not allowed."""
    for path in (TRACEFS, DEBUGFS):
        if (path / "events").is_dir():
            return path
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tracefs", str(TRACEFS).encode(), b"tracefs", 0, None):
        reason = os.strerror(ctypes.get_errno())
        raise KernelError(
            f"{TRACEFS}: tracefs is not mounted, and cannot be: {reason}; run: mount -t tracefs none {TRACEFS}"
        )
    return TRACEFS


def available(tracer: str, probes: tuple[str, ...]) -> list[str]:
    """The event names of those `probes` that this kernel has. A probe whose name ends in `?` may be missing.

    Raises `LoadError` naming the first that is missing and may not be.
    """
    events = tracefs() / "events"
    found = []
    for probe in probes:
        name = probe.rstrip("?")
        kind, _, place = name.partition(":")
        if kind != "tracepoint":
            continue
        category, _, event = place.partition(":")
        if (events / category / event / "id").exists():
            found.append(event)
        elif not probe.endswith("?"):
            raise LoadError(f'tracer "{tracer}": this kernel has no {name}')
    return found
