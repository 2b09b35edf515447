"""Where a program or library has a function: as much of ELF as that takes (elf(5)).

The files belong to anybody, containers' among them: what is read is bounded, and what makes no sense has no function.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

MOST_TABLE = 32 << 20
"""Bytes of a symbol table; the largest programs have half of that."""
MOST_SECTIONS = 4096
MOST_PLACES = 4096
"""How often a name may lie among a table's strings, and how many libraries may."""
SYMTAB, DYNSYM, LOADABLE, FUNCTION = 2, 11, 1, 2
_LIBRARY = re.compile(rb"[\0/](lib[\w+.-]{1,64}\.so[\w.]{0,32})(?=\0)")


@dataclass(frozen=True, slots=True)
class _Class:
    """What differs between 32-bit and 64-bit files."""

    header: str
    section: str
    segment: str
    symbol: str


_CLASSES = {
    1: _Class("HHIIIIIHHHHHH", "10I", "8I", "IIIBBH"),
    2: _Class("HHIQQQIHHHHHH", "IIQQQQIIQQ", "IIQQQQQQ", "IBBHQQ"),
}


@dataclass(frozen=True, slots=True)
class Found:
    """Where a function is, and what the file needs."""

    offset: int | None
    """Bytes from the file's begin; None: the file has no such function."""
    libraries: frozenset[str]
    """Names of libraries among its dynamic strings: what it is linked with, and perhaps more."""


def find_function(fd: int, name: str, most: int = MOST_TABLE) -> Found:
    """Look for the function `name` in the ELF file open as `fd`. Takes some milliseconds; raises nothing.

    No more than `most` bytes are looked at of each table, and of each kind of table only the first: a file has one.
    """
    try:
        return _find(fd, name.encode(), most)
    except (struct.error, LookupError, ValueError, OverflowError, OSError):
        return Found(None, frozenset())


def _find(fd: int, name: bytes, most: int) -> Found:
    begin = os.pread(fd, 64, 0)
    if begin[:4] != b"\x7fELF":
        return Found(None, frozenset())
    kind, order = _CLASSES[begin[4]], {1: "<", 2: ">"}[begin[5]]
    header = struct.unpack_from(order + kind.header, begin, 16)
    segments_at, sections_at, segment_count, section_count = header[4], header[5], header[9], header[11]
    sections = list(_rows(fd, order + kind.section, sections_at, min(section_count, MOST_SECTIONS)))
    libraries: set[str] = set()
    for wanted in (SYMTAB, DYNSYM):
        section = next((one for one in sections if one[1] == wanted), None)
        if section is None:
            continue
        strings = _bytes(fd, sections[section[6]], most)
        if wanted == DYNSYM:
            libraries.update(found[1].decode() for found in islice(_LIBRARY.finditer(strings), MOST_PLACES))
        address = _address(order + kind.symbol, _bytes(fd, section, most), strings, name)
        if address is not None:
            segments = _rows(fd, order + kind.segment, segments_at, min(segment_count, MOST_SECTIONS))
            return Found(_offset(kind, segments, address), frozenset(libraries))
    return Found(None, frozenset(libraries))


def _rows(fd: int, form: str, at: int, count: int) -> Iterator[tuple[int, ...]]:
    size = struct.calcsize(form)
    return struct.iter_unpack(form, os.pread(fd, size * count, at)[: size * count])


def _bytes(fd: int, section: tuple[int, ...], most: int) -> bytes:
    return os.pread(fd, min(section[5], most), section[4])


def _address(form: str, symbols: bytes, strings: bytes, name: bytes) -> int | None:
    """The virtual address of a function that is defined. A name may lie at the end of a longer one."""
    places = {found.start() for found in islice(re.finditer(re.escape(name) + rb"\0", strings), MOST_PLACES)}
    size = struct.calcsize(form)
    narrow = form.endswith("IIIBBH")
    for symbol in struct.iter_unpack(form, symbols[: len(symbols) // size * size]):
        if symbol[0] not in places:
            continue
        value, info, section = (symbol[1], symbol[3], symbol[5]) if narrow else (symbol[4], symbol[1], symbol[3])
        if section and info & 15 == FUNCTION:
            return int(value)
    return None


def _offset(kind: _Class, segments: Iterator[tuple[int, ...]], address: int) -> int | None:
    narrow = kind is _CLASSES[1]
    for segment in segments:
        offset, begin, size = (segment[1], segment[2], segment[4]) if narrow else (segment[2], segment[3], segment[5])
        if segment[0] == LOADABLE and begin <= address < begin + size:
            return address - begin + offset
    return None
