"""What is installed, for commands that can do without a daemon."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from bpfd.cli.daemon_client import connect
from bpfd.errors import ApiError, BpfdError
from bpfd.event import printable

if TYPE_CHECKING:
    from bpfd.api.client import Client
    from bpfd.catalogue import Catalogue
    from bpfd.control import ActionStatus, TracerStatus
    from bpfd.plugin import AnyTracer
    from bpfd.plugins import Plugins


def connect_if_running(args: argparse.Namespace) -> Client | None:
    """A client, or None if no daemon can be reached at the default address. Raises ApiError if an address was given."""
    try:
        return connect(args)
    except ApiError:
        if args.grpc_addr is not None:
            raise
        print("bpfd: no daemon can be reached; this is what is installed", file=sys.stderr)
        return None


def catalogue() -> Catalogue:
    """Every tracer by its name. Plugins that were left out are named on stderr."""
    return _plugins().catalogue


def status_of(tracer: type[AnyTracer]) -> TracerStatus:
    """A tracer, and whether it would work on this machine."""
    from bpfd.control import TracerStatus
    from bpfd.plugin import one_line
    from bpfd.tracing import probes_here

    attached, problem = probes_here(tracer)
    return TracerStatus(tracer.name, one_line(tracer), tracer.fields, attached, "not loaded", problem)


def tracer(name: str) -> type[AnyTracer]:
    """The tracer of that name. Raises BpfdError if there is none. Plugins that were left out are named on stderr."""
    known = catalogue()
    if problem := known.problem(name):
        raise BpfdError(problem)
    return known[name]


def actions() -> list[ActionStatus]:
    """The installed actions. Plugins that were left out are named on stderr."""
    from bpfd import action_keys

    return [action_keys.status(name, action) for name, action in sorted(_plugins().actions.items())]


def _plugins() -> Plugins:
    from bpfd.plugins import load_plugins

    plugins = load_plugins()
    for problem in plugins.problems:
        print(printable(problem), file=sys.stderr)
    return plugins
