"""Who is told of matches, and when sequences fire."""

from __future__ import annotations

import pytest

from bpfd.event import HOST, Event
from bpfd.judges import Follower, Judge, follow, hand_over, keys_of
from bpfd.rules import model, window

SECOND = 1_000_000_000


def judge(name: str) -> Judge:
    return Judge(name, "open", None, lambda events: None)


def sequence(name: str, *steps: Judge) -> Judge:
    """A rule that follows `steps` within ten seconds."""
    made = judge(name)
    spec = model.Sequence(tuple(step.rule for step in steps), 10 * SECOND)
    follower = Follower(made, window.Sequence(spec), keys_of("process"))
    for step in steps:
        step.followers = (*step.followers, follower)
    return made


def match(of: Judge, time: int) -> None:
    of.batch.append(
        Event(
            tracer="open",
            time=time,
            pid=1,
            tid=1,
            ppid=0,
            uid=0,
            gid=0,
            command="",
            return_value=0,
            data={},
            container=HOST,
            rule=of.rule,
        )
    )


@pytest.mark.parametrize("times", [(1, 2), (2, 1)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_sequence_goes_by_when_its_rules_matched_and_not_by_which_was_asked_first(
    times: tuple[int, int], turned: bool
) -> None:
    first, second = judge("first"), judge("second")
    whole = sequence("whole", first, second)
    match(first, times[0])
    match(second, times[1])
    published: list[Event] = []
    asked = [second, first] if turned else [first, second]
    follow(hand_over(asked, published.extend), published.extend)
    fired = times == (1, 2)
    assert whole.matched == fired
    assert [event.rule for event in published[2:]] == ["whole"] * fired


def test_a_sequence_that_fires_is_a_step_of_another() -> None:
    first, second, third = judge("first"), judge("second"), judge("third")
    inner = sequence("inner", first, second)
    outer = sequence("outer", third, inner)
    for at, of in enumerate((third, first, second), 1):
        match(of, at)
    published: list[Event] = []
    follow(hand_over([first, second, third], published.extend), published.extend)
    assert (inner.matched, outer.matched) == (1, 1)
    assert [event.rule for event in published] == ["first", "second", "third", "inner", "outer"]
