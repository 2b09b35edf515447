"""What it costs to follow the lives of containers: memory for each, and the processor while nothing happens."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from bpfd.containers.cgroups import find_hierarchy
from bpfd.containers.index import ContainerIndex
from bpfd.containers.life_watch import LifeWatch
from bpfd.containers.shown import Places
from bpfd.plugin import ContainerChange
from tests.bench.table import Table

CONTAINERS = 1000
REST_S = 8.0
MADE_S = 60.0
PAGE = 4096


def measure(table: Table) -> None:
    here = Places.here()
    modes = {"cgroup v2": Places(here.v2, None, None)} if here.v2 else {}
    if here.has_silent():
        modes["this machine, which has v1 too"] = here
    for mode, places in modes.items():
        table.section(f"The tracer container, with {CONTAINERS:,} of them ({mode})")
        made_us, bytes_each, resting = _follow(places)
        table.row("processor for one that is made", f"{made_us:.0f} us")
        table.row("memory for each", f"{bytes_each / 1024:.1f} KiB")
        table.row("of a processor, while nothing happens", f"{resting * 100:.2f} %")


def _follow(places: Places) -> tuple[float, float, float]:
    """Microseconds and bytes for a container, and the share of a processor afterwards."""
    index, changes = ContainerIndex(find_hierarchy()), list[ContainerChange]()
    watch = LifeWatch(index, places)
    index.on_cgroup, index.on_gone = watch.cgroup_came, watch.cgroup_went
    watch.follow(changes.append)
    try:
        with _cgroups(places) as names:
            memory, began_s = _resident(), time.process_time()
            mount = find_hierarchy().mount
            for name in names:
                index.created((mount / name).stat().st_ino, f"/{name}")
            deadline = time.monotonic() + MADE_S
            while len(changes) < len(names) and time.monotonic() < deadline:
                time.sleep(0.01)
            made_us = (time.process_time() - began_s) / len(names) * 1e6
            bytes_each = (_resident() - memory) / len(names)
            before_s, wall = time.process_time(), time.monotonic()
            time.sleep(REST_S)
            return made_us, bytes_each, (time.process_time() - before_s) / (time.monotonic() - wall)
    finally:
        watch.unfollow(changes.append)
        watch.close()
        index.close()


@contextlib.contextmanager
def _cgroups(places: Places) -> Iterator[list[str]]:
    """Cgroups as cri-o makes them, in each hierarchy; removed at the end."""
    above = f"bpfd-bench-{secrets.token_hex(8)}"
    mounts = [Path(place[0]) for place in (places.v2, places.freezer, places.memory) if place]
    names = [f"{above}/crio-{secrets.token_hex(32)}.scope" for _ in range(CONTAINERS)]
    try:
        for mount in mounts:
            for name in names:
                (mount / name).mkdir(parents=True)
        yield names
    finally:
        for mount in mounts:
            for name in [*names, above]:
                with contextlib.suppress(FileNotFoundError):
                    (mount / name).rmdir()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
