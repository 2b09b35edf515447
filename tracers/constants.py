"""Numbers that have a name in the kernel's headers: tables of names for the kernel part, which tells events by them."""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping

from bpfd.kernel.btf import enum_names
from bpfd.plugin import TracerMap

NAME_BYTES = 48
"""BPFD_CONSTANT_BYTES in constant.h: the longest name, its closing NUL included."""


@functools.cache
def of_kernel(enum: str, prefix: str, cut: bool = False) -> Mapping[int, str]:
    """The constants of an enum of this kernel that begin with `prefix`, which may be cut off; read once.

    Raises `KernelError` if the kernel has no such enum.
    """
    names = enum_names(enum)
    return {n: name[len(prefix) if cut else 0 :] for n, name in names.items() if name.startswith(prefix)}


def fill(maps: Mapping[str, TracerMap], *kinds: Mapping[int, str]) -> None:
    """Give the program the names of each kind of numbers, in the order of its C file. For a tracer's `loaded`."""
    table = maps["bpfd_constants"]
    for kind, names in enumerate(kinds):
        for number, name in names.items():
            text = name.encode()[: NAME_BYTES - 1]
            table.write(struct.pack("=II", kind, number), text.ljust(NAME_BYTES, b"\0"))


def settle(data: dict[str, str], field: str, names: Mapping[int, str]) -> None:
    """Name what came before the table was filled. For a tracer's `settle`."""
    text = data.get(field, "")
    if text.isdigit():
        data[field] = names.get(int(text), text)
