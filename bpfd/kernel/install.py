"""Puts a compiled program into the kernel: its maps, its functions, its probes, by bpf(2) alone, without bcc."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Mapping
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
STEPS_MAP = "bpfd_steps"
PSEUDO_MAP = 1
"""BPF_PSEUDO_MAP_FD: the instruction loads a map's address."""
LOAD_64, CALL = 0x18, 0x85
LOG_BYTES, LOG_LINES = 1 << 20, 20
"""Room for what the verifier says, and how much of its end is kept."""
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

    Raises `CannotInstallError`, and OSError for what the kernel refuses, with the verifier's last words as a note; then
    nothing is left behind.
    """
    fds: list[int] = []
    more: list[int] = []
    try:
        maps = _make_maps(compiled.maps, fds)
        chains = _make_chains(compiled, kind, maps)
        more = list(chains.values())[1:]
        functions: dict[str, int] = {}
        for name, code, type_ in _programs(compiled, kind, chains):
            used = [chains.get(type_, fd) if of == STEPS_MAP else fd for of, fd in maps.items()]
            functions[name] = _load(name.partition("@")[0], _finished(code, used, self_pid), type_)
            fds.append(functions[name])
        for type_, chain in chains.items():
            for number, step in reversed(list(enumerate(STEPS))):
                if (fd := functions.get(_step_name(step.decode(), type_, kind))) is not None:
                    _put(chain, number, fd)
        before = len(fds)
        fds += more
        more = []
        for name, fd in functions.items():
            fds += _attach(name, fd)
    except BaseException:
        close_all(more)
        close_all(fds)
        raise
    described = [
        {key: getattr(one, key) for key in ("name", "type", "key_size", "value_size", "max_entries")}
        for one in compiled.maps
    ]
    return {"maps": described, "programs": list(functions), "links": len(fds) - before}, fds


def _make_chains(compiled: Compiled, kind: str, maps: Mapping[str, int]) -> dict[int, int]:
    """For each type of program that goes on by tail calls, the map of its steps. The first is of the tracer's kind, and
    among `maps`; others are new: programs of a chain must be of one type (bpf_prog_map_compatible, kernel/bpf/core.c).
    """
    if STEPS_MAP not in maps:
        return {}
    place = list(maps).index(STEPS_MAP)
    chains = {TYPES[kind]: maps[STEPS_MAP]}
    try:
        for name, code in compiled.functions.items():
            type_ = TYPES.get(name.partition("__")[0], TYPES[kind])
            if name.encode() not in STEPS and type_ not in chains and place in _maps_of(code):
                chains[type_] = _make_map(compiled.maps[place], 0)
    except BaseException:
        close_all(list(chains.values())[1:])
        raise
    return chains


def _programs(compiled: Compiled, kind: str, chains: Mapping[int, int]) -> Iterator[tuple[str, bytes, int]]:
    """What is to be loaded: names, instructions, types. A step is there once for each chain."""
    for name, code in compiled.functions.items():
        prefix = name.partition("__")[0]
        if name.encode() in STEPS:
            for type_ in chains:
                yield _step_name(name, type_, kind), code, type_
        elif prefix in TYPES:
            yield name, code, TYPES[prefix]
        else:
            raise CannotInstallError(f"{name} is no function that is called by a probe known here")


def _step_name(step: str, type_: int, kind: str) -> str:
    return step if type_ == TYPES[kind] else f"{step}@{type_}"


def _maps_of(code: bytes) -> set[int]:
    """The places of the maps that a function uses."""
    return {
        struct.unpack_from("=i", code, at + 4)[0]
        for at in range(0, len(code), 8)
        if code[at] == LOAD_64 and code[at + 1] >> 4 == PSEUDO_MAP
    }


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
        except OSError:
            break
    log = ctypes.create_string_buffer(LOG_BYTES)
    attributes.log_level, attributes.log_size, attributes.log = 1, LOG_BYTES, ctypes.addressof(log)
    try:
        return bpf(PROG_LOAD, attributes)
    except OSError as error:
        error.add_note(f"{name}: " + "\n".join(log.value.decode(errors="replace").strip().split("\n")[-LOG_LINES:]))
        raise


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
