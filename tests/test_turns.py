"""Rules take turns by severity: in what is told next, and in what is given up without room."""

from __future__ import annotations

import heapq
import logging
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfd.alert import Alert, from_json
from bpfd.counters import Counters
from bpfd.event import Event
from bpfd.outbox import Outbox
from bpfd.rules.model import SEVERITIES
from bpfd.turns import STEP, Turns

DISKLESS = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
SEVERITY = {"a": "critical", "b": "notice", "c": "notice", "d": "debug"}


def alert(rule: str, severity: str = "notice", number: int = 0) -> Alert:
    return Alert(Event(0, "t", number, 1, 1, 0, 0, "c", 0, rule=rule), severity=severity)


def in_memory(tmp_path: Path, limit: int, counters: Counters | None = None) -> Outbox:
    """An outbox without a disk, which is quick."""
    (tmp_path / "file").touch()
    return Outbox(tmp_path / "file", counters or Counters(), limit=limit)


def sent(box: Outbox, count: int = 100_000) -> list[Alert]:
    """What is sent next, in order; it is delivered by that."""
    found = []
    while len(found) < count and (letters := box.take("a", 1)):
        box.done(letters[0])
        found.append(from_json(letters[0].stored.body))
    return found


def rules(alerts: list[Alert]) -> Counter[str]:
    return Counter(one.event.rule for one in alerts)


@given(st.lists(st.sampled_from([*SEVERITY, "send"]), max_size=120))
def test_while_two_rules_wait_each_is_told_in_proportion_to_its_severity(deeds: list[str]) -> None:
    """The bound of self-clocked fair queueing: whoever puts in what, two that wait drift apart by one alert of each."""
    turns, waiting = Turns(), [(0, "")][:0]
    backlog: Counter[str] = Counter()
    served: list[tuple[str, frozenset[str]]] = []
    for deed in deeds:
        if deed != "send":
            heapq.heappush(waiting, (turns.give(deed, SEVERITY[deed]), deed))
            backlog[deed] += 1
        elif waiting:
            busy = frozenset(rule for rule in backlog if backlog[rule])
            turn, rule = heapq.heappop(waiting)
            turns.told(turn)
            backlog[rule] -= 1
            served.append((rule, busy))
    for first, (one, _) in enumerate(served):
        for other in SEVERITY.keys() - {one}:
            work = {one: 0, other: 0}
            for rule, busy in served[first:]:
                if not {one, other} <= busy:
                    break
                if rule in work:
                    work[rule] += STEP[SEVERITY[rule]]
                assert abs(work[one] - work[other]) <= STEP[SEVERITY[one]] + STEP[SEVERITY[other]]


@DISKLESS
@given(
    puts=st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(SEVERITIES), st.integers(1, 9)), max_size=25),
    limit=st.integers(1, 20),
)
def test_what_is_told_and_what_is_given_up_is_all_there_was(
    tmp_path: Path, puts: list[tuple[str, str, int]], limit: int
) -> None:
    counters = Counters()
    box = in_memory(tmp_path, limit, counters)
    put: Counter[str] = Counter()
    for rule, severity, count in puts:
        box.put("a", [alert(rule, severity) for _ in range(count)])
        put[severity] += count
        assert box.waiting().get("a", (0, 0))[0] <= limit
    told = Counter(one.severity for one in sent(box))
    table = counters.table()
    for severity in SEVERITIES:
        assert told[severity] + table.get(f"alerts.given_up.{severity}", 0) == put[severity]
    assert table.get("action.a.dropped", 0) == put.total() - told.total()
    box.close()


@DISKLESS
@given(
    noisy=st.integers(0, 200),
    quiet=st.integers(1, 10),
    severities=st.tuples(st.sampled_from(SEVERITIES), st.sampled_from(SEVERITIES)).map(
        lambda pair: sorted(pair, key=SEVERITIES.index)
    ),
    quiet_first=st.booleans(),
)
def test_a_noisy_rule_takes_no_room_from_one_that_is_quiet_and_as_severe(
    tmp_path: Path, noisy: int, quiet: int, severities: list[str], quiet_first: bool
) -> None:
    box = in_memory(tmp_path, limit=20)
    ours, theirs = severities
    batches = [[alert("quiet", ours)] * quiet, [alert("noisy", theirs)] * noisy]
    for batch in batches if quiet_first else reversed(batches):
        for one in batch:
            box.put("a", [one])
    told = rules(sent(box))
    assert told == +Counter({"quiet": quiet, "noisy": min(noisy, 20 - quiet)})
    box.close()


def test_the_more_severe_is_told_first_and_the_less_severe_are_not_starved(tmp_path: Path) -> None:
    box = in_memory(tmp_path, limit=10_000)
    box.put("a", [alert("noisy", "notice", number) for number in range(1000)])
    assert rules(sent(box, 10)) == {"noisy": 10}
    box.put("a", [alert("breach", "critical", number) for number in range(1000)])
    told = sent(box, 450)
    assert rules(told) == {"breach": 400, "noisy": 50}
    assert rules(told[:7]) == {"breach": 7}
    assert [one.event.pid for one in told if one.event.rule == "noisy"] == list(range(10, 60))
    box.close()


def test_of_a_thousand_alerts_of_a_noisy_rule_the_first_stay_and_the_rest_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()
    box = in_memory(tmp_path, 100, counters)
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        box.put("a", [alert("noisy", "debug", number) for number in range(1000)])
        box.put("a", [alert("breach", "emergency", number) for number in range(10)])
    told = sent(box)
    assert rules(told) == {"breach": 10, "noisy": 90}
    assert rules(told[:10]) == {"breach": 10}
    assert [one.event.pid for one in told[10:]] == list(range(90))
    assert counters.table()["alerts.given_up.debug"] == 910
    assert caplog.messages == ["action a: alerts given up for lack of room: 900 debug"]
    box.close()
    assert caplog.messages[1:] == ["action a: alerts given up for lack of room: 10 debug"]


def test_a_rule_does_not_wait_for_those_of_its_alerts_that_were_given_up(tmp_path: Path) -> None:
    box = in_memory(tmp_path, limit=10)
    for _ in range(100):
        box.put("a", [alert("noisy")] * 50)
    sent(box)
    box.put("a", [alert("quiet")] * 5)
    box.put("a", [alert("noisy")])
    assert [one.event.rule for one in sent(box)] == ["quiet", "noisy", "quiet", "quiet", "quiet", "quiet"]
    box.close()


def test_turns_go_on_after_a_restart(tmp_path: Path) -> None:
    first = Outbox(tmp_path, Counters())
    first.put("a", [alert("noisy")] * 1000)
    sent(first, 500)
    first.put("a", [alert("breach", "critical")] * 3)
    first.close()
    second = Outbox(tmp_path, Counters())
    second.put("a", [alert("other")])
    assert [one.event.rule for one in sent(second, 6)] == ["breach", "breach", "breach", "noisy", "other", "noisy"]
    assert rules(sent(second)) == {"noisy": 498}
    second.close()


def test_a_full_database_gives_up_what_is_least_and_not_the_alerts_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bpfd.spool.MEMORY_BYTES", 64 * 4096)
    counters = Counters()
    box = Outbox(tmp_path, counters, max_bytes=64 * 4096)
    big = {"filename": "x" * 2000}
    noisy = [Alert(Event(0, "t", 1, 1, 1, 0, 0, "c", 0, big, rule="noisy"), severity="debug") for _ in range(500)]
    for one in noisy:
        box.put("hanging", [one])
    assert counters.table()["action.hanging.dropped"] > 100
    for _ in range(20):
        box.put("a", [alert("breach", "critical")])
    assert rules(sent(box)) == {"breach": 20}
    assert counters.table().get("action.a.dropped", 0) == 0
    assert counters.table()["alerts.given_up.debug"] == counters.table()["action.hanging.dropped"]
    box.close()


def test_choosing_among_fifty_thousand_takes_milliseconds(tmp_path: Path) -> None:
    box = in_memory(tmp_path, limit=50_000)
    for _ in range(50):
        box.put("a", [alert("noisy")] * 1000)
    began = time.process_time()
    box.put("a", [alert("breach", "critical")] * 1000)
    assert rules([from_json(one.stored.body) for one in box.take("a", 7)]) == {"breach": 7}
    took_s = time.process_time() - began
    assert took_s < 0.5, took_s
    box.close()
