"""`bpfd rm NAME…`: takes rules away."""

from __future__ import annotations

import argparse

from bpfd.cli.command import Commands
from bpfd.cli.daemon_client import connect
from bpfd.errors import BpfdError, RuleError
from bpfd.event import utf8


def add(commands: Commands) -> None:
    parser = commands.add("rm", "remove one or more rules", run)
    parser.add_argument("names", metavar="NAME", nargs="+", help="a rule's name, as bpfd ls prints it")
    parser.add_argument("--tracer", metavar="TRACER", default="", help="only if the rule is of this tracer")


def run(args: argparse.Namespace) -> int:
    """Remove what is there, and fail with every name that is not."""
    problems: list[str] = []
    with connect(args) as client:
        for name in args.names:
            try:
                client.remove_rule(utf8(name), utf8(args.tracer))
            except BpfdError as error:
                problems += str(error).split("\n")
    if problems:
        raise RuleError(problems)
    return 0
