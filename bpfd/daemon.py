"""Puts the parts together: start, reload, stop. Knows no command line and no signals."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bpfd import action_keys, explanation, garbage, machine, memory
from bpfd.acting import Acting
from bpfd.acting_calls import ActingCalls
from bpfd.api.server import Server
from bpfd.catalogue import FieldsByTracer
from bpfd.control import ActionStatus, RuleExplanation, RuleStatus, State, Status, Subscription, TracerStatus
from bpfd.counters import Counters
from bpfd.errors import (
    ActionError,
    GivenUpError,
    LoadError,
    RuleError,
    RuleNotFoundError,
    SettingsError,
    UnknownTracerError,
)
from bpfd.live import Live
from bpfd.near_misses import NearMisses
from bpfd.plugin import one_line
from bpfd.plugins import load_plugins
from bpfd.reactions import Reactions
from bpfd.reload import IsBeingWritten, RulesWatch
from bpfd.rulebook import Rulebook
from bpfd.rules import steps
from bpfd.rules.check import Known
from bpfd.rules.model import Rule
from bpfd.rules.nearest import no_rule
from bpfd.settings import Settings
from bpfd.tracing import probes_here
from bpfd.version import VERSION
from bpfd.watching import Watching

log = logging.getLogger("bpfd")

STOP_S = 4.0
"""How long all of the end may take, of the 5 s that are promised."""
SWITCH_S = 0.001
"""How long a Python thread may keep the others waiting; the event thread is one of the others."""


class Shown(NamedTuple):
    """The rulebook as it was applied last, for questions that must not wait for a change."""

    rules: Mapping[str, Rule]
    problems: Mapping[str, tuple[str, ...]]
    kept: Mapping[str, str]
    bad_names: Mapping[str, str]
    idle: Mapping[str, tuple[str, ...]]
    """Sequences that can't become whole, and why: see `steps.idle`."""


class Daemon:
    """The whole daemon; implements `bpfd.control.Control`. `start` it once, `stop` it once, from one thread."""

    def __init__(self, settings: Settings, strict: bool = False) -> None:
        """`strict`: a bad rule file, or a tracer that does not load, is a reason not to start.

        Raises `ApiError` if the configured address is none.
        """
        self._settings, self._strict = settings, strict
        self._server = Server(self, settings.grpc_addr)
        self._counters = Counters()
        self._live = Live(settings.trace_queue)
        self._plugins = load_plugins()
        self._tracers = self._plugins.catalogue
        self._lock = threading.RLock()
        self._closing = ExitStack()
        self._snapshot = Shown({}, {}, {}, {}, {})
        self._reactions = Reactions(settings.observe)
        self._stopping = False
        self._started_ns = time.time_ns()

    def start(self) -> None:
        """Return when everything runs. Raises `BpfdError`, `GivenUpError` too, and then nothing is left behind."""
        with ExitStack() as undo:
            undo.callback(self.stop)
            memory.keep_little()
            with garbage.left_alone():
                self._begin()
            memory.give_back()
            undo.pop_all()

    def give_up(self) -> None:
        """Load nothing more, since the end is near: what waits for a compiler raises `GivenUpError`.

        Any thread; takes no lock, so that a signal's handler may call it.
        """
        self._stopping = True

    def stop(self) -> None:
        """End everything, last things first: within 5 s, whatever hangs."""
        self._stopping = True
        self._closing.close()
        garbage.look_at_all()

    def _begin(self) -> None:
        machine.check()
        sys.setswitchinterval(SWITCH_S)
        for problem in self._plugins.problems:
            log.error("%s", problem)
        self._check_names()
        machine.check_writable(self._settings.state_dir, "state_dir")
        self._make_acting()
        self._make_watching()
        self._watching.start()
        self._closing.callback(self._watching.stop)
        watch_rules = RulesWatch(self._settings.rules_dir, self.reload)  # first: what changes while it is read is told
        self._closing.callback(watch_rules.close)
        self._read_rules()
        with self._lock:  # who wants to change something waits until everything runs
            self._acting.restraint.apply = self._apply_again
            # First, so that a second daemon notices before its rules act on anything.
            self._server.start()
            self._closing.callback(self._server.stop, 1.0)
            self._actions.prepare(self._settings.default_actions)  # what is wrong there is said at once
            self._watching.follow_containers(self._wanted(self._enabled()))
            self._go_on()
            self._apply()
            watch_rules.start()
            self._closing.callback(watch_rules.stop)

    def _make_acting(self) -> None:
        """Make what comes after a match; alerts of a run before are sent from here on."""
        settings, reactions = self._settings, self._reactions
        self._acting = Acting(
            self._plugins.actions,
            settings.actions,
            settings.state_dir,
            self._counters,
            settings.action_queue,
            telling=reactions.telling,
            observes=reactions.observes,
            own=reactions.settings,
            names=reactions.names,
            default_actions=settings.default_actions,
            limits=settings.limits,
            protected=settings.protected,
        )
        self._closing.callback(self._acting.stop, 1.5)
        self._actions = self._acting.actions
        self.acting = ActingCalls(self._acting, lambda: self._snapshot.rules, self._tracers)

    def _make_watching(self) -> None:
        """Make what comes before a match."""
        self._watching = Watching(
            self._tracers,
            self._settings,
            self._counters,
            self._live.publish,
            self._actions.deliver,
            self._actions.responders,
            self._acting.note,
            given_up=lambda: self._stopping,
        )
        self._tracing, self._enforcement = self._watching.tracing, self._watching.enforcement
        self._near_misses = NearMisses(self._tracing, self._settings.trace_queue, self._apply_again)
        self._enforcement.beside = self._near_misses.judges
        self._counters.watch("trace.slow_client", lambda: self._live.lost + self._near_misses.lost)

    def _read_rules(self) -> None:
        """Read the directory and what the API left, and report what is bad. Raises `RuleError` if that is strict."""
        tracers, names = FieldsByTracer(self._tracers), self._actions.names()
        known = Known(tracers, names, self._actions.per_rule(), no_tracer=self._tracers.problem)
        self._rulebook = Rulebook(known, self._settings.rules_dir, self._settings.state_dir)
        self._go_on()
        self._rulebook.load()
        self._go_on()
        self._report_bad_rules()
        self._show_rules()

    def _go_on(self) -> None:
        """Raises `GivenUpError` if the end came before the start was over."""
        if self._stopping:
            raise GivenUpError("the daemon ends before it was ready")

    def _check_names(self) -> None:
        """Raises `SettingsError` for a tracer or default action of the configuration that nobody provides."""
        for tracer in self._settings.tracers:
            if problem := self._tracers.problem(tracer):
                raise SettingsError(f"tracers: {problem}")

    def _report_bad_rules(self) -> None:
        problems = [line for lines in self._rulebook.problems.values() for line in lines]
        for line in problems:
            log.error("%s", line)
        if problems and self._strict:
            raise RuleError(problems)

    def _enabled(self, held: Collection[str] = ()) -> list[Rule]:
        """The rules to be in force; for those among `held` the kernel does not act."""
        rules = [rule for rule in self._rulebook.rules.values() if rule.enabled]
        if self._settings.observe:  # the kernel would not ask whether it may
            held = {rule.name for rule in rules}
        return [replace(rule, where="user") if rule.where == "kernel" and rule.name in held else rule for rule in rules]

    def _show_rules(self) -> None:
        book = self._rulebook
        rules, kept = book.rules, book.kept
        idle = steps.idle(rules, self._tracing.failed)
        for name in sorted(idle.keys() - self._snapshot.idle.keys() - kept.keys()):  # of kept ones it was said before
            for line in idle[name]:
                log.error("%s", line)
        self._snapshot = Shown(rules, dict(book.problems), dict(kept), dict(book.bad_names), idle)

    def _wanted(self, rules: Collection[Rule]) -> set[str]:
        """The tracers that somebody wants; with no rule and no word in the configuration, the default ones."""
        wanted = {rule.tracer for rule in rules if rule.tracer} | set(self._settings.tracers)
        if not wanted and not self._rulebook.rules:
            wanted = {name for name, tracer in self._tracers.items() if tracer.default}
        return wanted

    def _apply(self, again: Collection[str] = ()) -> None:
        """Have the rulebook's rules judge: load and unload tracers, then put each tracer's rules in force.

        Tracers that failed before are tried again if they are among `again`.
        """
        held = self._acting.restraint.held()
        rules = self._enabled(held)
        self._reactions.apply(rules)
        self._actions.prepare(self._settings.default_actions)
        self._reactions.prepare(self._actions, rules)
        if self._strict and self._reactions.problems:
            raise ActionError("\n".join(self._reactions.lines()))
        self._tracing.want(self._wanted(rules), again)
        if self._strict and self._tracing.failed:
            raise LoadError("\n".join(self._tracing.failed.values()))
        self._watching.pipeline.keep = self._reactions.keep(rules)
        self._enforcement.apply(rules)
        self._acting.restraint.applied(held)
        self._show_rules()

    # Control

    def create_rule(self, toml: str, source: str, replace: bool) -> Rule:
        """Raises `RuleError`, `RuleExistsError`, `LoadError`, `ActionError`; then nothing has changed."""
        with self._lock, garbage.left_alone():
            rule = self._rulebook.parse(toml, source, replace)
            self._actions.prepare(rule.actions)
            self._actions.check(rule.settings)
            self._tracing.want(self._wanted([*self._enabled(), rule]), again={rule.tracer})
            if rule.tracer in self._tracing.failed:
                problem = self._tracing.failed[rule.tracer]
                self._apply()
                raise LoadError(problem)
            self._rulebook.add(rule)
            self._apply()
            return rule

    def remove_rule(self, name: str, tracer: str = "") -> None:
        with self._lock, garbage.left_alone():
            self._rulebook.remove(name, tracer)
            self._apply()

    def reload(self, is_being_written: IsBeingWritten | None = None) -> None:
        """Read the rules directory again; see `Rulebook.reload`. Raises `LoadError`.

        Without `is_being_written`, when somebody asks for it, tracers that failed are tried again.
        """
        with self._lock, garbage.left_alone():
            before = self._rulebook.problems
            self._rulebook.reload(is_being_written)
            self._report_changes(before)
            self._apply(again=() if is_being_written else self._tracing.failed)

    def _report_changes(self, before: Mapping[str, tuple[str, ...]]) -> None:
        """Say which files became bad since, and which are mended."""
        now, kept = self._rulebook.problems, self._rulebook.kept.values()
        for path, lines in now.items():
            if before.get(path) != lines:
                for line in lines:
                    log.error("%s", line)
                if path in kept:
                    log.error("%s: its last good version stays in force", path)
        for path in before.keys() - now.keys():
            log.info("%s: is no longer bad", path)

    def list_rules(self) -> list[RuleStatus]:
        shown = self._snapshot
        names, kept = shown.bad_names, {shown.kept[name] for name in shown.rules.keys() & shown.kept}
        bad = [
            RuleStatus(names.get(path) or Path(path).name.removesuffix(".toml"), "", None, path, "\n".join(lines))
            for path, lines in sorted(shown.problems.items())
            if path not in kept
        ]
        return [self._rule_status(rule, shown) for _, rule in sorted(shown.rules.items())] + bad

    def _rule_status(self, rule: Rule, shown: Shown) -> RuleStatus:
        judge, path = self._enforcement.judges.get(rule.name), shown.kept.get(rule.name, "")
        other = (self._tracing.failed.get(rule.tracer), self._reactions.problems.get(rule.name))
        problems = dict.fromkeys((*shown.problems.get(path, ()), *shown.idle.get(rule.name, ()), *filter(None, other)))
        return RuleStatus(
            rule.name,
            rule.tracer,
            rule,
            rule.source,
            "\n".join(problems),
            0 if judge is None else judge.matched,
            kept=bool(path),
        )

    def explain_rule(self, name: str) -> RuleExplanation:
        """Raises `RuleNotFoundError`. Waits for no change of the rules."""
        rule = self._snapshot.rules.get(name)
        if rule is None:
            raise RuleNotFoundError([no_rule(name, self._snapshot.rules)])
        tracer = self._tracers[rule.tracer] if rule.tracer else None
        return explanation.of_rule(rule, tracer, self._tracing.running.get(rule.tracer), self._enforcement)

    def list_tracers(self) -> list[TracerStatus]:
        running, failed = self._tracing.running, self._tracing.failed
        listed = []
        for name in sorted({*self._tracers, *running, *failed}):
            tracer = self._tracers[name]
            state: State = "running" if name in running else "failed" if name in failed else "not loaded"
            one = running.get(name)
            attached, problem = probes_here(tracer)
            listed.append(
                TracerStatus(
                    name,
                    one_line(tracer),
                    tracer.fields,
                    attached,
                    state,
                    failed.get(name, "") or problem,
                    self._watching.pipeline.received.get(name, 0),
                    one.program.lost if one and one.program else 0,
                )
            )
        return listed

    def list_actions(self) -> list[ActionStatus]:
        plugins = self._plugins.actions
        listed = [action_keys.status(name, action) for name, action in sorted(plugins.items())]
        for name in sorted(self._settings.actions.keys() - plugins.keys()):
            listed.append(action_keys.status(name, plugins[self._settings.actions[name]["type"]]))
        return listed

    def status(self) -> Status:
        shown = self._snapshot
        said = (*shown.problems.values(), *shown.idle.values())
        problems = [*dict.fromkeys(line for lines in said for line in lines)]
        problems += [*self._tracing.failed.values(), *self._reactions.lines()]
        problems += self._acting.problems()
        return Status(
            VERSION,
            self._watching.host,
            machine.kernel(),
            self._started_ns,
            tuple(self.list_tracers()),
            self._counters.table(),
            (*self._plugins.problems, *problems),
        )

    def subscribe(
        self, on_ready: Callable[[], None], rule: str = "", tracer: str = "", near_miss: bool = False
    ) -> Subscription:
        if tracer and (problem := self._tracers.problem(tracer)):
            raise UnknownTracerError(problem)
        if not near_miss:
            return self._live.subscribe(on_ready, rule, tracer)
        with self._lock:
            if rule not in self._rulebook.rules:
                raise RuleNotFoundError([no_rule(rule, self._rulebook.rules)])
            found = {one.name: one for one in self._enabled()}.get(rule)
            return self._near_misses.subscribe(on_ready, found, rule)

    def _apply_again(self) -> None:
        """Put the same rules in force once more, with what stands beside them."""
        if self._stopping:
            return  # whoever asks is not to wait for the lock
        with self._lock, garbage.left_alone():
            held = self._acting.restraint.held()
            self._enforcement.apply(self._enabled(held))
            self._acting.restraint.applied(held)
