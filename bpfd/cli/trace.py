"""`bpfd trace`: the events that match, as they come."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from bpfd.cli.command import Commands, add_json_flag
from bpfd.cli.daemon_client import connect
from bpfd.counted import counted
from bpfd.errors import UsageError
from bpfd.event import printable, utf8

if TYPE_CHECKING:
    from bpfd.api.client import Client
    from bpfd.event import Event


def add(commands: Commands) -> None:
    parser = commands.add("trace", "print the events that match from now on, one a line", run)
    parser.add_argument("--rule", metavar="RULE", default="", help="only events of this rule")
    parser.add_argument("--tracer", metavar="TRACER", default="", help="only events of this tracer")
    near = "in place of matches, events that failed exactly one clause of this rule, and which"
    parser.add_argument("--near-miss", metavar="RULE", default="", help=near)
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Print until Ctrl-C, or until the daemon stops, which raises ApiError. What was lost is said on stderr."""
    if args.near_miss and (args.rule or args.tracer):
        raise UsageError("bpfd trace: --near-miss names the rule already; leave out --rule and --tracer")
    with connect(args) as client:
        for lines, lost in _missed(client, args) if args.near_miss else _matched(client, args):
            if lost:
                print(f"bpfd: {counted(lost, 'event')} lost: this client is too slow", file=sys.stderr, flush=True)
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            sys.stdout.flush()
    return 0


def _matched(client: Client, args: argparse.Namespace) -> Iterator[tuple[list[str], int]]:
    line = _json if args.json else _human()
    for events, lost in client.live_trace(utf8(args.rule), utf8(args.tracer), on_start=_say_following):
        yield [line(event) for event in events], lost


def _missed(client: Client, args: argparse.Namespace) -> Iterator[tuple[list[str], int]]:
    line = _human()
    for found, lost in client.near_misses(utf8(args.near_miss), on_start=_say_following):
        if args.json:
            yield [_json_line({**event.as_dict(), "missed": missed}) for event, missed in found], lost
        else:
            yield [f"{line(event)}  missed: {printable(missed)}" for event, missed in found], lost


def _say_following() -> None:
    print("bpfd: following events; Ctrl-C ends", file=sys.stderr, flush=True)


def _json(event: Event) -> str:
    return event.to_json().decode()


def _json_line(table: dict[str, Any]) -> str:
    import orjson

    return orjson.dumps(table).decode()


def _human() -> Callable[[Event], str]:
    from bpfd import format

    return partial(format.line, color=sys.stdout.isatty())
