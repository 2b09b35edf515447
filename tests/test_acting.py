"""Everything behind a match, put together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bpfd.acting import Acting
from bpfd.alert import Alert
from bpfd.counters import Counters
from bpfd.errors import ActionError, SettingsError
from bpfd.event import Event
from bpfd.limits import Limits
from bpfd.plugin import Action
from bpfd.telling import Telling

TOLD: list[Alert] = []
DOWN = threading.Event()


class Tell(Action):
    """Tell, unless the receiver is down."""

    name = "tell"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        TOLD.clear()

    def act(self, event: Event) -> None:
        raise AssertionError

    def send(self, alert: Alert) -> None:
        if DOWN.is_set():
            raise ActionError("down")
        TOLD.append(alert)


class Hit(Action):
    """Hit, and take it back."""

    name = "hit"
    responds = True
    undo_after_s = 0.01
    log: list[str] = []

    def act(self, event: Event) -> None:
        self.log.append("hit")

    def undo(self, event: Event) -> None:
        self.log.append("undone")


CLASSES: Mapping[str, type[Action]] = {"tell": Tell, "hit": Hit}
TABLES: Mapping[str, Mapping[str, Any]] = {"tell": {"retry_first": 0.01, "retry_longest": 0.05}, "hit": {}}


def event(rule: str = "r") -> Event:
    return Event(time.time_ns(), "t", 999_999_999, 1, 1, 0, 0, "c", 0, rule=rule)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    DOWN.clear()
    Hit.log = []


def test_a_match_is_told_responded_to_written_down_and_taken_back(tmp_path: Path) -> None:
    acting = Acting(CLASSES, TABLES, tmp_path, Counters(), 100)
    acting.actions.deliver(("tell", "hit"), [event()])
    eventually(lambda: len(TOLD) == 1 and Hit.log == ["hit", "undone"])
    eventually(lambda: {entry.result for entry in acting.ledger.read(9)} == {"done", "undone"})
    acting.stop(5)
    acting.stop(5)


def test_what_could_not_be_told_is_told_after_the_next_start_with_its_summary(tmp_path: Path) -> None:
    def fold(rule: str) -> Telling:
        return Telling(fold_s=3600)

    DOWN.set()
    first = Acting(CLASSES, TABLES, tmp_path, Counters(), 100, telling=fold)
    first.actions.deliver(("tell",), [event(), event()])
    first.stop(5)
    DOWN.clear()
    second = Acting(CLASSES, TABLES, tmp_path, Counters(), 100, telling=fold)
    eventually(lambda: {alert.kind for alert in TOLD} == {"event", "summary"})
    second.stop(5)


def test_a_response_too_many_is_told_of_instead(tmp_path: Path) -> None:
    acting = Acting(CLASSES, TABLES, tmp_path, Counters(), 100, limits=Limits(per_rule=1))
    acting.actions.deliver(("hit",), [event(), event(), event()])
    eventually(lambda: [alert.kind for alert in TOLD] == ["notice"])
    assert Hit.log.count("hit") == 1
    acting.stop(5)


def test_a_rule_that_observes_hits_nobody(tmp_path: Path) -> None:
    acting = Acting(CLASSES, TABLES, tmp_path, Counters(), 100, observes=lambda rule: "the rule only observes")
    acting.actions.deliver(("hit",), [event()])
    eventually(lambda: "the rule only observes" in "".join(alert.text for alert in TOLD))
    assert Hit.log == []
    acting.stop(5)


def test_alerts_of_an_action_that_is_configured_no_more_are_given_up_when_too_old(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    DOWN.set()
    tables = {**TABLES, "oncall": {"type": "tell", "retry_first": 3600}}
    first = Acting(CLASSES, tables, tmp_path, Counters(), 100)
    first.actions.deliver(("oncall",), [event(), event()])
    eventually(lambda: first.outbox.waiting() == {"oncall": (2, 0)})
    first.stop(5)
    counters = Counters()
    second = Acting(CLASSES, TABLES, tmp_path, counters, 100)
    [problem] = second.problems()
    assert problem.startswith("action oncall: does not run, so that 2 of its alerts wait until they are too old")
    assert problem in caplog.text
    second.stop(5)
    third = Acting(CLASSES, TABLES, tmp_path, counters, 100, limits=Limits(outbox_age_s=1.0))
    eventually(lambda: third.outbox.waiting() == {"oncall": (0, 2)})
    assert {letter.problem for letter in third.outbox.dead()} == {"too old; there is no such action any more"}
    eventually(lambda: third.problems() == [])
    third.stop(5)
    assert counters.table()["action.oncall.dead"] == counters.table()["alerts.given_up.notice"] == 2


def test_alerts_of_an_action_that_no_rule_names_any_more_are_sent_all_the_same(tmp_path: Path) -> None:
    DOWN.set()
    first = Acting(CLASSES, {}, tmp_path, Counters(), 100)
    first.actions.prepare(["tell"])
    first.actions.deliver(("tell",), [event()])
    eventually(lambda: first.outbox.waiting() == {"tell": (1, 0)})
    first.stop(5)
    DOWN.clear()
    second = Acting(CLASSES, {}, tmp_path, Counters(), 100)
    eventually(lambda: len(TOLD) == 1)
    assert second.problems() == []
    second.stop(5)


def test_a_notifier_can_be_tried_and_says_what_is_wrong(tmp_path: Path) -> None:
    acting = Acting(CLASSES, TABLES, tmp_path, Counters(), 100)
    try:
        acting.actions.test("tell")
        assert [(alert.kind, alert.text) for alert in TOLD] == [("notice", "This is a test of bpfd; nothing happened.")]
        DOWN.set()
        with pytest.raises(ActionError, match="down"):
            acting.actions.test("tell")
        with pytest.raises(ActionError, match="only what tells somebody can be tried"):
            acting.actions.test("hit")
        with pytest.raises(ActionError, match="unknown action"):
            acting.actions.test("tel")
    finally:
        acting.stop(5)


def test_a_wrong_table_leaves_nothing_running(tmp_path: Path) -> None:
    threads = {*threading.enumerate()}
    with pytest.raises(SettingsError):
        Acting(CLASSES, {**TABLES, "bad": {"type": "tel"}}, tmp_path, Counters(), 100)
    assert {*threading.enumerate()} <= threads


def test_starting_and_stopping_fifty_times_leaves_no_thread_and_no_descriptor(tmp_path: Path) -> None:
    def count() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    Acting(CLASSES, TABLES, tmp_path, Counters(), 100).stop(5)
    before = count()
    for _ in range(50):
        Acting(CLASSES, TABLES, tmp_path, Counters(), 100).stop(5)
    threads, descriptors = count()
    assert threads <= before[0]  # what a test before this one left may end meanwhile
    assert descriptors <= before[1]
