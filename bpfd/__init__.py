"""What a plugin author imports."""

from bpfd.event import Container, Event
from bpfd.hookspecs import hookimpl
from bpfd.plugin import Action, BPFTracer, Emit, Field, Flags, Named, Tracer, TracerFamily

__all__ = [
    "Action",
    "BPFTracer",
    "Container",
    "Emit",
    "Event",
    "Field",
    "Flags",
    "Named",
    "Tracer",
    "TracerFamily",
    "hookimpl",
]
