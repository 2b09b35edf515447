"""`bpfd run TRACER`: one tracer's events as they come, with no daemon and no rule file."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import select
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bpfd.cli import installed, logs
from bpfd.cli.command import Commands
from bpfd.cli.known import add_config_flag, settings_of
from bpfd.counted import counted
from bpfd.errors import UsageError
from bpfd.event import printable

if TYPE_CHECKING:
    from bpfd.cli.forms import Form
    from bpfd.cli.stream import Ending, Output
    from bpfd.plugin import AnyTracer, Field
    from bpfd.quicklook import QuickLook
    from bpfd.rules.model import Condition

MOST_COMMAND = 15
"""Bytes of a program's name that the kernel keeps (TASK_COMM_LEN)."""
BATCH = 512
"""Events that are made text before any is written: the first ones of a flood are not kept waiting."""
STDOUT = 1
LONGEST_WAIT_S = 3600.0
"""Less than poll(2) can wait; 30 days are more."""


def add(commands: Commands) -> None:
    parser = commands.add("run", "watch one tracer, without a daemon and without rules", run)
    parser.add_argument("tracer", metavar="TRACER", help="a tracer, as bpfd tracers lists them")
    parser.add_argument(
        "--pid", metavar="N", type=_number, help="only events of this process, all its threads, not of its children"
    )
    parser.add_argument("--command", metavar="NAME", help="only events of programs of this name")
    parser.add_argument("--container", metavar="ID|NAME", default="", help="only events of this container")
    parser.add_argument("--where", metavar="CONDITION", help="only events for which a rule's condition holds")
    parser.add_argument("--for", dest="time", metavar="TIME", help="end after a time, such as 10s (default: Ctrl-C)")
    parser.add_argument("--count", metavar="N", type=_number, help="end after so many events")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, an event a line")
    form.add_argument("--csv", action="store_true", help="print CSV")
    add_config_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Print until the time is over, a signal comes or nobody reads any more. What was lost is said on stderr."""
    from bpfd.cli.stream import Ending, Output
    from bpfd.quicklook import QuickLook

    tracer = installed.tracer(args.tracer)
    condition, after_s = _condition(args, tracer), _seconds(args.time)
    settings = settings_of(args)
    logs.set_up(debug=args.debug)
    if not args.debug:
        logging.getLogger("bpfd.tracing").setLevel(logging.CRITICAL)  # a tracer that fails is this command's error
    with _eventfd() as wake_fd:
        wake = partial(os.eventfd_write, wake_fd, 1)
        with QuickLook(tracer, condition, settings, wake, args.container) as look, Ending(wake, after_s) as ending:
            print(f"bpfd: watching {printable(tracer.name)}; Ctrl-C ends", file=sys.stderr, flush=True)
            printer = _Printer(look, _form(args, tracer.fields), Output(STDOUT, ending), args.count)
            try:
                printer.follow(ending, wake_fd)
                look.stop()
                printer.print_what_waits()
            finally:
                look.stop()
                _say_losses(look.lost(), printer.unread)
    return 128 + ending.signal if ending.signal else 0


class _Printer:
    """Prints what a quick look takes."""

    def __init__(self, look: QuickLook, form: Form, output: Output, most: int | None) -> None:
        self._look, self._form, self._output = look, form, output
        self._left = most
        self.unread = 0
        """Events for which the reader left no time."""

    def follow(self, ending: Ending, wake_fd: int) -> None:
        """Print until the end comes. Raises `BrokenPipeError` as soon as nobody reads any more."""
        waiting = select.poll()
        waiting.register(wake_fd, select.POLLIN)
        waiting.register(STDOUT, 0)  # says when the reader goes, though nothing be written
        if head := self._form.head():
            self._output.write([head])
        while not ending.come():
            left_s = ending.left_s()
            for fd, _ in waiting.poll(None if left_s is None else min(left_s, LONGEST_WAIT_S) * 1000 + 1):
                if fd == STDOUT:
                    raise BrokenPipeError
                os.eventfd_read(wake_fd)
            self.print_what_waits()
            if self._left == 0:
                ending.now()

    def print_what_waits(self) -> None:
        """Print all that there is by now, up to the number that is wanted."""
        events = self._look.take()
        if self._left is not None:
            events = events[: self._left]
            self._left -= len(events)
        for begin in range(0, len(events), BATCH):
            lines = [self._form.line(event) for event in events[begin : begin + BATCH]]
            self.unread += len(lines) - self._output.write(lines)


def _say_losses(lost: dict[str, int], unread: int) -> None:
    by_name = {**lost, "unread": unread} if unread else lost
    if by_name:
        named = ", ".join(f"{name} {count}" for name, count in by_name.items())
        print(f"bpfd: {counted(sum(by_name.values()), 'event')} lost ({printable(named)})", file=sys.stderr, flush=True)


def _form(args: argparse.Namespace, fields: tuple[Field, ...]) -> Form:
    from bpfd.cli import forms

    if args.json:
        return forms.JsonLines()
    if args.csv:
        return forms.Csv(fields)
    return forms.Table(fields, os.get_terminal_size(STDOUT).lines if os.isatty(STDOUT) else 0)


def _condition(args: argparse.Namespace, tracer: type[AnyTracer]) -> Condition:
    """What an event must be like. Raises `UsageError`. Says on stderr what can never hold."""
    from bpfd.rules.model import All, Test

    parts: list[Condition] = []
    if args.pid is not None:
        _check_process(args.pid)
        parts.append(Test("pid", "is", (str(args.pid),)))
    if args.command is not None:
        kept = _text("--command", args.command).encode()[:MOST_COMMAND].decode(errors="ignore")
        parts.append(Test("command", "is", (kept,)))
    if args.where is not None:
        parts.append(_where(_text("--where", args.where), tracer))
    return All(tuple(parts))


def _where(text: str, tracer: type[AnyTracer]) -> Condition:
    """A condition in the rules' language."""
    from bpfd.rules import condition, fields, lint, resolve
    from bpfd.rules.context import Context, Known
    from bpfd.rules.problems import Problems, TooManyProblems

    problems = Problems("--where")
    context = Context(Known({tracer.name: tracer.fields}, ()), problems, tracer.name, fields.table(tracer.fields))
    try:
        found = resolve.resolve(condition.parse(text), context, ())
        lint.tree(found, context, ())
    except condition.ConditionError as error:
        raise UsageError(f"--where: {error}") from None
    except TooManyProblems:
        pass
    if problems:
        raise UsageError("\n".join(_without_line(line) for line in problems.lines("")))
    for line in problems.warnings(""):
        print(f"bpfd: {printable(_without_line(line))}", file=sys.stderr)
    return found


def _without_line(problem: str) -> str:
    """A problem of a condition that stands in no file."""
    return problem.replace("--where:1:", "--where:", 1)


def _text(flag: str, given: str) -> str:
    try:
        given.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{flag}: is no UTF-8 text") from None
    if not given:
        raise UsageError(f"{flag}: is empty; leave it out, or say what you look for")
    return given


def _check_process(pid: int) -> None:
    """Raises `UsageError` unless `pid` is a process: of a thread's number there would be no events."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        raise UsageError(f"--pid: there is no process {pid}") from None
    [group] = re.findall(r"^Tgid:\s+(\d+)", status, re.M)
    if int(group) != pid:
        raise UsageError(f"--pid: {pid} is a thread of process {group}; give --pid {group}")


def _seconds(text: str | None) -> float | None:
    from bpfd.rules import duration

    if text is None:
        return None
    try:
        return duration.parse(text) / 1e9
    except ValueError as error:
        raise UsageError(f"--for: {error}") from None


def _number(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError("is no whole number above 0")
    return int(text)


@contextlib.contextmanager
def _eventfd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        yield fd
    finally:
        os.close(fd)
