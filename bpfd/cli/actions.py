"""`bpfd actions`: what can be done about an event, with the settings of each; what was done, and what was not told."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from bpfd.cli import installed
from bpfd.cli.command import Commands, add_json_flag
from bpfd.cli.daemon_client import connect
from bpfd.cli.output import print_json, print_table, when
from bpfd.counted import counted
from bpfd.errors import BpfdError
from bpfd.event import printable, utf8

if TYPE_CHECKING:
    from bpfd.api import bpfd_pb2


def add(commands: Commands) -> None:
    parser = commands.add("actions", "list the actions with their settings; log, test, dead and retry", run)
    add_json_flag(parser)
    below = Commands(parser, required=False)
    log = below.add("log", "show what was done to whom, and what came of it", show_log)
    log.add_argument("-n", metavar="COUNT", dest="limit", type=_count, default=100, help="the newest so many (100)")
    add_json_flag(log, again=True)
    test = below.add("test", "send a sample through a notifier", test_one)
    test.add_argument("name", metavar="NAME", help="an action that tells somebody, as rules name it")
    dead = below.add("dead", "list alerts that were given up", show_dead)
    dead.add_argument("name", metavar="NAME", nargs="?", default="", help="only those of this action")
    add_json_flag(dead, again=True)
    retry = below.add("retry", "send alerts again that were given up", send_again)
    retry.add_argument("name", metavar="NAME", nargs="?", default="", help="only those of this action")


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


def show_log(args: argparse.Namespace) -> int:
    """`bpfd actions log`."""
    with connect(args) as client:
        responses = client.responses(args.limit)
    if args.json:
        print_json([_response(response) for response in responses])
        return 0
    rows = [(when(one.time), one.action, one.rule, one.target, one.result, one.detail) for one in responses]
    print_table(("TIME", "ACTION", "RULE", "TARGET", "RESULT", "DETAIL"), rows)
    return 0


def test_one(args: argparse.Namespace) -> int:
    """`bpfd actions test NAME`."""
    with connect(args) as client:
        trial = client.test_action(utf8(args.name))
    name = printable(args.name)
    if trial.delivered:
        print(f"{name}: delivered in {trial.seconds:.2f} s")
        return 0
    raise BpfdError(f"{name}: not delivered, after {trial.seconds:.2f} s: {trial.problem}")


def show_dead(args: argparse.Namespace) -> int:
    """`bpfd actions dead [NAME]`."""
    with connect(args) as client:
        letters = client.dead_letters(utf8(args.name))
    if args.json:
        print_json([{key: getattr(one, key) for key in _LETTER} for one in letters])
        return 0
    rows = [(when(one.time), one.action, one.rule, str(one.tries), one.id, one.problem) for one in letters]
    print_table(("TIME", "ACTION", "RULE", "TRIES", "ID", "PROBLEM"), rows)
    return 0


def send_again(args: argparse.Namespace) -> int:
    """`bpfd actions retry [NAME]`."""
    with connect(args) as client:
        count = client.retry_dead_letters(utf8(args.name))
    print(f"{counted(count, 'alert')} will be sent again")
    return 0


_LETTER = ("id", "action", "rule", "time", "tries", "problem")


def _response(response: bpfd_pb2.Response) -> dict[str, Any]:
    shown = {key: getattr(response, key) for key in ("time", "action", "rule", "target", "result", "detail")}
    return {**shown, "event": json.loads(response.event)}


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1000:
        raise ValueError
    return number


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
