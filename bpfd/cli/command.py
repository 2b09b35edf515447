"""How a command joins the program: its parser with the flags that all have."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from bpfd.event import printable


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line, escaped, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {printable(message)}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


class Commands:
    """Where commands register. `run` gets the parsed arguments and returns the exit status."""

    def __init__(self, program: Parser, required: bool = True) -> None:
        """`required` False: `program` does something by itself if no command follows."""
        self._parsers = program.add_subparsers(title="commands", metavar="COMMAND", required=required)

    def add(self, name: str, summary: str, run: Callable[[argparse.Namespace], int]) -> Parser:
        """A parser for the flags and arguments of the command `name`."""
        description = f"{summary[0].upper()}{summary[1:]}."
        parser: Parser = self._parsers.add_parser(name, help=summary, description=description, allow_abbrev=False)
        add_common_flags(parser)
        parser.set_defaults(run=run)
        return parser


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that may stand before and after the command. Without defaults, so that neither place undoes the other."""
    none = argparse.SUPPRESS
    parser.add_argument("-d", "--debug", action="store_true", default=none, help="log what is of use to developers too")
    parser.add_argument(
        "--grpc-addr", metavar="ADDR", default=none, help="the daemon's address (default: unix:///run/bpfd/bpfd.sock)"
    )


def add_json_flag(parser: argparse.ArgumentParser, again: bool = False) -> None:
    """`again`: the parser stands below one that has the flag too, and must not undo it."""
    default = argparse.SUPPRESS if again else False
    parser.add_argument("--json", action="store_true", default=default, help="print JSON")
