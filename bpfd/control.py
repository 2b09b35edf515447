"""What the API may ask of the daemon, and the plain data that it answers with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from bpfd.event import Event
from bpfd.ledger import Entry
from bpfd.mutes import Mute
from bpfd.plugin import Field
from bpfd.rules.explain import Clause
from bpfd.rules.model import Rule


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """A rule, or a file that would be one, and how it fares."""

    name: str
    tracer: str
    rule: Rule | None
    """None: the file is bad; `problem` says why."""
    source: str
    problem: str = ""
    """Lines joined with newlines: the file's problems, or why the rule's tracer does not run. Empty: all is well."""
    matched: int = 0
    kept: bool = False
    """The file became bad, `problem` says why; its last good version is in force."""


State = Literal["running", "not loaded", "failed"]


@dataclass(frozen=True, slots=True)
class TracerStatus:
    name: str
    doc: str
    fields: tuple[Field, ...]
    probes: tuple[str, ...]
    state: State
    problem: str = ""
    received: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class ActionStatus:
    name: str
    doc: str
    responds: bool
    settings: Mapping[str, str] = field(default_factory=dict)
    per_rule: tuple[str, ...] = ()
    """Those that a rule may set by itself."""


@dataclass(frozen=True, slots=True)
class Status:
    version: str
    host: str
    kernel: str
    started: int
    """Wall clock, nanoseconds since 1970."""
    tracers: tuple[TracerStatus, ...]
    counters: Mapping[str, int]
    problems: tuple[str, ...]
    """What is wrong now: bad rule files, tracers that failed, plugins that were left out."""


@dataclass(frozen=True, slots=True)
class RuleExplanation:
    """What of a rule runs in the kernel, and how it has fared."""

    name: str
    tracer: str
    exact: bool
    """The kernel decides it alone, among the tracer's other rules."""
    reason: str
    """If not: the clause that is in the way, and why."""
    clauses: tuple[Clause, ...]
    seen: int = 0
    """Events that the tracer's probes saw."""
    passed: int = 0
    """Of these, events that the kernel let through, for whatever rule."""
    matched: int = 0
    """Of these, events on which this rule fired."""
    probe_ns: float = 0.0
    """Nanoseconds that one of the tracer's probes takes, by the kernel's count; 0: not counted."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How it went to send a sample through an action."""

    delivered: bool
    problem: str
    seconds: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An alert that was given up."""

    id: str
    action: str
    rule: str
    time: int
    """Of the event: wall clock, nanoseconds since 1970."""
    tries: int
    problem: str


class ActingControl(Protocol):
    """What may be asked of all that acts. Every method may be called from any thread."""

    def responses(self, limit: int) -> list[Entry]:
        """The newest responses, at most `limit`, the oldest of them first."""

    def test_action(self, name: str) -> Trial:
        """Send a sample through a notifier of that name; waits for the receiver."""

    def dead_letters(self, action: str = "") -> list[DeadLetter]:
        """Alerts that were given up, all or those of one action, the oldest first. Raises `ActionNotFoundError`."""

    def retry_dead_letters(self, action: str = "") -> int:
        """Have dead letters sent again; how many. Raises `ActionNotFoundError`."""

    def create_mute(self, rule: str, where: Mapping[str, str], for_ns: int, why: str) -> Mute:
        """Hide matches of a rule for a while. Raises `RuleNotFoundError`, `RuleError` (a field), `MuteError`."""

    def remove_mute(self, mute_id: str) -> None:
        """Raises `MuteNotFoundError`."""

    def mutes(self) -> list[Mute]:
        """Those in force, the oldest first."""


class Subscription(Protocol):
    """One client's own bounded queue of matched events."""

    def take(self) -> tuple[list[Event], int]:
        """All that waits, oldest first, and how many events were lost since the last call. Any thread; never blocks."""

    def missed(self, event: Event) -> str:
        """Of a near miss: the clause that `event` failed, in words; else empty. Any thread."""

    def close(self) -> None:
        """End it; idempotent. May take as long as a change of the rules."""


class Control(Protocol):
    """Every method may be called from any thread, and may take as long as a compile."""

    def create_rule(self, toml: str, source: str, replace: bool) -> Rule:
        """Add one rule; it is in force when this returns, and kept over a restart.

        `source` stands in messages, and its stem names a rule that has no name. Raises `RuleError` (bad rule),
        `RuleExistsError` (name in use without `replace`), `LoadError` (the tracer does not load).
        """

    def remove_rule(self, name: str, tracer: str = "") -> None:
        """Raises `RuleNotFoundError` if there is no rule of that name (and tracer, if given)."""

    def list_rules(self) -> list[RuleStatus]: ...

    def explain_rule(self, name: str) -> RuleExplanation:
        """Raises `RuleNotFoundError`. Takes a second."""

    def list_tracers(self) -> list[TracerStatus]: ...

    def list_actions(self) -> list[ActionStatus]: ...

    def status(self) -> Status: ...

    @property
    def acting(self) -> ActingControl: ...

    def subscribe(
        self, on_ready: Callable[[], None], rule: str = "", tracer: str = "", near_miss: bool = False
    ) -> Subscription:
        """Follow matched events, of one rule or tracer if named; with `near_miss`, what missed `rule` by one clause.

        Raises `UnknownTracerError`; with `near_miss`, `RuleNotFoundError`, and `RuleError` where there can be none.

        `on_ready` is called on the event path when a queue that was empty no longer is: it must return at once.
        """
