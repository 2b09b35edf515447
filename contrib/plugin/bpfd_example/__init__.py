"""A plugin registers what it brings with two functions; bpfd finds this module by its entry point."""

from __future__ import annotations

from bpfd import Action, BPFTracer, Tracer, hookimpl
from bpfd_example.exits import ExitsTracer
from bpfd_example.heartbeat import HeartbeatTracer
from bpfd_example.tally import TallyAction


@hookimpl
def bpfd_register_tracers() -> list[type[Tracer] | type[BPFTracer]]:
    return [ExitsTracer, HeartbeatTracer]


@hookimpl
def bpfd_register_actions() -> list[type[Action]]:
    return [TallyAction]
