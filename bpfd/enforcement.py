"""Puts a set of rules in force: in the kernel, in the pipeline, and in what follows a match."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from bpfd.errors import LoadError
from bpfd.event import Event
from bpfd.judges import Follower, Judge, JudgeSet, keys_of
from bpfd.kernel import image
from bpfd.kernel.program import Program
from bpfd.kernel.record import KERNEL_ACTION
from bpfd.pipeline import Pipeline
from bpfd.rules import model, plan, predicate, window
from bpfd.rules.model import Rule
from bpfd.tracing import Tracing

log = logging.getLogger("bpfd.enforcement")

DeliverTo = Callable[[tuple[str, ...], list[Event]], None]


class Enforcement:
    """Keeps the judges of all tracers. `apply` is called by one thread at a time; `judges` may be read by any."""

    def __init__(
        self,
        tracing: Tracing,
        pipeline: Pipeline,
        deliver: DeliverTo,
        default_actions: tuple[str, ...],
        responders: Callable[[tuple[str, ...]], tuple[str, ...]],
        note: Callable[[list[Event]], None] = lambda events: None,
    ) -> None:
        """`responders` picks those of some actions that a rule that observes has too: they say what they would do.

        `note` is told of what the kernel did; on the event thread, like `deliver`.
        """
        self._tracing, self._pipeline, self._deliver = tracing, pipeline, deliver
        self._default_actions = default_actions
        self._responders = responders
        self._note = note
        self._generation = 0
        self._applied: dict[str, tuple[Program | None, tuple[Judge, ...]]] = {}
        self._planners: dict[str, plan.Planner] = {}
        self.beside: Callable[[Collection[Rule]], list[Judge]] = lambda rules: []
        """Gives judges that are no rules, to stand beside those of the rules."""
        self.judges: Mapping[str, Judge] = {}
        """By rule."""
        self.plans: Mapping[str, plan.Plan] = {}
        """By tracer: what its rules became; its numbers are those of the tracer's judges in order."""

    def apply(self, rules: Collection[Rule]) -> None:
        """Have `rules` judge every event from now on, for tracers that run. Changes what differs from before.

        Raises `LoadError` if the kernel has no memory for the tables; the tracer's rules before stay in force.
        """
        judges = {rule.name: self._judge(rule) for rule in rules}
        _follow(judges)
        by_tracer: dict[str, list[Judge]] = {name: [] for name in self._tracing.running}
        for judge in judges.values():
            if judge.tracer in by_tracer:
                by_tracer[judge.tracer].append(judge)
        self.judges = judges
        beside = self.beside(rules)
        for tracer, listed in by_tracer.items():
            more = [judge for judge in beside if judge.tracer == tracer]
            self._put_in_force(tracer, (*(listed or (self._pass_all(tracer),)), *more))
        self._applied = {tracer: applied for tracer, applied in self._applied.items() if tracer in by_tracer}
        self._planners = {tracer: planner for tracer, planner in self._planners.items() if tracer in by_tracer}
        self._tracing.begin()

    def in_the_way(self, rule: str) -> str:
        """What keeps the kernel from deciding `rule` alone beside the tracer's others; empty: nothing. Any thread."""
        judge = self.judges.get(rule)
        planned = self.plans.get(judge.tracer) if judge is not None else None
        applied = self._applied.get(judge.tracer) if judge is not None else None
        if judge is None or planned is None or applied is None or judge not in applied[1]:
            return ""
        return planned.inexact.get(applied[1].index(judge), "")

    def _put_in_force(self, tracer: str, judges: tuple[Judge, ...]) -> None:
        program = self._tracing.running[tracer].program
        before = self._applied.get(tracer)
        if before is not None and before[0] is program and _same(before[1], judges):
            return
        self._generation += 1
        if program is None:
            self._pipeline.judge_by(tracer, self._generation, JudgeSet(judges))
        else:
            fields = self._tracing.known[tracer].fields
            in_kernel = [number for number, judge in enumerate(judges) if _acts_in_kernel(judge)]
            planner = self._planners.setdefault(tracer, plan.Planner(fields))
            planned = planner.make([judge.condition for judge in judges], in_kernel)
            laid_out = image.lay_out(planned, fields, self._generation, _signals(judges, planned))
            self._pipeline.judge_by(tracer, self._generation, JudgeSet(judges, planned.rules_of))
            try:
                program.judge_by(laid_out)
            except OSError as error:
                raise LoadError(f'tracer "{tracer}": its rules have no room in the kernel: {error.strerror}') from None
            self.plans = {**self.plans, tracer: planned}
        self._applied[tracer] = (program, judges)

    def _pass_all(self, tracer: str) -> Judge:
        """A tracer that runs without a rule passes everything."""
        return Judge("", tracer, None, self._deliver_to(self._default_actions))

    def _judge(self, rule: Rule) -> Judge:
        """The judge of `rule`; the same as before if the rule is, so that its counts go on."""
        before = self.judges.get(rule.name)
        if before is not None and (before.source is rule or before.source == rule):
            return before
        wants = None
        if rule.tracer:
            wants = predicate.compile(rule.condition, self._tracing.known[rule.tracer].fields)
        names = rule.actions or self._default_actions
        if rule.mode == "observe":
            names = self._responders(names)
        deliver = self._deliver_to(names)
        if rule.where == "kernel":
            deliver = self._deliver_the_rest(names)
        judge = Judge(rule.name, rule.tracer, wants, deliver, rule.condition, rule)
        if before is not None and before.source == replace(rule, where="user" if rule.where == "kernel" else "kernel"):
            judge.matched = before.matched  # the same rule, held or let go
        if isinstance(rule.window, model.Count):
            judge.counter, judge.key = window.Counter(rule.window), window.key_of(rule.window.by)
        return judge

    def _deliver_to(self, names: tuple[str, ...]) -> Callable[[list[Event]], None]:
        deliver = self._deliver
        return lambda events: deliver(names, events)

    def _deliver_the_rest(self, names: tuple[str, ...]) -> Callable[[list[Event]], None]:
        """What the kernel has done is not done again; what it could not do (a text too long for it) is done here."""
        others = tuple(name for name in names if name not in model.SIGNALS)
        to_all, to_others = self._deliver_to(names), self._deliver_to(others)

        def deliver(events: list[Event]) -> None:
            done = [event for event in events if KERNEL_ACTION in event.data]
            if done:
                self._note(done)
                to_others(done)
            if len(done) < len(events):
                to_all([event for event in events if KERNEL_ACTION not in event.data])

        return deliver


def _acts_in_kernel(judge: Judge) -> bool:
    return judge.source is not None and judge.source.where == "kernel"


def _signals(judges: tuple[Judge, ...], planned: plan.Plan) -> dict[str, int]:
    """For each signal the bits of the rules that have the kernel send it: those alone that it decides by itself."""
    signals = dict.fromkeys(model.SIGNALS, 0)
    for number, judge in enumerate(judges):
        if judge.source is not None and _acts_in_kernel(judge):
            for name in signals.keys() & set(judge.source.actions):
                signals[name] |= planned.exact_bits.get(number, 0)
    return signals


def _same(before: Iterable[Judge], now: Iterable[Judge]) -> bool:
    """Do the same judges judge? One that passes everything is made anew each time, and judges as the last did."""
    return [judge.source for judge in before] == [judge.source for judge in now]


def _follow(judges: Mapping[str, Judge]) -> None:
    """Tell each judge of the sequences that its rule is a step of."""
    followers: dict[str, list[Follower]] = {name: [] for name in judges}
    for judge in judges.values():
        rule = judge.source
        if rule is not None and isinstance(rule.window, model.Sequence):
            follower = Follower(judge, window.Sequence(rule.window), keys_of(rule.window.by))
            for step in set(rule.window.rules) & followers.keys():
                followers[step].append(follower)
    for name, judge in judges.items():
        judge.followers = tuple(followers[name])
