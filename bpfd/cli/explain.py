"""`bpfd explain RULE|FILE`: what of a rule runs in the kernel, what in Python, and why. A file needs no root."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bpfd.cli.command import Commands, add_json_flag
from bpfd.cli.daemon_client import connect
from bpfd.cli.known import add_config_flag, catalogue_and_known, settings_of
from bpfd.cli.output import print_json
from bpfd.counted import counted
from bpfd.errors import RuleError
from bpfd.event import printable, utf8

if TYPE_CHECKING:
    from bpfd.api import bpfd_pb2
    from bpfd.rules.explain import Explanation


def add(commands: Commands) -> None:
    parser = commands.add("explain", "say what of a rule runs in the kernel, what in Python, and why", run)
    parser.add_argument("rule", metavar="RULE|FILE", help="a rule's file (needs no daemon), or a rule of the daemon")
    add_json_flag(parser)
    add_config_flag(parser)


def run(args: argparse.Namespace) -> int:
    if args.rule.endswith(".toml") or "/" in args.rule:
        _explain_file(args)
        return 0
    with connect(args) as client:
        said = client.explain_rule(utf8(args.rule))
    if args.json:
        counts = {"seen": said.seen, "passed": said.passed, "matched": said.matched, "probeNs": said.probe_ns}
        print_json({**_as_dict(said.name, said.tracer, said), **counts})
    else:
        _show(said.name, said.tracer, said)
        _show_counts(said)
    return 0


def _explain_file(args: argparse.Namespace) -> None:
    """Raises RuleError: the file is bad, or holds no rule."""
    from bpfd.plugin import BPFTracer
    from bpfd.rules.directory import load_file
    from bpfd.rules.explain import of_rule

    catalogue, names = catalogue_and_known(settings_of(args))
    loaded = load_file(Path(args.rule), names)
    if loaded.problems:
        raise RuleError([line for lines in loaded.problems.values() for line in lines])
    if not loaded.rules:
        raise RuleError([f"{args.rule}: holds macros and lists only; name the file of a rule"])
    for rule in loaded.rules:
        tracer = catalogue[rule.tracer] if rule.tracer else None
        fields = tracer.fields if tracer is not None else ()
        said = of_rule(rule, fields, tracer is not None and issubclass(tracer, BPFTracer))
        if args.json:
            print_json(_as_dict(rule.name, rule.tracer, said))
        else:
            _show(rule.name, rule.tracer, said)


def _show(name: str, tracer: str, said: Explanation | bpfd_pb2.ExplainRuleResponse) -> None:
    verdict = "the kernel decides it alone"
    if not said.exact:
        share = "the kernel sorts out what it can, Python decides" if _any_in_kernel(said) else "Python decides"
        verdict = f"{share}: {said.reason}"
    print(f"{printable(name)} ({printable(tracer) or '-'}): {printable(verdict)}")
    for clause in said.clauses:
        reason = f": {clause.reason}" if clause.reason else ""
        print(f"  {'kernel' if clause.in_kernel else 'Python'}  {printable(clause.text + reason)}")


def _any_in_kernel(said: Explanation | bpfd_pb2.ExplainRuleResponse) -> bool:
    return any(clause.in_kernel for clause in said.clauses)


def _show_counts(said: bpfd_pb2.ExplainRuleResponse) -> None:
    cost = (
        f"{said.probe_ns:.0f} ns an event in the kernel" if said.probe_ns else "its cost was not counted: no event came"
    )
    print(f"  {counted(said.seen, 'event')} seen, {said.passed} passed by the kernel, {said.matched} matched; {cost}")


def _as_dict(name: str, tracer: str, said: Explanation | bpfd_pb2.ExplainRuleResponse) -> dict[str, object]:
    return {
        "name": name,
        "tracer": tracer,
        "exact": said.exact,
        "reason": said.reason,
        "clauses": [
            {"text": clause.text, "inKernel": clause.in_kernel, "reason": clause.reason} for clause in said.clauses
        ],
    }
