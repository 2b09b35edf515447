"""`bpfd check PATH…`: reads rules as the daemon would, runs their tests, and says what looks wrong. Needs no root."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bpfd.cli.command import Commands
from bpfd.cli.known import add_config_flag, known, settings_of
from bpfd.counted import counted
from bpfd.errors import RuleError
from bpfd.event import printable

if TYPE_CHECKING:
    from bpfd.rules.directory import Loaded
    from bpfd.rules.model import Rule


def add(commands: Commands) -> None:
    parser = commands.add("check", "check rules and run their own tests", run)
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="a rule file, or a directory of them")
    parser.add_argument("--strict", action="store_true", help="fail on warnings too")
    add_config_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Print warnings and a summary; fail with every problem of every file."""
    from bpfd.rules.directory import load_directory, load_file

    names = known(settings_of(args))
    loaded: list[Loaded] = []
    problems: list[str] = []
    for path in args.paths:
        try:
            loaded.append(load_directory(path, names) if path.is_dir() else load_file(path, names))
        except RuleError as error:
            problems += error.problems
    problems += [line for one in loaded for lines in one.problems.values() for line in lines]
    warnings = [line for one in loaded for line in _warnings(one.rules)]
    for line in warnings:
        print(printable(line))
    rules = [rule for one in loaded for rule in one.rules]
    tests = sum(len(rule.examples) for rule in rules)
    print(f"{counted(len(rules), 'good rule')}, {counted(tests, 'test')} passed, {counted(len(warnings), 'warning')}")
    if problems:
        raise RuleError(problems)
    return 1 if warnings and args.strict else 0


def _warnings(rules: tuple[Rule, ...]) -> list[str]:
    from bpfd.rules import lint

    by_name = {rule.name: rule for rule in rules}
    lines = [line for rule in rules for line in rule.warnings]
    for name, other in lint.covered(rules).items():
        where = f'rule "{other}" of {by_name[other].source}'
        lines.append(f"{by_name[name].source}: warning: {where} matches all that this rule does; remove one of them")
    return lines
