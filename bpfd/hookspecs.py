"""The two hooks of a plugin. Only registration goes through pluggy; events never do."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from bpfd.plugin import Action, BPFTracer, Tracer, TracerFamily

hookspec = pluggy.HookspecMarker("bpfd")
hookimpl = pluggy.HookimplMarker("bpfd")


@hookspec
def bpfd_register_tracers() -> Iterable[type[Tracer] | type[BPFTracer] | type[TracerFamily]]:
    """Return the plugin's tracer classes, and families of tracers."""
    raise NotImplementedError


@hookspec
def bpfd_register_actions() -> Iterable[type[Action]]:
    """Return the plugin's action classes."""
    raise NotImplementedError
