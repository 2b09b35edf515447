"""A daemon without a kernel: what the API and the commands are tested against."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

import tomli

from bpfd.control import ActionStatus, DeadLetter, RuleExplanation, RuleStatus, Status, TracerStatus, Trial
from bpfd.errors import MuteNotFoundError, RuleError, RuleExistsError, RuleNotFoundError
from bpfd.event import Container, Event
from bpfd.ledger import Entry
from bpfd.mutes import Mute
from bpfd.plugin import Field
from bpfd.rules.explain import Clause
from bpfd.rules.model import Rule

EVENT = Event(
    time=1_700_000_000_123_456_789,
    tracer="open",
    pid=41,
    tid=42,
    ppid=40,
    uid=1000,
    gid=1001,
    command="cat",
    return_value=-13,
    data={"filename": "/etc/shadow"},
    container=Container("c0ffee", "docker", "web", "nginx:1", {"team": "red"}),
    rule="shadow",
    host="box",
)

TRACER = TracerStatus(
    "open",
    "Files opened",
    (Field("filename", "The name as passed", example="/etc/shadow"), Field("size", "Bytes", type="u64", optional=True)),
    ("tracepoint:syscalls:sys_exit_openat",),
    "running",
    received=7,
    lost=1,
)


class FakeSubscription:
    """A bounded queue that drops its oldest."""

    def __init__(self, control: FakeControl, on_ready: Callable[[], None], rule: str, tracer: str, size: int) -> None:
        self._control = control
        self.on_ready = on_ready
        self.rule = rule
        self.tracer = tracer
        self._size = size
        self._queue: deque[Event] = deque()
        self._lost = 0
        self._lock = threading.Lock()

    def put(self, event: Event) -> None:
        with self._lock:
            was_empty = not self._queue
            if len(self._queue) == self._size:
                self._queue.popleft()
                self._lost += 1
            self._queue.append(event)
        if was_empty:
            self.on_ready()

    def take(self) -> tuple[list[Event], int]:
        with self._lock:
            events, lost = list(self._queue), self._lost
            self._queue.clear()
            self._lost = 0
        return events, lost

    def missed(self, event: Event) -> str:
        return f'command is "{event.command}x"'

    def close(self) -> None:
        self._control.subscriptions.discard(self)


class FakeActing:
    """Implements ActingControl over lists."""

    def __init__(self, control: FakeControl) -> None:
        self._control = control
        self.entries: list[Entry] = []
        self.letters: list[DeadLetter] = []
        self.muted: list[Mute] = []
        self.trials: dict[str, Trial] = {}

    def responses(self, limit: int) -> list[Entry]:
        self._control.fail()
        return self.entries[-limit:]

    def test_action(self, name: str) -> Trial:
        self._control.fail()
        return self.trials[name]

    def dead_letters(self, action: str = "") -> list[DeadLetter]:
        return [letter for letter in self.letters if action in ("", letter.action)]

    def retry_dead_letters(self, action: str = "") -> int:
        again = self.dead_letters(action)
        self.letters = [letter for letter in self.letters if letter not in again]
        return len(again)

    def create_mute(self, rule: str, where: Mapping[str, str], for_ns: int, why: str) -> Mute:
        self._control.fail()
        mute = Mute(
            f"m{len(self.muted)}", rule, dict(where), 1_700_000_000 * 10**9 + for_ns, why, 1_700_000_000 * 10**9
        )
        self.muted.append(mute)
        return mute

    def remove_mute(self, mute_id: str) -> None:
        before = len(self.muted)
        self.muted = [mute for mute in self.muted if mute.id != mute_id]
        if len(self.muted) == before:
            raise MuteNotFoundError(f'there is no mute "{mute_id}"; bpfd mutes lists them')

    def mutes(self) -> list[Mute]:
        return self.muted


class FakeControl:
    """Implements Control. `error` is raised by every method.

    `gate`, once cleared, holds every change; `waiting` says how many rules wait to be created.
    """

    def __init__(self) -> None:
        self.rules: dict[str, Rule] = {}
        self.bad: list[RuleStatus] = []
        self.subscriptions: set[FakeSubscription] = set()
        self.acting = FakeActing(self)
        self.queue_size = 1000
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = 0

    def create_rule(self, toml: str, source: str, replace: bool) -> Rule:
        self.waiting += 1
        self.gate.wait(20)
        self.waiting -= 1
        self._fail()
        table = tomli.loads(toml)
        name = table.get("name", source)
        if name in self.rules and not replace:
            raise RuleExistsError([f"{source}: name: {name!r} is in use; choose another, or --replace it"])
        rule = Rule(
            name,
            table["tracer"],
            tuple(table.get("actions", ())),
            runtimes=tuple(table.get("containerRuntimes", ())),
            filters={key: tuple(value["values"]) for key, value in table.get("filterEvents", {}).items()},
            source=source,
            text=toml,
        )
        self.rules[name] = rule
        return rule

    def remove_rule(self, name: str, tracer: str = "") -> None:
        self.gate.wait(20)
        self._fail()
        if name not in self.rules or tracer not in ("", self.rules[name].tracer):
            raise RuleNotFoundError([f"{name}: no rule of that name; see bpfd ls"])
        del self.rules[name]

    def list_rules(self) -> list[RuleStatus]:
        self._fail()
        good = [RuleStatus(rule.name, rule.tracer, rule, rule.source, matched=3) for rule in self.rules.values()]
        return [*good, *self.bad]

    def explain_rule(self, name: str) -> RuleExplanation:
        self._fail()
        if name not in self.rules:
            raise RuleNotFoundError([f"{name}: no rule of that name; see bpfd ls"])
        clauses = (Clause('path is "/etc/shadow"', True), Clause('user is "root\x1b"', False, "only Python knows"))
        return RuleExplanation(
            name, self.rules[name].tracer, False, "user is: only Python knows", clauses, 9, 4, 3, 187.4
        )

    def list_tracers(self) -> list[TracerStatus]:
        self._fail()
        return [TRACER, replace(TRACER, name="exec", state="failed", problem="exec: no tracefs; mount it")]

    def list_actions(self) -> list[ActionStatus]:
        self._fail()
        return [ActionStatus("kill", "Kills the process", True), ActionStatus("log", "Tells", False, {"path": "Where"})]

    def status(self) -> Status:
        self._fail()
        return Status(
            "0.1.0", "box", "6.1", 1_700_000_000 * 10**9, (TRACER,), {"trace.lost": 5}, ("rules/x.toml: bad",)
        )

    def subscribe(
        self, on_ready: Callable[[], None], rule: str = "", tracer: str = "", near_miss: bool = False
    ) -> FakeSubscription:
        self._fail()
        if near_miss and rule not in self.rules:
            raise RuleError([f"{rule}: no rule of that name; see bpfd ls"])
        subscription = FakeSubscription(self, on_ready, rule, tracer, self.queue_size)
        self.subscriptions.add(subscription)
        return subscription

    def publish(self, event: Event) -> None:
        """Give `event` to every client that wants it, on this thread."""
        for subscription in list(self.subscriptions):
            if subscription.rule in ("", event.rule) and subscription.tracer in ("", event.tracer):
                subscription.put(event)

    def wait_for_clients(self, count: int) -> None:
        """Until exactly `count` clients follow; fails after half a minute."""
        deadline = time.monotonic() + 30
        while len(self.subscriptions) != count:
            assert time.monotonic() < deadline, f"{len(self.subscriptions)} clients follow, not {count}"
            time.sleep(0.005)

    def fail(self) -> None:
        self._fail()

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error
