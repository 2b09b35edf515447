"""Tracers whose events come by the clock."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from typing import ClassVar

from bpfd.plugin import Emit, Tracer


class PeriodicTracer(Tracer):
    """Calls `beat` every `period_s`, on a thread of its own, with as few beats left out as the machine allows.

    The beats keep to the schedule of the first: a late one does not delay the others. After a pause longer than a
    period (a machine that slept) what was missed is not made up for.
    """

    period_s: ClassVar[float]

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"bpfd-{self.name}", daemon=True)

    @abstractmethod
    def beat(self, number: int, emit: Emit) -> None:
        """Emit what is due now; `number` counts the beats from 1."""

    def start(self, emit: Emit) -> None:
        self._emit = emit
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        due, number = time.monotonic() + self.period_s, 0
        while not self._stopping.wait(due - time.monotonic()):
            number += 1
            self.beat(number, self._emit)
            due = max(due + self.period_s, time.monotonic())
