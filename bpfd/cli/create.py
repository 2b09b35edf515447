"""`bpfd create FILE…`: gives the daemon rules."""

from __future__ import annotations

import argparse
import sys

from bpfd.cli.command import Commands
from bpfd.cli.daemon_client import connect
from bpfd.errors import BpfdError, RuleError
from bpfd.event import printable

_MOST_BYTES = 2 << 20


def add(commands: Commands) -> None:
    parser = commands.add("create", "create one or more rules", run)
    parser.add_argument("files", metavar="FILE", nargs="+", help="a rule in TOML")
    parser.add_argument("--replace", action="store_true", help="take the place of rules of the same names")


def run(args: argparse.Namespace) -> int:
    """Create what can be created, and fail with every problem of the others."""
    problems: list[str] = []
    with connect(args) as client:
        for file in args.files:
            try:
                rule = client.create_rule(_read(file), printable(file), replace=args.replace)
            except BpfdError as error:
                problems += str(error).split("\n")
            else:
                print(f"created {printable(rule.name)} ({printable(rule.tracer)})")
                sys.stdout.flush()
    if problems:
        raise RuleError(problems)
    return 0


def _read(file: str) -> str:
    """The text of `file`. Raises RuleError, which names it."""
    name = printable(file)
    try:
        with open(file, "rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise RuleError([f"{name}: cannot be read: {error.strerror}; give the path of a rule file"]) from None
    if len(content) > _MOST_BYTES:
        raise RuleError([f"{name}: larger than {_MOST_BYTES} bytes; split it into several rules"])
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RuleError([f"{name}:{line}: not UTF-8 text; a rule is a TOML file"]) from None
