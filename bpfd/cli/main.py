"""Parses the command line, runs the command, and turns every error into a line and an exit status."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Iterator, Sequence

from bpfd.cli import actions, check, create, daemon, explain, ls, mute, rm, run_, status, trace, tracers, version, why
from bpfd.cli.command import Commands, Parser, add_common_flags
from bpfd.errors import BpfdError, UsageError
from bpfd.event import printable

_COMMANDS = (create, daemon, ls, rm, trace, tracers, actions, mute, status, version, check, why, run_, explain)

_LONG_FLAGS = frozenset(
    "command config container count csv debug for grpc-addr help json near-miss observe pid replace rule rules-dir "
    "strict tracer where why".split()
)


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns 0, 1 (failed) or 2 (usage). Raises SystemExit for --help and bad usage.

    The one place where errors become text.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC writes its own log to stderr
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8
    debug = False
    try:
        args = parser().parse_args(list(_with_two_dashes(arguments)))
        debug = args.debug
        status = args.run(args)
        sys.stdout.flush()
        return int(status)
    except UsageError as error:
        _say(str(error))
        return 2
    except BpfdError as error:
        _say(str(error))
        return 1
    except BrokenPipeError:
        _discard_output()
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        _say(f"bpfd: internal error: {type(error).__name__}: {error}; run it with --debug and report what it prints")
        return 1


def parser() -> Parser:
    """The parser of the whole program."""
    program = Parser(
        prog="bpfd",
        description="Runs BPF tracers, filters their events with rules, and acts on what matches.",
        allow_abbrev=False,
    )
    add_common_flags(program)
    program.set_defaults(debug=False, grpc_addr=None)
    commands = Commands(program)
    for module in _COMMANDS:
        module.add(commands)
    return program


def _with_two_dashes(arguments: Sequence[str]) -> Iterator[str]:
    """Take `-grpc-addr` for `--grpc-addr`: the first bpfd was written in Go, where one dash is as good as two."""
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            yield argument
            break
        is_long = argument.startswith("-") and argument[1:].partition("=")[0] in _LONG_FLAGS
        yield f"-{argument}" if is_long else argument
    yield from rest


def _say(text: str) -> None:
    """Print an error, a line for each of its lines, whatever it holds."""
    for line in text.split("\n"):
        print(printable(line), file=sys.stderr)


def _discard_output() -> None:
    """Let what is still buffered go nowhere, so that the interpreter does not complain about it at its end."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.close(sink)
