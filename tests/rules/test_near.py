"""Events that miss a rule by one clause."""

from __future__ import annotations

from itertools import product

import pytest

from bpfd.event import Event
from bpfd.rules import near, plan, predicate
from bpfd.rules.check import Known
from bpfd.rules.load import parse_rule
from bpfd.rules.model import All, Condition
from tests.rules.conftest import OPEN

CONDITIONS = (
    "uid = 0",
    "uid = 0 and path = /a",
    "uid = 0 and path = /a and not command = cat",
    "uid = 0 and (path = /a or path = /b) and command in (cat, sed)",
    "(uid = 0 and path = /a) and (gid = 0 and not (command = cat or command = sed))",
    "uid = 0 or path = /a",
)
EVENTS = [
    Event(0, "open", 1, 1, 0, uid, gid, command, 0, {"path": path})
    for uid, gid, command, path in product((0, 1), (0, 1), ("cat", "sed", "vi"), ("/a", "/b", "/c"))
]


def tree(known: Known, text: str) -> Condition:
    return parse_rule(f'tracer = "open"\ncondition = "{text}"\n', "r.toml", known, "r").condition


@pytest.mark.parametrize("text", CONDITIONS)
def test_what_fails_exactly_one_clause_is_a_near_miss_and_the_kernel_lets_it_through(known: Known, text: str) -> None:
    condition = tree(known, text)
    misses = near.Misses(condition, OPEN)
    held = [predicate.compile(part, OPEN) for part in near.clauses(condition)]
    in_kernel = predicate.compile(near.condition(misses.parts), OPEN)
    found = 0
    for event in EVENTS:
        failed = [number for number, clause in enumerate(held) if not clause(event)]
        assert misses.misses_one(event) == (len(failed) == 1)
        assert in_kernel(event) == (len(failed) == 1)
        found += len(failed) == 1
    assert found


def test_the_kernel_still_sorts_out_what_misses_by_more(known: Known) -> None:
    misses = near.Misses(tree(known, "uid = 0 and path = /a and command = cat"), OPEN)
    planned = plan.make([near.condition(misses.parts)], OPEN)
    assert (planned.inexact, len(planned.rules_of)) == ({}, 3)


def test_a_rule_of_many_alternatives_is_still_sorted_out_as_far_as_it_goes(known: Known) -> None:
    text = " and ".join(f"not (command = a{n} and path = b{n} and uid = {n})" for n in range(2)) + " and gid = 0"
    misses = near.Misses(tree(known, text), OPEN)
    condition = near.condition(misses.parts)
    wanted = predicate.compile(condition, OPEN)
    assert all(wanted(event) for event in EVENTS if misses.misses_one(event))


def test_what_was_missed_is_said_with_what_was_there(known: Known) -> None:
    misses = near.Misses(tree(known, "uid = 0 and path = /a and not command = cat"), OPEN)
    missed = [event for event in EVENTS if misses.misses_one(event)]
    said = {misses.missed(event) for event in missed if event.uid == 0 and event.gid == 0}
    assert 'path is "/a"; there: path = "/b", origin = nothing' in said
    assert 'not command is "cat"; there: command = "cat"' in said


def test_a_rule_without_a_clause_cannot_be_missed() -> None:
    misses = near.Misses(All((All(), All())), OPEN)
    assert misses.parts == ()
    assert not misses.misses_one(EVENTS[0])
