"""A thousand lines a second, for trying things out under load."""

from __future__ import annotations

from bpfd.plugin import Emit, Field
from bpfd.tracers.periodic import PeriodicTracer

PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
WIDTH = 72
BURST = 10


class ChargenTracer(PeriodicTracer):
    """A thousand lines a second of a rotating pattern, for trying things out under load: no BPF, no root.

    The pattern is that of RFC 864: 72 of the 95 printable characters of ASCII, in each line one further. What finds the
    queue full is lost and counted (`events.queue_full`), and its `number` is missing.
    """

    name = "chargen"
    period_s = BURST / 1000
    fields = (
        Field("line", "72 characters", length=WIDTH + 1, example=PRINTABLE[1:WIDTH]),
        Field("number", "counts the lines from 1", type="u64", example="4711"),
    )

    def beat(self, number: int, emit: Emit) -> None:
        for line in range((number - 1) * BURST, number * BURST):
            emit({"line": pattern(line), "number": str(line + 1)})


def pattern(line: int) -> str:
    """The text of a line, counted from 0."""
    begin = line % len(PRINTABLE)
    return (PRINTABLE * 2)[begin : begin + WIDTH]
