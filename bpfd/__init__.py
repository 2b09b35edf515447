"""What a plugin author imports."""

from bpfd.event import Container, Event
from bpfd.hookspecs import hookimpl
from bpfd.plugin import Action, BPFTracer, ContainerChange, Emit, Field, Flags, Named, Spelled, Tracer, TracerFamily

__all__ = [
    "Action",
    "BPFTracer",
    "Container",
    "ContainerChange",
    "Emit",
    "Event",
    "Field",
    "Flags",
    "Named",
    "Spelled",
    "Tracer",
    "TracerFamily",
    "hookimpl",
]
