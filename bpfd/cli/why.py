"""`bpfd why EVENT.json [RULE]`: why rules match an event or do not, clause by clause. Needs no root."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bpfd.cli.command import Commands
from bpfd.cli.known import add_config_flag, known, settings_of
from bpfd.counted import counted
from bpfd.errors import RuleError
from bpfd.event import printable

if TYPE_CHECKING:
    from bpfd.event import Event
    from bpfd.rules.context import Known
    from bpfd.rules.model import Rule

_MOST_BYTES = 1 << 20


def add(commands: Commands) -> None:
    parser = commands.add("why", "say why rules match an event or do not", run)
    parser.add_argument("event", metavar="EVENT.json", help="an event as `bpfd trace --json` prints it; - is stdin")
    parser.add_argument("rule", metavar="RULE", nargs="?", help="a rule's file, or its name (default: every rule)")
    parser.add_argument("--rules-dir", metavar="DIR", type=Path, help="where the rules are (default: /etc/bpfd/rules)")
    add_config_flag(parser)


def run(args: argparse.Namespace) -> int:
    from bpfd.rules import why

    settings = settings_of(args)
    names = known(settings)
    rules = _rules(args.rule, args.rules_dir or settings.rules_dir, names)
    table = _table(args.event)
    tracer = table.get("tracer", rules[0].tracer if len(rules) == 1 else None)
    if not isinstance(tracer, str) or tracer not in names.tracers:
        known_tracers = ", ".join(sorted(names.tracers))
        raise RuleError([f'{args.event}: has no "tracer" that is installed here; tracers are {known_tracers}'])
    event = _event(table, tracer, args.event, names)
    shown = [rule for rule in rules if rule.tracer == tracer or args.rule]
    for rule in shown:
        if rule.tracer != tracer:
            print(f"{printable(rule.name)}: no match: the event is of tracer {tracer}, the rule {_watches(rule)}")
            continue
        lines = why.explain(rule.condition, names.tracers[tracer], event)
        print(f"{printable(rule.name)}: {'match' if lines[0].held else 'no match'}{_remarks(rule)}")
        for line in lines:
            print(f"  {'yes' if line.held else 'no ':3} {'  ' * line.depth}{printable(line.text)}")
    if not shown:
        print(f"no rule is of tracer {tracer}")
    return 0


def _watches(rule: Rule) -> str:
    return f"of {printable(rule.tracer)}" if rule.tracer else "follows other rules"


def _remarks(rule: Rule) -> str:
    """What keeps a match from firing at once."""
    from bpfd.rules.model import Count

    remarks = [] if rule.enabled else ["the rule is not enabled"]
    if isinstance(rule.window, Count):
        remarks.append(f"fires on {counted(rule.window.count, 'match', 'es')} within {rule.window.within_ns / 1e9:g} s")
    return f" ({', '.join(remarks)})" if remarks else ""


def _rules(wanted: str | None, directory: Path, names: Known) -> list[Rule]:
    """The rules to judge by. Raises RuleError: there is none, or it is bad."""
    from bpfd.rules.directory import load_directory, load_file
    from bpfd.rules.nearest import hint, quoted

    if wanted is not None and (wanted.endswith(".toml") or "/" in wanted):
        loaded = load_file(Path(wanted), names)
        if loaded.problems:
            raise RuleError([line for lines in loaded.problems.values() for line in lines])
        if not loaded.rules:
            raise RuleError([f"{wanted}: holds macros and lists only; name the file of a rule"])
        return list(loaded.rules)
    loaded = load_directory(directory, names)
    for lines in loaded.problems.values():
        for line in lines:
            print(printable(line), file=sys.stderr)
    rules = {rule.name: rule for rule in loaded.rules}
    if wanted is None:
        return list(rules.values())
    if wanted not in rules:
        raise RuleError([f"there is no rule {quoted(wanted)} in {directory}; {hint(wanted, rules, 'rules')}"])
    return [rules[wanted]]


def _table(file: str) -> dict[str, object]:
    """The JSON object in `file`. Raises RuleError."""
    import orjson

    try:
        if file == "-":
            content = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with open(file, "rb") as stream:
                content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise RuleError([f"{file}: cannot be read: {error.strerror}; name a file with one event"]) from None
    if len(content) > _MOST_BYTES:
        raise RuleError([f"{file}: is larger than {_MOST_BYTES} bytes; name a file with one event"])
    try:
        table = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RuleError([f"{file}: is no JSON: {error}; take one line of bpfd trace --json"]) from None
    if not isinstance(table, dict):
        raise RuleError([f"{file}: is no JSON object; take one line of bpfd trace --json"])
    return table


def _event(table: dict[str, object], tracer: str, file: str, names: Known) -> Event:
    from bpfd.rules import fields, sample
    from bpfd.rules.context import Context
    from bpfd.rules.problems import Problems, TooManyProblems

    problems = Problems(file)
    context = Context(names, problems, tracer, fields.table(names.tracers[tracer]))
    try:
        event = sample.event(table, context, ())
    except TooManyProblems:
        raise RuleError(problems.lines("")) from None
    if problems:
        raise RuleError(problems.lines(""))
    return event
