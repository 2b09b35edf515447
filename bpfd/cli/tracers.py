"""`bpfd tracers [NAME]`: what can be watched, whether it works here, and the fields that rules may use."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, cast

from bpfd.cli import installed
from bpfd.cli.command import Commands, add_json_flag
from bpfd.cli.output import print_json, print_table, shorten
from bpfd.counted import counted
from bpfd.errors import BpfdError
from bpfd.event import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bpfd.api import bpfd_pb2
    from bpfd.api.client import Client
    from bpfd.catalogue import Catalogue
    from bpfd.handbook import About
    from bpfd.plugin import FieldType, TracerFamily

_ATTACHED_WIDTH = 60


def add(commands: Commands) -> None:
    parser = commands.add("tracers", "list the tracers, or say all about one", run)
    parser.add_argument("name", metavar="NAME", nargs="?", help="show all about this tracer")
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    client = installed.connect_if_running(args)
    known = installed.catalogue()
    told, by_daemon = _tracers(client, known), client is not None
    if args.name is None:
        if args.json:
            print_json([_as_dict(tracer) for tracer in told.values()])
        else:
            _list(told, known, by_daemon=by_daemon)
        return 0
    family = known.families.get(args.name)
    if family is not None and not args.json:
        _show_family(family)
        return 0
    tracer = told.get(args.name) or _installed(args.name, known)
    if args.json:
        print_json([_as_dict(tracer)])
    else:
        _show(tracer, known, by_daemon=by_daemon)
    return 0


def _tracers(client: Client | None, known: Catalogue) -> Mapping[str, bpfd_pb2.TracerStatus]:
    """The tracers by name, as the daemon tells of them, or else those that are installed."""
    if client is None:
        return {name: _installed(name, known) for name in known}
    with client:
        return {tracer.name: tracer for tracer in client.list_tracers()}


def _installed(name: str, known: Catalogue) -> bpfd_pb2.TracerStatus:
    """A tracer that is installed, or made because it is named. Raises BpfdError if there is none."""
    from bpfd.api.convert import tracer_to_v1

    if problem := known.problem(name):
        raise BpfdError(problem)
    return tracer_to_v1(installed.status_of(known[name]))


def _list(told: Mapping[str, bpfd_pb2.TracerStatus], known: Catalogue, *, by_daemon: bool) -> None:
    from bpfd.plugin import one_line

    rows = [(name, _state(one, by_daemon), one.doc, _attached(one)) for name, one in sorted(told.items())]
    for prefix, family in sorted(known.families.items()):
        count = len(list(family.names()))
        state = "works" if count else "nothing to be found here"
        rows.append((f"{prefix}…", state, one_line(family), f"one of {count} on this machine" if count else ""))
    print_table(("NAME", "STATE", "WHAT IT SEES", "ATTACHES TO"), rows)


def _state(tracer: bpfd_pb2.TracerStatus, by_daemon: bool) -> str:
    if tracer.problem:
        first = tracer.problem.splitlines()[0]
        return f"failed: {first}" if tracer.state == "failed" else first
    return tracer.state if by_daemon else "works"


def _attached(tracer: bpfd_pb2.TracerStatus) -> str:
    """The probes, in little room: those of a category share its name."""
    by_category: dict[str, list[str]] = {}
    for probe in tracer.probes:
        category, _, event = probe.removeprefix("tracepoint:").rpartition(":")
        by_category.setdefault(category, []).append(event)
    shown = (f"{category}:{','.join(events)}" for category, events in by_category.items())
    return shorten(" ".join(shown), _ATTACHED_WIDTH)


def _show(tracer: bpfd_pb2.TracerStatus, known: Catalogue, *, by_daemon: bool) -> None:
    from bpfd import handbook

    print(f"{printable(tracer.name)}: {printable(_state(tracer, by_daemon))}")
    for line in tracer.problem.splitlines()[1:]:
        print(f"  {printable(line)}")
    if tracer.state == "running":
        print(f"{counted(tracer.received, 'event')} received, {tracer.lost} lost")
    one = _about(tracer, known)
    missing = [probe for probe in one.probes if probe.endswith("?") and probe.rstrip("?") not in tracer.probes]
    if missing:
        print(f"not on this machine: {printable(', '.join(probe.rstrip('?') for probe in missing))}")
    print()
    _print(handbook.section(one))
    print()
    _print(handbook.common_fields())


def _about(tracer: bpfd_pb2.TracerStatus, known: Catalogue) -> About:
    """What its class says, if the one that is installed is that of the daemon; what the daemon tells, if not."""
    from bpfd import handbook
    from bpfd.plugin import Field

    if tracer.name in known:
        one = handbook.about(known[tracer.name])
        if [field.name for field in one.fields] == [field.name for field in tracer.fields]:
            return one
    fields = tuple(
        Field(
            field.name,
            field.doc,
            cast("FieldType", field.type),
            field.length or 256,
            optional=field.optional,
            example=field.example,
        )
        for field in tracer.fields
    )
    return handbook.About(tracer.name, f"{tracer.doc}.", fields, tuple(tracer.probes))


def _show_family(family: type[TracerFamily]) -> None:
    from bpfd import handbook

    _print(handbook.family_section(family))


def _print(text: str) -> None:
    for line in text.splitlines():
        print(printable(line))


def _as_dict(tracer: bpfd_pb2.TracerStatus) -> dict[str, Any]:
    return {
        "name": tracer.name,
        "doc": tracer.doc,
        "state": tracer.state,
        "problem": tracer.problem,
        "received": tracer.received,
        "lost": tracer.lost,
        "probes": list(tracer.probes),
        "fields": [_field_as_dict(field) for field in tracer.fields],
    }


def _field_as_dict(field: bpfd_pb2.Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "doc": field.doc,
        "type": field.type,
        "length": field.length,
        "also": field.also,
        "optional": field.optional,
        "example": field.example,
    }
