"""`bpfd status`: how the daemon fares, with every count of what was lost."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING, Any

from bpfd.cli.command import Commands, add_json_flag
from bpfd.cli.daemon_client import connect
from bpfd.cli.ls import state
from bpfd.cli.output import print_json, print_table
from bpfd.event import printable

if TYPE_CHECKING:
    from bpfd.api import bpfd_pb2


def add(commands: Commands) -> None:
    add_json_flag(commands.add("status", "show how the daemon fares", run))


def run(args: argparse.Namespace) -> int:
    with connect(args) as client:
        status, rules = client.status(), client.list_rules()
    if args.json:
        print_json(_as_dict(status, rules))
    else:
        _show(status, rules)
    return 0


def _show(status: bpfd_pb2.GetStatusResponse, rules: list[bpfd_pb2.RuleStatus]) -> None:
    from datetime import UTC, datetime

    started = datetime.fromtimestamp(status.started // 10**9, UTC)
    print(f"bpfd {printable(status.version)} on {printable(status.host)}, kernel {printable(status.kernel)}")
    print(f"running since {started:%Y-%m-%d %H:%M:%S} UTC\n")
    rows = [(item.name, item.state, str(item.received), str(item.lost)) for item in status.tracers]
    print_table(("TRACER", "STATE", "RECEIVED", "LOST"), rows)
    print()
    print_table(("COUNTER", "COUNT"), [(name, str(status.counters[name])) for name in sorted(status.counters)])
    counts = _states(rules)
    print(f"\nrules: {', '.join(f'{counts[state]} {state}' for state in sorted(counts)) or 'none'}")
    _list("problems", [line for problem in status.problems for line in problem.splitlines()])
    _list("warnings", _warnings(rules))


def _list(title: str, lines: list[str]) -> None:
    if lines:
        print(f"\n{title}:")
    for line in lines:
        print(f"  {printable(line)}")


def _states(rules: list[bpfd_pb2.RuleStatus]) -> dict[str, int]:
    """How many rules are in each state, as `bpfd ls` has them."""
    return dict(Counter(state(rule) for rule in rules))


def _warnings(rules: list[bpfd_pb2.RuleStatus]) -> list[str]:
    return [line for rule in rules for line in rule.warnings]


def _as_dict(status: bpfd_pb2.GetStatusResponse, rules: list[bpfd_pb2.RuleStatus]) -> dict[str, Any]:
    return {
        "version": status.version,
        "host": status.host,
        "kernel": status.kernel,
        "started": status.started,
        "tracers": [
            {
                "name": tracer.name,
                "state": tracer.state,
                "problem": tracer.problem,
                "received": tracer.received,
                "lost": tracer.lost,
            }
            for tracer in status.tracers
        ],
        "counters": {name: status.counters[name] for name in sorted(status.counters)},
        "rules": _states(rules),
        "problems": list(status.problems),
        "warnings": _warnings(rules),
    }
