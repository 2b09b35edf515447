"""Enums of the running kernel, from its BTF: what its numbers are called here, later ones included.

The format is that of Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from bpfd.errors import KernelError

BTF = Path("/sys/kernel/btf/vmlinux")
MAGIC = 0xEB9F
KIND_ENUM = 6
_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
_MEMBER = struct.Struct("=Ii")


def enum_names(name: str, path: Path = BTF) -> dict[int, str]:
    """The constants of `enum name` by their numbers; of several with one number, the first. 5 ms; any thread.

    Raises `KernelError` if there is no BTF, or no such enum in it.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise KernelError(f"{path}: cannot be read: {error.strerror}") from None
    magic, _, _, header_length, type_at, type_length, text_at, text_length = _HEADER.unpack_from(blob)
    if magic != MAGIC:
        raise KernelError(f"{path}: is no BTF of this machine")
    types = blob[header_length + type_at :][:type_length]
    texts = blob[header_length + text_at :][:text_length]
    named = texts.find(f"\0{name}\0".encode()) + 1
    for at in _places(types, named) if named else ():
        _, info, size = _TYPE.unpack_from(types, at)
        if info >> 24 & 0x1F == KIND_ENUM and size == 4:
            return _members(types, texts, at + _TYPE.size, info & 0xFFFF)
    raise KernelError(f"{path}: has no enum {name}")


def _places(types: bytes, named: int) -> Iterator[int]:
    """Where a type of that name may begin: types are whole words."""
    wanted, at = struct.pack("=I", named), -1
    while (at := types.find(wanted, at + 1)) >= 0:
        if at % 4 == 0 and at + _TYPE.size <= len(types):
            yield at


def _members(types: bytes, texts: bytes, at: int, count: int) -> dict[int, str]:
    found: dict[int, str] = {}
    for name, number in _MEMBER.iter_unpack(types[at : at + count * _MEMBER.size]):
        found.setdefault(number, texts[name : texts.index(b"\0", name)].decode())
    return found
