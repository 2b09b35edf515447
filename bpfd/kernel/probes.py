"""Places in the kernel where a program attaches: which there are, and the file system that lists them."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from bpfd.errors import KernelError, LoadError

TRACEFS = Path("/sys/kernel/tracing")
DEBUGFS = Path("/sys/kernel/debug/tracing")
BTF = Path("/sys/kernel/btf")
USER_KINDS = ("uprobe", "uretprobe")
"""Probes in programs: at a function's begin, and at its return."""
_FORMS = {
    "tracepoint": "CATEGORY:NAME",
    "raw_tracepoint": "NAME",
    "uprobe": "PATH:SYMBOL",
    "uretprobe": "PATH:SYMBOL",
}


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


def here(probes: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Those of a tracer's `probes` that this kernel has; and why it can't be attached to them, or nothing if it can."""
    try:
        events = tracefs() / "events"
        there = {probe: _is_there(events, probe.rstrip("?")) for probe in probes}
    except KernelError as error:
        return probes, str(error)
    except OSError:  # tracefs belongs to root
        return probes, "only root can tell"
    missing = [probe for probe, is_there in there.items() if not is_there and not probe.endswith("?")]
    found = tuple(probe.rstrip("?") for probe, is_there in there.items() if is_there)
    return found, f"this kernel has no {missing[0]}" if missing else ""


def _is_there(events: Path, probe: str) -> bool:
    """Raises OSError for whoever may not look."""
    kind, _, place = probe.partition(":")
    if kind == "tracepoint":
        return (events / place.replace(":", "/", 1) / "id").exists()
    return kind in USER_KINDS or (kind == "raw_tracepoint" and _has_raw_tracepoint(place))


def available(tracer: str, probes: tuple[str, ...]) -> list[str]:
    """The event names, or symbols, of those `probes` that this kernel has. One whose name ends in `?` may be missing.

    Raises `LoadError` naming the first that is missing and may not be. Whether a program has a symbol is seen when it
    is attached (uprobes.py).
    """
    events = tracefs() / "events"
    found = []
    for probe in probes:
        name = probe.rstrip("?")
        if _is_there(events, name):
            found.append(name.rpartition(":")[2])
        elif not probe.endswith("?"):
            raise LoadError(f'tracer "{tracer}": this kernel has no {name}')
    return found


def kind_of(tracer: str, probes: tuple[str, ...]) -> str:
    """The kind of program that `probes` call: `tracepoint`, `raw_tracepoint` or `uprobe`; of the first two the first.

    Raises `LoadError` for a kind that there is not, and for functions of programs beside others.
    """
    kinds: dict[str, str] = {}
    for probe in probes:
        kind, _, place = probe.partition(":")
        if kind not in _FORMS or not place:
            forms = ", ".join(f"{one}:{form}" for one, form in _FORMS.items())
            raise LoadError(f'tracer "{tracer}": probes: "{probe}" is no probe; there are {forms}')
        kinds.setdefault("uprobe" if kind in USER_KINDS else kind, probe)
    if len(kinds) > 1 and "uprobe" in kinds:
        raise LoadError(
            f'tracer "{tracer}": probes: {" and ".join(kinds.values())} are of different kinds; '
            "make a tracer for each kind: functions of programs can't be beside what is in the kernel"
        )
    return next(iter(kinds), "tracepoint")


def are_mixed(probes: tuple[str, ...]) -> bool:
    """Are there tracepoints and raw ones among them?"""
    return {"tracepoint", "raw_tracepoint"} <= {probe.partition(":")[0] for probe in probes}


def _has_raw_tracepoint(name: str) -> bool:
    """Every tracepoint has a type of its own in the BTF of the kernel or of its module, also those without an event."""
    wanted = f"\0btf_trace_{name}\0".encode()
    return any(wanted in path.read_bytes() for path in sorted(BTF.iterdir(), key=lambda path: path.name != "vmlinux"))
