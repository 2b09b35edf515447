"""How long the daemon takes until it is ready with a rule for every named tracer."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bpfd import tracers
from bpfd.plugin import TracerFamily
from bpfd.tracing import probes_here
from tests.bench.daemon_cost import running
from tests.bench.table import Table

NEVER = 'tracer = "{}"\n[filterEvents.command]\nis = ["nothing-so-named"]\n'
GOAL_S = 6.0
TIMES = 3
TICKS = os.sysconf("SC_CLK_TCK")


class Start(NamedTuple):
    """What one start took, in seconds."""

    ready: float
    processors: float
    """The time of processors that the daemon, and the children that ended by then, used."""


def named() -> list[str]:
    """The named tracers that can be loaded on this machine."""
    found = [one for one in tracers.bpfd_register_tracers() if not issubclass(one, TracerFamily)]
    return sorted(one.name for one in found if not probes_here(one)[1])


def start(cache: Path, rules: dict[str, str]) -> Start:
    began = time.monotonic()
    with running(cache, rules) as daemon:
        ready = time.monotonic() - began
        fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
        lost = [one["name"] for one in daemon.json("status")["tracers"] if one["state"] == "failed"]
    assert not lost, lost
    return Start(ready, sum(map(int, fields[11:15])) / TICKS)


def measure(table: Table) -> None:
    names = named()
    table.section(f"Start to ready with a rule for each of {len(names)} tracers")
    rules = {f"never-{name}": NEVER.format(name) for name in names}
    colds, warms = [], []
    for _ in range(TIMES):
        with tempfile.TemporaryDirectory(prefix="bpfd-bench-") as cache:
            colds.append(start(Path(cache), rules))
            warms.append(start(Path(cache), rules))
    for what, starts in (("nothing compiled yet", colds), ("compiled before", warms)):
        ready = statistics.median(one.ready for one in starts)
        processors = statistics.median(one.processors for one in starts)
        goal = f"< {GOAL_S:.0f} s"
        table.row(what, f"{ready:.1f} s, {processors:.1f} s of processors", goal, ready < GOAL_S)
