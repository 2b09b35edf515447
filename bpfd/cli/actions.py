"""`bpfd actions`: what can be done about an event, with the settings of each."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from bpfd.cli import installed
from bpfd.cli.command import Commands, add_json_flag
from bpfd.cli.output import print_json
from bpfd.event import printable

if TYPE_CHECKING:
    from bpfd.api import bpfd_pb2


def add(commands: Commands) -> None:
    add_json_flag(commands.add("actions", "list the actions with their settings", run))


def run(args: argparse.Namespace) -> int:
    actions = _actions(args)
    if args.json:
        print_json([_as_dict(action) for action in actions])
        return 0
    for action in actions:
        print(f"{printable(action.name)} ({_kind(action)}): {printable(action.doc)}")
        for key in sorted(action.settings):
            print(f"  {printable(key)}: {printable(action.settings[key])}")
    return 0


def _actions(args: argparse.Namespace) -> list[bpfd_pb2.ActionStatus]:
    client = installed.connect_if_running(args)
    if client is None:
        from bpfd.api.convert import action_to_v1

        return [action_to_v1(action) for action in installed.actions()]
    with client:
        return client.list_actions()


def _kind(action: bpfd_pb2.ActionStatus) -> str:
    return "responder" if action.responds else "notifier"


def _as_dict(action: bpfd_pb2.ActionStatus) -> dict[str, Any]:
    return {"name": action.name, "kind": _kind(action), "doc": action.doc, "settings": dict(action.settings)}
