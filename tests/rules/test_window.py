"""Counts and sequences."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfd.event import Container, Event
from bpfd.rules import window
from bpfd.rules.model import Count, Kin, Sequence

EVENT = Event(1, "open", 10, 11, 5, 1000, 0, "cat", 0, {"path": "/x"}, Container("4f", "docker"), start=7)


def test_a_counter_fires_on_the_count_within_the_time_and_begins_anew() -> None:
    counter = window.Counter(Count(3, 10))
    assert [counter.feed("a", at) for at in (0, 5, 11, 12, 13, 14, 15)] == [
        False,
        False,
        False,
        True,
        False,
        False,
        True,
    ]


def test_a_counter_counts_each_key_on_its_own() -> None:
    counter = window.Counter(Count(2, 10))
    assert [counter.feed(key, 1) for key in "aba"] == [False, False, True]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6)), max_size=40), st.integers(1, 4))
def test_a_counter_does_what_its_sentence_says(matches: list[tuple[str, int]], count: int) -> None:
    counter = window.Counter(Count(count, 10))
    seen: dict[str, list[int]] = defaultdict(list)
    now = 0
    for key, step in matches:
        now += step
        seen[key] = [at for at in seen[key] if at >= now - 10] + [now]
        expected = len(seen[key]) >= count
        if expected:
            seen[key] = []
        assert counter.feed(key, now) is expected


def test_a_counter_forgets_the_key_that_was_silent_longest_and_says_so() -> None:
    counter = window.Counter(Count(5, 10**9), most=100)
    for key in range(1000):
        counter.feed(key, key)
    assert len(counter) == 100
    assert counter.evicted == 900


def test_a_counters_stale_keys_are_forgotten_without_being_a_loss() -> None:
    counter = window.Counter(Count(5, 1), most=10)
    for key in range(100):
        counter.feed(key, key * 10)
    assert len(counter) == 10
    assert counter.evicted == 0


def test_a_sequence_fires_when_its_rules_matched_in_order() -> None:
    sequence = window.Sequence(Sequence(("a", "b", "c"), 10))
    assert [sequence.feed(rule, ["p"], at) for at, rule in enumerate("cbacbcabc")] == [False] * 5 + [
        True,
        False,
        False,
        True,
    ]
    assert len(sequence) == 0


def test_a_sequence_has_to_end_in_time() -> None:
    sequence = window.Sequence(Sequence(("a", "b"), 10))
    sequence.feed("a", ["p"], 0)
    assert not sequence.feed("b", ["p"], 11)
    sequence.feed("a", ["p"], 12)
    assert not sequence.feed("b", ["q"], 13)
    assert not sequence.feed("b", [], 13)
    assert sequence.feed("b", ["p"], 22)


def test_one_event_takes_one_step_of_a_rule_that_is_named_twice() -> None:
    sequence = window.Sequence(Sequence(("a", "a"), 10))
    assert [sequence.feed("a", ["p"], at) for at in range(4)] == [False, True, False, True]


def test_a_descendant_goes_on_with_what_its_ancestor_began() -> None:
    sequence = window.Sequence(Sequence(("a", "b", "c"), 10, "tree"))
    sequence.feed("a", ["shell"], 1)
    sequence.feed("b", ["child", "shell"], 2)
    assert not sequence.feed("c", ["stranger", "init"], 3)
    assert sequence.feed("c", ["grandchild", "other", "shell"], 3)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), max_size=30),
    st.lists(st.sampled_from("abc"), min_size=2, max_size=4),
)
def test_a_sequence_does_what_its_sentence_says(matches: list[tuple[str, int]], rules: list[str]) -> None:
    sequence = window.Sequence(Sequence(tuple(rules), 10))
    history: list[tuple[str, int]] = []
    now = 0
    for rule, step in matches:
        now += step
        history.append((rule, now))
        expected = rule == rules[-1] and ends_here(history, rules)
        if expected:
            history = []
        assert sequence.feed(rule, ["p"], now) is expected


def ends_here(history: list[tuple[str, int]], rules: list[str]) -> bool:
    """Whether the steps can be found, backwards from the last event, the first of them in time."""
    left = list(rules)
    end = history[-1][1]
    for rule, at in reversed(history):
        if left and rule == left[-1]:
            left.pop()
            if not left:
                return at >= end - 10
    return False


def test_a_sequence_is_bounded_and_counts_what_it_forgot() -> None:
    sequence = window.Sequence(Sequence(("a", "b"), 10**9), most=50)
    for key in range(200):
        sequence.feed("a", [key], key)
    assert len(sequence) == 50
    assert sequence.evicted == 150
    assert sequence.feed("b", [199], 200)


def test_events_are_told_apart_by_the_fields_named() -> None:
    assert window.key_of(["containerID", "uid", "path", "nothing"])(EVENT) == ("4f", "1000", "/x", None)
    assert window.key_of([])(EVENT) == ()


@pytest.mark.parametrize(
    ("by", "keys"), [("process", ((10, 7),)), ("container", ("4f",)), ("tree", ((10, 7), (5, 3), (1, 1)))]
)
def test_kin_are_processes_containers_or_a_process_and_its_ancestors(by: Kin, keys: tuple[object, ...]) -> None:
    assert tuple(window.kin_of(by, lambda event: [(5, 3), (1, 1)])(EVENT)) == keys


def test_the_host_is_no_container_to_follow() -> None:
    assert window.kin_of("container", lambda event: [])(EVENT._replace(container=Container())) == ()
