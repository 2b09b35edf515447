"""How a rule of the daemon is judged and how it has fared, for whoever asks."""

from __future__ import annotations

from bpfd.control import RuleExplanation
from bpfd.enforcement import Enforcement
from bpfd.kernel import stats
from bpfd.plugin import AnyTracer, BPFTracer
from bpfd.rules import explain
from bpfd.rules.model import Rule
from bpfd.tracing import Running


def of_rule(
    rule: Rule, tracer: type[AnyTracer] | None, running: Running | None, enforcement: Enforcement
) -> RuleExplanation:
    """Explain `rule`, whose `tracer` is as it is `running` now; None: it has none, or does not run.

    Blocks for a second, while the kernel counts what the tracer's probes cost. Any thread.
    """
    fields = tracer.fields if tracer is not None else ()
    said = explain.of_rule(rule, fields, tracer is not None and issubclass(tracer, BPFTracer))
    judge = enforcement.judges.get(rule.name)
    program = running.program if running is not None else None
    reason = said.reason or (enforcement.in_the_way(rule.name) if program is not None else "")
    return RuleExplanation(
        rule.name,
        rule.tracer,
        not reason,
        reason,
        said.clauses,
        program.seen if program is not None else 0,
        program.passed if program is not None else 0,
        0 if judge is None else judge.matched,
        stats.cost_ns(program) if program is not None else 0.0,
    )
