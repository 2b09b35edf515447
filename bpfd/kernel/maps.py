"""A tracer's own BPF maps, read and written by the daemon through bpf(2)."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path

from bpfd.errors import KernelError

SYS_BPF = {"x86_64": 321, "aarch64": 280}
"""The number of bpf(2): arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h."""

MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY, OBJ_INFO = 0, 1, 2, 3, 4, 15
MAP_ARRAY = 2
WRITTEN_AT_ONCE = 1 << 20
"""Bytes of pages that are copied in one go: Python lets no other thread run meanwhile."""
F_MMAPABLE, F_INNER_MAP = 1 << 10, 1 << 12
"""Flags of BPF_MAP_CREATE (include/uapi/linux/bpf.h). F_INNER_MAP: arrays of any size fit the same outer map."""
PER_CPU = frozenset({5, 6, 10, 21})
"""Map types that hold a value a processor: PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH, PERCPU_CGROUP_STORAGE (enum
bpf_map_type, include/uapi/linux/bpf.h)."""

_libc = ctypes.CDLL(None, use_errno=True)


class MapAttr(ctypes.Structure):
    """For commands on one entry of a map."""

    _fields_ = [
        ("fd", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    ]


class _InfoAttr(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_uint32), ("length", ctypes.c_uint32), ("info", ctypes.c_uint64)]


def bpf(command: int, attributes: ctypes.Structure) -> int:
    """Call bpf(2). Raises OSError."""
    number = SYS_BPF.get(platform.machine())
    if number is None:
        raise KernelError(f"bpf(2) is not known for {platform.machine()}; bpfd runs on {', '.join(SYS_BPF)}")
    result: int = _libc.syscall(number, command, ctypes.byref(attributes), ctypes.sizeof(attributes))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def possible_cpus() -> int:
    """How many processors the kernel reckons with: how many values a per-CPU map holds."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.split(",")[-1].split("-")[-1]) + 1


class Map:
    """One map. Keys and values are bytes of the map's sizes; any thread; the Program that made it closes it."""

    def __init__(self, fd: int, name: str, kind: int, key_size: int, value_size: int, max_entries: int) -> None:
        self.fd, self.name, self.kind = fd, name, kind
        self.key_size, self.value_size, self.max_entries = key_size, value_size, max_entries
        self._cpus = possible_cpus() if kind in PER_CPU else 0

    def read(self, key: bytes) -> bytes | None:
        """The value of `key`, or None. A per-CPU map: of the first processor; see `read_all`."""
        values = self._lookup(key)
        return None if values is None else values[: self.value_size]

    def read_all(self, key: bytes) -> list[bytes]:
        """The values of `key`, one a processor; an empty list if there is none."""
        values = self._lookup(key)
        if values is None:
            return []
        step = self._stride()
        return [values[at : at + self.value_size] for at in range(0, len(values), step)]

    def write(self, key: bytes, value: bytes) -> None:
        """Set `key`, on every processor. Raises OSError, ENOSPC or E2BIG when the map is full."""
        self._check(key, self.key_size, "key")
        self._check(value, self.value_size, "value")
        if self._cpus:
            value = value.ljust(self._stride(), b"\0") * self._cpus
        self._call(
            MAP_UPDATE, ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
        )

    def delete(self, key: bytes) -> bool:
        """Remove `key`; False if it was not there."""
        self._check(key, self.key_size, "key")
        try:
            self._call(MAP_DELETE, ctypes.create_string_buffer(key, len(key)), None)
        except FileNotFoundError:
            return False
        return True

    def keys(self) -> Iterator[bytes]:
        """Every key. Keys that come and go meanwhile may be met or missed; ends after `max_entries` all the same."""
        before: ctypes.Array[ctypes.c_char] | None = None
        for _ in range(self.max_entries):
            after = ctypes.create_string_buffer(self.key_size)
            try:
                self._call(MAP_NEXT_KEY, before, after)
            except FileNotFoundError:
                return
            yield after.raw
            before = after

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for key in self.keys():
            value = self.read(key)
            if value is not None:
                yield key, value

    def _stride(self) -> int:
        """Per-CPU values lie in steps of 8 bytes (kernel/bpf/syscall.c, bpf_map_value_size)."""
        return -(-self.value_size // 8) * 8 if self._cpus else self.value_size

    def _lookup(self, key: bytes) -> bytes | None:
        self._check(key, self.key_size, "key")
        into = ctypes.create_string_buffer(self._stride() * (self._cpus or 1))
        try:
            self._call(MAP_LOOKUP, ctypes.create_string_buffer(key, len(key)), into)
        except FileNotFoundError:
            return None
        return into.raw

    def _check(self, given: bytes, size: int, what: str) -> None:
        if len(given) != size:
            raise ValueError(f"map {self.name}: a {what} has {size} bytes, not {len(given)}")

    def _call(
        self, command: int, key: ctypes.Array[ctypes.c_char] | None, value: ctypes.Array[ctypes.c_char] | None
    ) -> None:
        attributes = MapAttr(self.fd, ctypes.addressof(key) if key else 0, ctypes.addressof(value) if value else 0, 0)
        bpf(command, attributes)


class ProgramInfo(ctypes.Structure):
    """The head of struct bpf_prog_info (include/uapi/linux/bpf.h): what the kernel counts about a program."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_len", ctypes.c_uint32),
        ("xlated_len", ctypes.c_uint32),
        ("jited", ctypes.c_uint64),
        ("xlated", ctypes.c_uint64),
        ("load_time", ctypes.c_uint64),
        ("uid", ctypes.c_uint32),
        ("nr_map_ids", ctypes.c_uint32),
        ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * 16),
        ("ifindex", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("netns_dev", ctypes.c_uint64),
        ("netns_ino", ctypes.c_uint64),
        ("nr_jited_ksyms", ctypes.c_uint32),
        ("nr_jited_func_lens", ctypes.c_uint32),
        ("jited_ksyms", ctypes.c_uint64),
        ("jited_func_lens", ctypes.c_uint64),
        ("btf_id", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("func_info", ctypes.c_uint64),
        ("nr_func_info", ctypes.c_uint32),
        ("nr_line_info", ctypes.c_uint32),
        ("line_info", ctypes.c_uint64),
        ("jited_line_info", ctypes.c_uint64),
        ("nr_jited_line_info", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("jited_line_info_rec_size", ctypes.c_uint32),
        ("nr_prog_tags", ctypes.c_uint32),
        ("prog_tags", ctypes.c_uint64),
        ("run_time_ns", ctypes.c_uint64),
        ("run_cnt", ctypes.c_uint64),
        ("recursion_misses", ctypes.c_uint64),
        ("verified_insns", ctypes.c_uint32),
    ]


def program_info(fd: int) -> ProgramInfo:
    """What the kernel knows of the program `fd`.

    `run_time_ns` and `run_cnt` grow only while kernel.bpf_stats_enabled is 1.
    """
    info = ProgramInfo()
    bpf(OBJ_INFO, _InfoAttr(fd, ctypes.sizeof(info), ctypes.addressof(info)))
    return info


class CreateAttr(ctypes.Structure):
    """For BPF_MAP_CREATE."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("inner_fd", ctypes.c_uint32),
        ("numa", ctypes.c_uint32),
        ("name", ctypes.c_char * 16),
    ]


def create_pages(parts: Iterable[tuple[int, bytes | bytearray | memoryview]], pages: int, page_bytes: int) -> int:
    """A new array map of `pages` entries that holds `parts`, each at its place, written through mmap. The caller closes
    the descriptor.

    Raises OSError, ENOMEM among them.
    """
    attributes = CreateAttr(MAP_ARRAY, 4, page_bytes, pages, F_MMAPABLE | F_INNER_MAP, 0, 0, b"bpfd_pages")
    fd = bpf(MAP_CREATE, attributes)
    try:
        with mmap.mmap(fd, pages * page_bytes) as view:
            for place, part in parts:
                for at in range(0, len(part), WRITTEN_AT_ONCE):  # between them other threads have their turn
                    piece = memoryview(part)[at : at + WRITTEN_AT_ONCE]
                    view[place + at : place + at + len(piece)] = piece
    except BaseException:
        os.close(fd)
        raise
    return fd
