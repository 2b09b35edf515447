"""Puts a compiled program into the kernel: its maps, its functions, its probes, by bpf(2) alone, without bcc."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

from bpfd.kernel import perf, probes
from bpfd.kernel.child import close_all
from bpfd.kernel.compiled import SELF, Compiled, MapSpec
from bpfd.kernel.loader import STEPS
from bpfd.kernel.maps import MAP_CREATE, MAP_UPDATE, CreateAttr, MapAttr, bpf

PROG_LOAD, RAW_TRACEPOINT_OPEN = 5, 17
KPROBE, TRACEPOINT, RAW_TRACEPOINT = 2, 5, 17
"""enum bpf_prog_type (include/uapi/linux/bpf.h)"""
TYPES = {"tracepoint": TRACEPOINT, "raw_tracepoint": RAW_TRACEPOINT, "uprobe": KPROBE, "uretprobe": KPROBE}
PLAIN_MAPS = frozenset((1, 2, 3, 5, 6, 7, 9, 10, 11, 27))
"""Hashes, arrays, arrays of programs, stack traces, tries and rings: what needs nothing but its sizes to be made."""
ARRAY_OF_MAPS = 12
INNER = {"bpfd_rules": "bpfd_pages"}
"""What an array of maps holds, told by a map of that kind."""
PSEUDO_MAP = 1
"""BPF_PSEUDO_MAP_FD: the instruction loads a map's address."""
LOAD_64, CALL = 0x18, 0x85
TRIES = 5
"""The verifier gives up with EAGAIN when a signal comes."""
LICENSE = b"Dual MIT/GPL"
_NOBODY = -1


class CannotInstallError(Exception):
    """The program needs something that only bcc can do."""


class _ProgAttr(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("code", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log", ctypes.c_uint64),
        ("kernel_version", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("name", ctypes.c_char * 16),
    ]


class _RawAttr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_uint64), ("fd", ctypes.c_uint32)]


def install(compiled: Compiled, kind: str, self_pid: int) -> tuple[dict[str, Any], list[int]]:
    """Make the maps, load the functions, fill the steps, attach the probes: what `loader.load` answers, and the
    descriptors in that order. Probes in programs are attached by others.

    Raises `CannotInstallError`, and OSError for what the kernel refuses; then nothing is left behind.
    """
    fds: list[int] = []
    try:
        maps = _make_maps(compiled.maps, fds)
        functions: dict[str, int] = {}
        for name, code in compiled.functions.items():
            prefix = name.partition("__")[0]
            if name.encode() not in STEPS and prefix not in TYPES:
                raise CannotInstallError(f"{name} is no function that is called by a probe known here")
            type_ = TYPES.get(prefix) or TYPES[kind]
            functions[name] = _load(name, _finished(code, list(maps.values()), self_pid), type_)
            fds.append(functions[name])
        for number, step in reversed(list(enumerate(STEPS))):
            if (fd := functions.get(step.decode())) is not None:
                _put(maps["bpfd_steps"], number, fd)
        before = len(fds)
        for name, fd in functions.items():
            fds += _attach(name, fd)
    except BaseException:
        close_all(fds)
        raise
    described = [
        {key: getattr(one, key) for key in ("name", "type", "key_size", "value_size", "max_entries")}
        for one in compiled.maps
    ]
    return {"maps": described, "programs": list(functions), "links": len(fds) - before}, fds


def _make_maps(specs: tuple[MapSpec, ...], fds: list[int]) -> dict[str, int]:
    """The maps by name, in the order of `specs`, which `fds` gets too."""
    made: dict[str, int] = {}
    for spec in sorted(specs, key=lambda one: one.type == ARRAY_OF_MAPS):
        inner = 0
        if spec.type == ARRAY_OF_MAPS:
            inner = made.get(INNER.get(spec.name, ""), 0)
        if not inner and spec.type not in PLAIN_MAPS:
            close_all(made.values())
            raise CannotInstallError(f"map {spec.name} is of a kind that is not known here: {spec.type}")
        try:
            made[spec.name] = _make_map(spec, inner)
        except BaseException:
            close_all(made.values())
            raise
    ordered = {spec.name: made[spec.name] for spec in specs}
    fds += ordered.values()
    return ordered


def _make_map(spec: MapSpec, inner: int) -> int:
    sizes = (spec.type, spec.key_size, spec.value_size, spec.max_entries, spec.flags)
    return bpf(MAP_CREATE, CreateAttr(*sizes, inner, 0, spec.name.encode()[:15]))


def _finished(code: bytes, maps: list[int], self_pid: int) -> bytes:
    """The instructions with the maps' descriptors, and the process whose own events are left out."""
    done = bytearray(code)
    for at in range(0, len(done), 8):
        (immediate,) = struct.unpack_from("=i", done, at + 4)
        opcode, source = done[at], done[at + 1] >> 4
        if opcode == LOAD_64 and source == PSEUDO_MAP:
            struct.pack_into("=i", done, at + 4, maps[immediate])
        elif (opcode == LOAD_64 and source) or (opcode == CALL and source):
            raise CannotInstallError("an instruction refers to what is not known here")
        elif immediate == SELF:
            struct.pack_into("=i", done, at + 4, self_pid or _NOBODY)
    return bytes(done)


def _load(name: str, code: bytes, type_: int) -> int:
    text, license_ = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(LICENSE)
    attributes = _ProgAttr(type_, len(code) // 8, ctypes.addressof(text), ctypes.addressof(license_))
    attributes.name = name.encode()[:15]
    for _ in range(TRIES - 1):
        try:
            return bpf(PROG_LOAD, attributes)
        except BlockingIOError:
            continue
    return bpf(PROG_LOAD, attributes)


def _put(table: int, number: int, fd: int) -> None:
    key, value = ctypes.c_uint32(number), ctypes.c_uint32(fd)
    bpf(MAP_UPDATE, MapAttr(table, ctypes.addressof(key), ctypes.addressof(value), 0))


def _attach(name: str, fd: int) -> list[int]:
    """Attach a function to the place that its name says: `tracepoint__CATEGORY__NAME`, `raw_tracepoint__NAME`."""
    kind, _, place = name.partition("__")
    if kind == "tracepoint":
        return [perf.attach_tracepoint(fd, probes.tracefs() / "events" / place.replace("__", "/") / "id")]
    if kind == "raw_tracepoint":
        text = ctypes.create_string_buffer(place.encode())
        return [bpf(RAW_TRACEPOINT_OPEN, _RawAttr(ctypes.addressof(text), fd))]
    return []
