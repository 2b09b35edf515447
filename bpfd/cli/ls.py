"""`bpfd ls`: the rules that the daemon knows, and the files that it can't take."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from bpfd.cli.command import Commands, add_json_flag
from bpfd.cli.daemon_client import connect
from bpfd.cli.output import print_json, print_table, shorten

if TYPE_CHECKING:
    from bpfd.api import bpfd_pb2

_FILTER_WIDTH = 60


def add(commands: Commands) -> None:
    add_json_flag(commands.add("ls", "list the rules", run))


def run(args: argparse.Namespace) -> int:
    with connect(args) as client:
        rules = client.list_rules()
    if args.json:
        print_json([_as_dict(rule) for rule in rules])
    else:
        header = ("NAME", "TRACER", "RUNTIMES", "FILTERS", "ACTIONS", "SEVERITY", "MATCHED", "STATE")
        print_table(header, (_row(rule) for rule in rules))
    return 0


def _row(status: bpfd_pb2.RuleStatus) -> tuple[str, ...]:
    rule = status.rule
    filters = (f"{field}={','.join(rule.filter_events[field].values)}" for field in sorted(rule.filter_events))
    remarks = [*status.problem.splitlines(), *status.warnings]
    return (
        status.name,
        status.tracer,
        ",".join(rule.container_runtimes),
        shorten(" ".join(filters), _FILTER_WIDTH),
        ",".join(rule.actions),
        status.severity,
        str(status.matched),
        state(status) + (f": {' | '.join(remarks)}" if remarks else ""),
    )


def _as_dict(status: bpfd_pb2.RuleStatus) -> dict[str, Any]:
    rule = status.rule
    return {
        "name": status.name,
        "tracer": status.tracer,
        "containerRuntimes": list(rule.container_runtimes),
        "filterEvents": {field: list(rule.filter_events[field].values) for field in sorted(rule.filter_events)},
        "actions": list(rule.actions),
        "severity": status.severity,
        "matched": status.matched,
        "state": state(status),
        "problem": status.problem,
        "warnings": list(status.warnings),
        "source": status.source,
    }


def state(status: bpfd_pb2.RuleStatus) -> str:
    """One word or two. `kept`: the file is bad, its last good version is in force."""
    if not status.HasField("rule"):
        return "bad"
    if status.kept:
        return "kept"
    if status.disabled:
        return "disabled"
    if status.problem:
        return "not running"
    return "observe" if status.observe else "ok"
