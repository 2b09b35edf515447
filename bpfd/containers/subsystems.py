"""The number of a cgroup v1 controller in the running kernel, from its BTF.

/proc/cgroups lists them in the same order, but new kernels leave out of it what is built for v2 only (see
proc_cgroupstats_show in kernel/cgroup/cgroup-v1.c). The format of BTF: Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import struct
from pathlib import Path

from bpfd.errors import KernelError

BTF = Path("/sys/kernel/btf/vmlinux")

_MAGIC = 0xEB9F
_ENUM = 6
_EXTRA_FIXED = {1: 4, 3: 12, 14: 4, 17: 4}
"""Bytes after a type's own 12, by kind: int, array, variable, declaration tag."""
_EXTRA_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
"""Bytes for each member, by kind: struct, union, enum, function prototype, data section, enum64."""


def subsystem_index(controller: str, btf: Path = BTF) -> int:
    """The value of `CONTROLLER_cgrp_id` in enum cgroup_subsys_id. Takes a tenth of a second.

    Raises `KernelError` if there is no BTF, or no such controller in it.
    """
    try:
        data = btf.read_bytes()
        found = _enumerator(data, f"{controller}_cgrp_id")
    except (OSError, struct.error) as error:
        reason = error.strerror if isinstance(error, OSError) else "not BTF"
        raise KernelError(f"{btf}: cannot be read: {reason}; run a kernel with CONFIG_DEBUG_INFO_BTF=y") from None
    if found is None:
        raise KernelError(f"{btf}: no cgroup controller {controller!r}; mount -t cgroup2 none /sys/fs/cgroup")
    return found


def _enumerator(data: bytes, name: str) -> int | None:
    magic, _, _, header, type_at, type_bytes, string_at, string_bytes = struct.unpack_from("=HBBIIIII", data)
    if magic != _MAGIC:
        raise struct.error
    strings = data[header + string_at : header + string_at + string_bytes]
    wanted = strings.find(b"\0" + name.encode() + b"\0") + 1
    if not wanted:
        return None
    at, end = header + type_at, header + type_at + type_bytes
    unpack = struct.Struct("=III").unpack_from
    while at < end:
        _, info, _ = unpack(data, at)
        at += 12
        kind, count = info >> 24 & 31, info & 0xFFFF
        if kind == _ENUM:
            for name_at, value in struct.iter_unpack("=Ii", data[at : at + 8 * count]):
                if name_at == wanted:
                    return int(value)
        at += _EXTRA_FIXED.get(kind, 0) + _EXTRA_EACH.get(kind, 0) * count
    return None
