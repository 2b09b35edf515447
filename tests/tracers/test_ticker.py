"""Events by the clock come at their pace, and stop when they are told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from bpfd.tracers.chargen import PRINTABLE, WIDTH, ChargenTracer, pattern
from bpfd.tracers.periodic import PeriodicTracer
from bpfd.tracers.ticker import TickerTracer
from tests.daemon.running import RunningDaemon


class Taken:
    """What a tracer emits, and when."""

    def __init__(self) -> None:
        self.events: list[tuple[float, Mapping[str, str]]] = []
        self._more = threading.Condition()

    def __call__(self, data: Mapping[str, str], **identity: Any) -> bool:
        assert identity == {}
        with self._more:
            self.events.append((time.monotonic(), data))
            self._more.notify()
        return True

    def wait_for(self, count: int, within_s: float) -> list[Mapping[str, str]]:
        with self._more:
            assert self._more.wait_for(lambda: len(self.events) >= count, within_s), self.events
        return [data for _, data in self.events[:count]]


def test_the_ticker_ticks_once_a_second() -> None:
    ticker, taken = TickerTracer(), Taken()
    ticker.start(taken)
    try:
        assert taken.wait_for(3, 15) == [{"tick": "1"}, {"tick": "2"}, {"tick": "3"}]
    finally:
        ticker.stop()
    # A busy machine may be late, and never early: from the first tick on the others are due at whole seconds.
    assert taken.events[2][0] - taken.events[0][0] > 0.9


def test_every_line_of_chargen_is_one_character_further() -> None:
    chargen, taken = ChargenTracer(), Taken()
    chargen.start(taken)
    try:
        lines = taken.wait_for(200, 15)
    finally:
        chargen.stop()
    assert [line["number"] for line in lines] == [str(number) for number in range(1, 201)]
    assert lines[0]["line"] == PRINTABLE[:WIDTH]
    assert lines[95]["line"] == lines[0]["line"]
    assert all(after["line"][:-1] == before["line"][1:] for before, after in pairwise(lines))
    assert {len(line["line"]) for line in lines} == {WIDTH}


def test_the_pattern_goes_round() -> None:
    assert pattern(94) == "~" + PRINTABLE[: WIDTH - 1]
    assert pattern(95) == pattern(0)


@pytest.mark.parametrize("tracer", [TickerTracer, ChargenTracer])
def test_nothing_comes_after_the_stop(tracer: type[PeriodicTracer]) -> None:
    made, taken = tracer(), Taken()
    made.start(taken)
    taken.wait_for(1, 15)
    made.stop()
    count = len(taken.events)
    time.sleep(3 * ChargenTracer.period_s)
    assert len(taken.events) == count
    assert [thread.name for thread in threading.enumerate() if thread.name == f"bpfd-{tracer.name}"] == []


def test_a_tracer_that_was_never_started_stops() -> None:
    TickerTracer().stop()


def test_a_daemon_with_rules_on_the_clock_tells_of_them(daemon: RunningDaemon) -> None:
    daemon.write_rule("third", 'tracer = "ticker"\n[filterEvents.tick]\nabove = 2\n')
    daemon.write_rule("round", 'tracer = "chargen"\n[filterEvents.line]\nprefix = ["AB"]\n')
    daemon.start()
    third = daemon.wait_for(lambda event: event["rule"] == "third")[0]
    assert (third["data"], third["pid"], third["containerRuntime"]) == ({"tick": "3"}, 0, "not-found")
    rounds = daemon.wait_for(lambda event: event["rule"] == "round", 2)
    assert [event["data"]["number"] for event in rounds[:2]] == ["34", "129"]
