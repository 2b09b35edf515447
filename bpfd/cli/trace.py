"""`bpfd trace`: the events that match, as they come."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from bpfd.cli.command import Commands, add_json_flag
from bpfd.cli.daemon_client import connect
from bpfd.event import utf8

if TYPE_CHECKING:
    from bpfd.event import Event


def add(commands: Commands) -> None:
    parser = commands.add("trace", "print the events that match from now on, one a line", run)
    parser.add_argument("--rule", metavar="RULE", default="", help="only events of this rule")
    parser.add_argument("--tracer", metavar="TRACER", default="", help="only events of this tracer")
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Print until Ctrl-C, or until the daemon stops, which raises ApiError. What was lost is said on stderr."""
    with connect(args) as client:
        line = _json if args.json else _human()
        for events, lost in client.live_trace(utf8(args.rule), utf8(args.tracer), on_start=_say_following):
            if lost:
                print(f"bpfd: {lost} events lost: this client is too slow", file=sys.stderr, flush=True)
            sys.stdout.write("".join(f"{line(event)}\n" for event in events))
            sys.stdout.flush()
    return 0


def _say_following() -> None:
    print("bpfd: following events; Ctrl-C ends", file=sys.stderr, flush=True)


def _json(event: Event) -> str:
    return event.to_json().decode()


def _human() -> Callable[[Event], str]:
    from bpfd import format

    return partial(format.line, color=sys.stdout.isatty())
