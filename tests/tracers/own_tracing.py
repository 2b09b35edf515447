"""The kernel's own tracing, in an instance of tracefs that belongs to the test: what our events are compared with."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from bpfd.kernel import probes


class OwnTracing:
    """An instance of tracefs, with buffers of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def enable(self, *events: str) -> None:
        """Let `category:name` be traced, and forget what was before."""
        (self.place / "trace").write_text("")
        (self.place / "set_event").write_text("\n".join(events))

    def disable(self) -> None:
        (self.place / "events/enable").write_text("0")

    def lines(self) -> list[str]:
        return [
            line for line in (self.place / "trace").read_text(errors="surrogateescape").splitlines() if line[:1] != "#"
        ]

    def overrun(self) -> int:
        """How many lines were lost."""
        stats = [path.read_text() for path in (self.place / "per_cpu").glob("cpu*/stats")]
        return sum(
            int(number) for text in stats for number in re.findall(r"(?m)^(?:overrun|dropped events): (\d+)", text)
        )


@contextlib.contextmanager
def own_tracing(name: str, *, fields: bool) -> Iterator[OwnTracing]:
    """`fields`: print the record's fields as they are, and not as the event's own format has them."""
    place = probes.tracefs() / "instances" / name
    place.mkdir()
    try:
        (place / "trace_clock").write_text("boot")
        (place / "options/fields").write_text(str(int(fields)))
        (place / "buffer_size_kb").write_text("16384")
        yield OwnTracing(place)
    finally:
        (place / "events/enable").write_text("0")
        for _ in range(50):
            try:
                place.rmdir()
                break
            except OSError:
                time.sleep(0.1)
