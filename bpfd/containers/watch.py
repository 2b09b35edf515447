"""Learns of every cgroup as it comes and goes, from the kernel, so that a container of 10 ms is named right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bpfd.kernel.program import Spec
from bpfd.kernel.record import HEADER, layout
from bpfd.plugin import Field

FIELDS = (
    Field("made", "1: the cgroup was made; 0: it was removed", type="u64"),
    Field("root", "the number of its hierarchy; 0 is cgroup v2", type="s64"),
    Field("id", "what bpf_get_current_cgroup_id() says", type="u64"),
    Field("path", "its path in the hierarchy", length=4096),
)
SPEC = Spec(
    "cgroups",
    Path(__file__).with_name("watch.c"),
    FIELDS,
    ("tracepoint:cgroup:cgroup_mkdir", "tracepoint:cgroup:cgroup_rmdir"),
    256 << 10,
)
"""The program that watches; it is the daemon's own and no tracer that a rule could name."""


class Cgroups(Protocol):
    """Who is told: the container index."""

    def created(self, cgroup_id: int, path: str) -> None: ...

    def removed(self, cgroup_id: int) -> None: ...


def make_taker(cgroups: Cgroups, hierarchy_id: int) -> Callable[[list[bytes]], None]:
    """What to do with a batch of the program's records, on the event thread.

    Hierarchies other than `hierarchy_id` are skipped.
    """
    fixed = layout(FIELDS)
    skipped = [name for _, name, _ in HEADER].index("ancestors_length")

    def take(records: list[bytes]) -> None:
        for record in records:
            values = fixed.unpack_from(record)
            made, root, cgroup_id, length = values[-4:]
            if root != hierarchy_id:
                continue
            if made:
                begin = fixed.size + values[skipped]
                path = record[begin : begin + length].decode("utf-8", "surrogateescape")
                cgroups.created(cgroup_id, path)
            else:
                cgroups.removed(cgroup_id)

    return take
