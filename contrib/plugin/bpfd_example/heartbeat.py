"""Events by the clock: a tracer needs no BPF."""

from __future__ import annotations

import threading

from bpfd import Emit, Field, Tracer

PERIOD_S = 0.5


class HeartbeatTracer(Tracer):
    """A beat twice a second, for trying things out."""

    name = "heartbeat"
    fields = (Field("beat", "how many there have been", type="u64", example="7"),)

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self, emit: Emit) -> None:
        self._emit = emit
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        beat = 0
        while not self._stopping.wait(PERIOD_S):
            beat += 1
            self._emit({"beat": str(beat)})
