"""How actions are run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from bpfd import runner as runner_module
from bpfd.counters import Counters
from bpfd.errors import ActionError, RefusedError, SettingsError, TargetGoneError
from bpfd.event import Event
from bpfd.plugin import Action
from bpfd.respond import Actions
from bpfd.runner import ActionRunner


def event(pid: int = 7, age_s: float = 0) -> Event:
    return Event(time.time_ns() - int(age_s * 1e9), "t", pid, pid, 1, 0, 0, "c", 0)


class Recorder(Action):
    """Keep what it is given."""

    name = "recorder"
    settings = {"color": "any"}

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.seen: list[Event] = []
        self.batches: list[int] = []
        self.closed = 0
        if settings.get("color") == "red":
            raise ActionError("color: must not be red")

    def act(self, event: Event) -> None:
        self.seen.append(event)

    def close(self) -> None:
        self.closed += 1


class Batcher(Recorder):
    """Keep what it is given, by batch."""

    def act_on_batch(self, events: list[Event]) -> None:
        self.batches.append(len(events))
        self.seen += events


class Responder(Recorder):
    """Fail as the pid says."""

    name = "responder"
    responds = True

    def act(self, event: Event) -> None:
        if event.pid in ERRORS:
            raise ERRORS[event.pid]
        super().act(event)


ERRORS: dict[int, Exception] = {1: TargetGoneError("gone"), 2: RefusedError("refused"), 3: ValueError("bad")}


class Hanging(Recorder):
    """Wait until let go."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def act(self, event: Event) -> None:
        self.entered.set()
        self.let_go.wait()
        super().act(event)


Run = Callable[..., ActionRunner]


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def run(counters: Counters) -> Iterator[Run]:
    runners: list[ActionRunner] = []

    def _run(action: Action, queue_size: int = 1000) -> ActionRunner:
        runners.append(ActionRunner("a", action, counters, queue_size))
        return runners[-1]

    yield _run
    for runner in runners:
        if isinstance(runner.action, Hanging):
            runner.action.let_go.set()
        runner.stop(5)
        assert not runner._thread.is_alive()


def test_events_arrive_in_order_and_the_action_is_closed_once(run: Run, counters: Counters) -> None:
    action = Recorder({})
    runner = run(action)
    for pid in range(100):
        runner.put([event(pid)])
    runner.stop(5)
    assert [e.pid for e in action.seen] == list(range(100))
    assert action.closed == 1
    assert counters.table() == {"action.a.done": 100}
    assert runner.waiting == 0


def test_a_notifier_that_can_takes_many_at_once(run: Run) -> None:
    action = Batcher({})
    runner = run(action, queue_size=10_000)
    runner.put([event()] * 3000)
    runner.stop(5)
    assert action.batches == [1024, 1024, 952]


def test_a_full_queue_drops_the_newest_and_counts_them(run: Run, counters: Counters) -> None:
    action = Hanging({})
    runner = run(action, queue_size=10)
    runner.put([event(0)])
    assert action.entered.wait(5)
    runner.put([event(pid) for pid in range(1, 15)])
    runner.put([event(99)])
    assert counters.table()["action.a.dropped"] == 8
    action.let_go.set()
    runner.stop(5)
    assert [e.pid for e in action.seen] == list(range(8))
    assert counters.table()["action.a.done"] == 8


def test_a_noisy_rule_leaves_room_in_the_queue_and_a_severe_one_gets_more_of_it(counters: Counters) -> None:
    action = Hanging({})
    severity = {"noisy": "notice", "quiet": "notice", "breach": "critical"}
    runner = ActionRunner("a", action, counters, 1000, severity=lambda rule: severity[rule])
    for rule in severity:
        for _ in range(200):
            runner.put([event()._replace(rule=rule)] * 10)
    kept = dict(runner._entered_of)
    assert 750 < kept["noisy"] <= 800
    assert 100 < kept["quiet"] < kept["noisy"] / 4
    assert kept["breach"] > 0.9 * (1000 - kept["noisy"] - kept["quiet"])
    table = counters.table()
    assert table["alerts.given_up.notice"] == 4000 - kept["noisy"] - kept["quiet"]
    assert table["alerts.given_up.critical"] == 2000 - kept["breach"]
    assert table["action.a.dropped"] == 6000 - sum(kept.values())
    action.let_go.set()
    runner.stop(10)
    assert len(action.seen) == sum(kept.values())
    assert runner._left_of == kept
    runner.put([event()._replace(rule="quiet")] * 10)
    assert runner.waiting == 10


def test_rules_that_come_and_go_are_forgotten_once_nothing_waits(
    run: Run, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "_MOST_RULES", 10)
    action = Recorder({})
    runner = run(action, queue_size=1000)
    for number in range(100):
        runner.put([event()._replace(rule=f"rule {number}")])
        deadline = time.monotonic() + 10
        while runner.waiting:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    assert len(runner._entered_of) <= 11
    assert runner._left_of == runner._entered_of
    runner.stop(5)
    assert len(action.seen) == 100
    assert counters.table().get("action.a.dropped", 0) == 0


def test_putting_never_waits_for_an_action_that_hangs(run: Run) -> None:
    action = Hanging({})
    runner = run(action, queue_size=5000)
    batch = [event()]
    began = time.perf_counter()
    for _ in range(10_000):
        runner.put(batch)
    assert time.perf_counter() - began < 1


def test_what_an_action_raises_is_counted_and_stops_nothing(
    run: Run, counters: Counters, caplog: pytest.LogCaptureFixture
) -> None:
    action = Responder({})
    runner = run(action)
    runner.put([event(pid) for pid in (1, 2, 3, 3, 3, 4)])
    runner.stop(5)
    assert [e.pid for e in action.seen] == [4]
    assert counters.table() == {
        "action.a.done": 1,
        "action.a.failed": 3,
        "action.a.gone": 1,
        "action.a.refused": 1,
    }
    assert caplog.messages == [
        "action a: refused",
        "action a: ValueError: bad",
        "action a: 2 more errors like these",
    ]


def test_an_action_that_fails_in_many_ways_does_not_flood_the_log(
    run: Run, counters: Counters, caplog: pytest.LogCaptureFixture
) -> None:
    class Various(Recorder):
        def act(self, event: Event) -> None:
            raise ActionError(f"number {event.pid}\x1b")

    runner = run(Various({}))
    runner.put([event(pid) for pid in range(500)])
    runner.stop(5)
    assert counters.table()["action.a.failed"] == 500
    assert len(caplog.messages) == 6
    assert caplog.messages[0] == "action a: number 0\\x1b"
    assert caplog.messages[-1] == "action a: 495 more errors like these"


def test_a_batch_that_fails_counts_whole(run: Run, counters: Counters) -> None:
    class Broken(Batcher):
        def act_on_batch(self, events: list[Event]) -> None:
            raise ActionError("no")

    runner = run(Broken({}))
    runner.put([event()] * 7)
    runner.stop(5)
    assert counters.table() == {"action.a.done": 0, "action.a.failed": 7}


def test_a_response_that_comes_too_late_is_not_carried_out(run: Run, counters: Counters) -> None:
    action = Responder({})
    runner = run(action)
    runner.put([event(8, age_s=6), event(9)])
    runner.stop(5)
    assert [e.pid for e in action.seen] == [9]
    assert counters.table()["action.a.expired"] == 1


def test_a_notification_does_not_expire(run: Run) -> None:
    action = Recorder({})
    runner = run(action)
    runner.put([event(8, age_s=600)])
    runner.stop(5)
    assert len(action.seen) == 1


def test_stopping_leaves_an_action_that_hangs_behind(
    run: Run, counters: Counters, caplog: pytest.LogCaptureFixture
) -> None:
    action = Hanging({})
    runner = run(action)
    runner.put([event(), event(), event()])
    assert action.entered.wait(5)
    began = time.monotonic()
    runner.stop(0.1)
    assert time.monotonic() - began < 2
    assert counters.table()["action.a.dropped"] == 3
    assert "still busy" in caplog.text


def test_an_action_that_fails_to_close_is_named(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Recorder):
        def close(self) -> None:
            raise OSError("stuck")

    run(Stuck({})).stop(5)
    assert caplog.messages == ["action a: OSError: stuck"]


CLASSES: Mapping[str, type[Action]] = {"recorder": Recorder, "responder": Responder}


@pytest.fixture
def make(counters: Counters) -> Iterator[Callable[..., Actions]]:
    made: list[Actions] = []

    def _make(tables: Mapping[str, Mapping[str, Any]]) -> Actions:
        made.append(Actions(CLASSES, tables, counters, 100))
        return made[-1]

    yield _make
    for actions in made:
        actions.stop(5)


def test_an_action_without_a_table_is_made_when_a_rule_first_names_it(
    make: Callable[..., Actions], counters: Counters
) -> None:
    actions = make({})
    threads = {*threading.enumerate()}
    actions.prepare(["recorder", "recorder"])
    actions.prepare(["recorder"])
    assert [one.name for one in {*threading.enumerate()} - threads] == ["action-recorder"]
    actions.deliver(["recorder"], [event()])
    actions.stop(5)
    assert counters.table() == {"action.recorder.done": 1}


def test_several_instances_of_one_action_have_names_of_their_own(
    make: Callable[..., Actions], counters: Counters
) -> None:
    actions = make({"oncall": {"type": "recorder", "color": "blue"}, "recorder": {}})
    assert actions.names() == ["oncall", "recorder", "responder"]
    actions.deliver(["oncall", "recorder"], [event()])
    actions.stop(5)
    assert counters.table() == {"action.oncall.done": 1, "action.recorder.done": 1}


def test_all_that_is_wrong_with_the_tables_is_told_at_once(make: Callable[..., Actions]) -> None:
    threads = {*threading.enumerate()}
    with pytest.raises(SettingsError) as caught:
        make(
            {
                "good": {"type": "recorder"},
                "one": {"type": "recordr"},
                "two": {"type": 3},
                "recorder": {"colour": "secret", "size": "secret"},
                "red": {"type": "recorder", "color": "red"},
                "responder": {"expire": "never"},
            }
        )
    assert str(caught.value).splitlines() == [
        '[actions.one] type: unknown action "recordr"; did you mean "recorder"?',
        '[actions.two] type: unknown action "3"; actions are recorder, responder',
        '[actions.recorder] unknown key "colour"; did you mean "color"?',
        '[actions.recorder] unknown key "size"; keys are color, keep, retries, retry_first, retry_longest, type',
        "[actions.red] color: must not be red",
        '[actions.responder] expire: must be a time from 0.001 to 3600 seconds, such as 30 or "5m"',
    ]
    assert {*threading.enumerate()} <= threads


def test_an_action_begins_once_before_its_first_event_and_can_read_the_counters(counters: Counters) -> None:
    begun: list[Callable[[], Mapping[str, int]]] = []
    seen: list[int] = []

    class Begins(Recorder):
        def begin(self, counters: Callable[[], Mapping[str, int]]) -> None:
            begun.append(counters)

        def act_on_batch(self, events: list[Event]) -> None:
            seen.append(begun[0]()["events.lost"])

    counters.add("events.lost", 7)
    actions = Actions({"begins": Begins}, {}, counters, 100)
    actions.prepare(["begins"])
    actions.deliver(["begins"], [event()])
    actions.test("begins")
    actions.stop(5)
    assert len(begun) == 1
    assert seen[0] == 7


@pytest.mark.parametrize(
    ("problem", "said"),
    [(ActionError("listen: is taken"), "listen: is taken"), (OSError("broken"), "cannot begin: OSError: broken")],
)
def test_an_action_that_cannot_begin_is_a_setting_that_is_wrong_and_is_closed(
    counters: Counters, problem: Exception, said: str
) -> None:
    closed: list[Action] = []

    class Begins(Recorder):
        def begin(self, counters: Callable[[], Mapping[str, int]]) -> None:
            raise problem

        def close(self) -> None:
            closed.append(self)

    with pytest.raises(SettingsError) as caught:
        Actions({"begins": Begins}, {"begins": {}}, counters, 100)
    assert str(caught.value) == f"[actions.begins] {said}"
    assert len(closed) == 1


def test_how_long_a_response_is_worth_carrying_out_can_be_set(make: Callable[..., Actions], counters: Counters) -> None:
    actions = make({"responder": {"expire": "1m"}})
    actions.deliver(["responder"], [event(8, age_s=30), event(8, age_s=90)])
    actions.stop(5)
    assert counters.table() == {"action.responder.done": 1, "action.responder.expired": 1}


def test_an_unknown_action_is_refused_before_a_rule_uses_it(make: Callable[..., Actions]) -> None:
    with pytest.raises(ActionError, match='action kil: type: unknown action "kil"; actions are recorder, responder'):
        make({}).prepare(["kil"])


def test_events_for_an_action_that_was_not_made_are_counted(make: Callable[..., Actions], counters: Counters) -> None:
    make({}).deliver(["recorder"], [event(), event()])
    assert counters.table() == {"action.recorder.dropped": 2}
