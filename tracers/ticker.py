"""An event a second, for trying things out."""

from __future__ import annotations

from bpfd.plugin import Emit, Field
from bpfd.tracers.periodic import PeriodicTracer


class TickerTracer(PeriodicTracer):
    """An event a second, for trying things out: no BPF, no root.

    It belongs to no process: the pid is 0, the container none.
    """

    name = "ticker"
    period_s = 1.0
    fields = (Field("tick", "how many there have been since the tracer was loaded", type="u64", example="7"),)

    def beat(self, number: int, emit: Emit) -> None:
        emit({"tick": str(number)})
