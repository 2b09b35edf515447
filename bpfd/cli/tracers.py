"""`bpfd tracers [NAME]`: what can be watched, with the fields that rules may use."""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING, Any

from bpfd.cli import installed
from bpfd.cli.command import Commands, add_json_flag
from bpfd.cli.output import print_json
from bpfd.errors import BpfdError
from bpfd.event import printable

if TYPE_CHECKING:
    from bpfd.api import bpfd_pb2


def add(commands: Commands) -> None:
    parser = commands.add("tracers", "list the tracers with their fields", run)
    parser.add_argument("name", metavar="NAME", nargs="?", help="show all about this tracer")
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    tracers = _tracers(args)
    if args.name is not None:
        tracers = [_find(tracers, args.name)]
    if args.json:
        print_json([_as_dict(tracer) for tracer in tracers])
        return 0
    for number, tracer in enumerate(tracers):
        if number:
            print()
        _show(tracer, in_full=args.name is not None)
    return 0


def _tracers(args: argparse.Namespace) -> list[bpfd_pb2.TracerStatus]:
    client = installed.connect_if_running(args)
    if client is None:
        from bpfd.api.convert import tracer_to_v1

        return [tracer_to_v1(tracer) for tracer in installed.tracers()]
    with client:
        return client.list_tracers()


def _find(tracers: list[bpfd_pb2.TracerStatus], name: str) -> bpfd_pb2.TracerStatus:
    names = {tracer.name: tracer for tracer in tracers}
    if name in names:
        return names[name]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(names)) or 'none'}"
    raise BpfdError(f"{name}: no such tracer; {hint}")


def _show(tracer: bpfd_pb2.TracerStatus, *, in_full: bool) -> None:
    print(f"{printable(tracer.name)} ({tracer.state}): {printable(tracer.doc)}")
    for line in tracer.problem.splitlines():
        print(f"  problem: {printable(line)}")
    if in_full:
        for probe in tracer.probes:
            print(f"  probe: {printable(probe)}")
        if tracer.state == "running":
            print(f"  events: {tracer.received} received, {tracer.lost} lost")
    width = max((len(field.name) for field in tracer.fields), default=0)
    for field in tracer.fields:
        print(f"  {printable(field.name):{width}}  {_type(field):12}  {printable(field.doc)}")
        if in_full and field.example:
            print(f"  {'':{width}}  {'':12}  for example: {printable(field.example)}")


def _type(field: bpfd_pb2.Field) -> str:
    return f"string {field.length - 1}" if field.type == "string" else field.type


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
