"""The collector of cycles leaves what is in force alone, and rules give it nothing to collect."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from bpfd import garbage
from bpfd.rules import plan, predicate
from bpfd.rules.check import Known
from bpfd.rules.load import parse_rule
from bpfd.tracers.open import OpenTracer

RULE = """
tracer = "open"
[filterEvents.filename]
values = ["/{number}/"]
[excludeEvents.command]
is = ["cat"]
"""


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    yield
    garbage.look_at_all()
    gc.enable()


def test_what_came_of_a_large_change_is_not_looked_at_again() -> None:
    with garbage.left_alone():
        assert not gc.isenabled()
        stays = [[number] for number in range(2 * garbage.LARGE)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(stays)
    garbage.look_at_all()
    assert gc.get_freeze_count() == 0


def test_a_small_change_is_looked_at_like_all_else() -> None:
    gc.collect()
    with garbage.left_alone():
        stays = [[number] for number in range(10)]
    assert gc.isenabled()
    assert (gc.get_freeze_count(), len(stays)) == (0, 10)


def test_a_change_that_fails_leaves_the_collector_on() -> None:
    with pytest.raises(ValueError, match="it fails"), garbage.left_alone():
        raise ValueError("it fails")
    assert gc.isenabled()


def test_rules_that_are_read_judged_by_and_dropped_leave_no_cycles() -> None:
    def live_and_die() -> None:
        known, planner = Known({"open": OpenTracer.fields}, ()), plan.Planner(OpenTracer.fields)
        rules = [parse_rule(RULE.format(number=number), f"{number}.toml", known, str(number)) for number in range(300)]
        for _ in range(2):
            planner.make([rule.condition for rule in rules])
        for rule in rules:
            predicate.compile(rule.condition, OpenTracer.fields)

    live_and_die()  # what is loaded and compiled on first use
    gc.collect()
    gc.disable()
    live_and_die()
    assert gc.collect() < 300  # fewer than one a rule
