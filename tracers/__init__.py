"""The built-in tracers. They register as anybody's do."""

from __future__ import annotations

from bpfd.hookspecs import hookimpl
from bpfd.plugin import AnyTracer
from bpfd.tracers.chargen import ChargenTracer
from bpfd.tracers.exec import ExecTracer
from bpfd.tracers.open import OpenTracer
from bpfd.tracers.ticker import TickerTracer


@hookimpl
def bpfd_register_tracers() -> list[type[AnyTracer]]:
    return [
        ChargenTracer,
        ExecTracer,
        OpenTracer,
        TickerTracer,
    ]
