"""The rules in force: who is asked about an event, and who is told of a match."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bpfd import process
from bpfd.errors import TargetGoneError
from bpfd.event import Event
from bpfd.rules import model, window
from bpfd.rules.model import All, Condition, Rule
from bpfd.rules.predicate import Predicate

MOST_CACHED = 4096
"""How many different sets of candidates are remembered."""
GENERATIONS = 8
"""How many sets of rules are kept for records that were judged by them and still lie in the ring."""
MOST_ANCESTORS = 64

Deliver = Callable[[list[Event]], None]
EVERYTHING = All()


@dataclass(slots=True, eq=False)
class Judge:
    """A rule in force: whether it wants an event, and who gets it. The event thread works on it, others only look."""

    rule: str
    tracer: str
    wants: Predicate | None
    """None: everything."""
    deliver: Deliver
    condition: Condition = EVERYTHING
    source: Rule | None = None
    """What it was made from; None for a tracer without rules."""
    counter: window.Counter | None = None
    key: Callable[[Event], Hashable] | None = None
    followers: tuple[Follower, ...] = ()
    is_rule: bool = True
    """False: it only looks for somebody, and `deliver` alone is told."""
    matched: int = 0
    """How often it fired."""
    batch: list[Event] = field(default_factory=list)

    def fired(self) -> list[Event]:
        """What matched since the last call, less what only counts towards a `count`."""
        batch, self.batch = self.batch, []
        if self.counter is not None and self.key is not None:
            counter, key = self.counter, self.key
            batch = [event for event in batch if counter.feed(key(event), event.time)]
        self.matched += len(batch)
        return batch


@dataclass(slots=True, eq=False)
class Follower:
    """A sequence rule, told of every match of the rules that are its steps."""

    judge: Judge
    sequence: window.Sequence
    keys: Callable[[Event], Sequence[Hashable]]

    def completes(self, rule: str, event: Event) -> bool:
        """Whether the sequence fires as `rule` matches `event`."""
        return self.sequence.feed(rule, self.keys(event), event.time)


class JudgeSet:
    """The judges of one tracer in one set of rules, by the bits that the kernel leaves of its candidates."""

    def __init__(self, judges: Sequence[Judge], rules_of: Sequence[Sequence[int]] = ()) -> None:
        """`rules_of` gives, for each bit, the numbers of the judges; empty: the kernel does not tell."""
        self.all = tuple(judges)
        self._rules_of = rules_of
        self._among: dict[int, tuple[Judge, ...]] = {}

    def among(self, candidates: int) -> tuple[Judge, ...]:
        """Those that the kernel has not ruled out. Hot path: usually a dict hit."""
        found = self._among.get(candidates)
        if found is None:
            found = self._find(candidates)
            if len(self._among) >= MOST_CACHED:
                self._among.clear()
            self._among[candidates] = found
        return found

    def _find(self, candidates: int) -> tuple[Judge, ...]:
        numbers = {number for bit, rules in enumerate(self._rules_of) if candidates >> bit & 1 for number in rules}
        if not self._rules_of or len(numbers) == len(self.all):
            return self.all
        return tuple(self.all[number] for number in sorted(numbers))


Sets = Mapping[int, JudgeSet]
"""By generation; 0 is the newest, for records that no set of rules has judged."""


def with_newest(sets: Sets, generation: int, newest: JudgeSet) -> Sets:
    """A copy of `sets` with one more, and without those that are too old to be met."""
    kept = {number: judges for number, judges in sets.items() if number and number > generation - GENERATIONS}
    return {**kept, generation: newest, 0: newest}


Step = tuple[Event, Judge]
"""A match of a rule that sequences follow."""


def hand_over(judges: Iterable[Judge], publish: Deliver) -> list[Step]:
    """Give what was judged to those who asked for it, and return what `follow` is to be told. Once a batch: waking a
    thread costs more than an event.
    """
    steps: list[Step] = []
    for judge in judges:
        if not judge.batch:
            continue
        events = judge.fired()
        if not events:
            continue
        judge.deliver(events)
        if judge.is_rule:
            publish(events)
            if judge.followers:
                steps += [(event, judge) for event in events]
    return steps


def follow(steps: list[Step], publish: Deliver) -> None:
    """Tell sequences of the matches of their rules, in the order in which these happened, whichever rule was asked
    first. A sequence that fires is a step of those that follow it.
    """
    while steps:
        steps.sort(key=lambda step: step[0].time)
        completed: dict[Judge, list[Event]] = {}
        for event, judge in steps:
            for follower in judge.followers:
                if follower.completes(judge.rule, event):
                    completed.setdefault(follower.judge, []).append(event._replace(rule=follower.judge.rule))
        steps = []
        for judge, events in completed.items():
            judge.matched += len(events)
            judge.deliver(events)
            publish(events)
            if judge.followers:
                steps += [(event, judge) for event in events]


def keys_of(by: model.Kin) -> Callable[[Event], Sequence[Hashable]]:
    """What tells runs of a sequence apart: the container, or the process, with its ancestors for a tree.

    A process's start is taken in ticks, since that is how /proc tells it of ancestors.
    """
    if by == "container":
        return lambda event: (event.container.id,) if event.container.id else ()
    if by == "process":
        return lambda event: ((event.pid, event.start // process.TICK_NS),)
    return lambda event: ((event.pid, event.start // process.TICK_NS), *_ancestors(event.ppid))


def _ancestors(pid: int) -> list[Hashable]:
    found: list[Hashable] = []
    while pid > 1 and len(found) < MOST_ANCESTORS:
        try:
            stat = process.read_stat(pid)
        except (TargetGoneError, OSError):
            break
        found.append((pid, stat.start_tick))
        pid = stat.ppid
    return found
