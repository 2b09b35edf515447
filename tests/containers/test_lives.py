"""What Docker says of containers and what their cgroups show is put together, and told once."""

from __future__ import annotations

import pytest

from bpfd.containers.lives import HOLD_S, Listed, Lives, State
from bpfd.event import Container
from bpfd.plugin import ContainerChange

S = 1_000_000_000
BASE = 1_764_000_000 * S
DOCKERS = Container("d" * 64, "docker", "web", "nginx:1", {"tier": "front"})
PODMANS = Container("9" * 64, "podman")
OTHERS = Container("0" * 64, "docker")
"""Of a Docker that nobody follows."""
STATES: tuple[State, ...] = ("created", "running", "paused", "running", "exited", "destroyed")
ACTIONS = ["created", "running", "paused", "resumed", "exited", "destroyed"]
"""A whole life: the states of it, and what is told."""


class Told:
    """Lives, and what they tell, with a clock that the test sets."""

    def __init__(self, most: int = 100) -> None:
        self.known = {one.id: one for one in (DOCKERS, PODMANS, OTHERS)}
        self.now = 1000.0
        self.changes: list[ContainerChange] = []
        self.given_up: list[int] = []
        self.lives = Lives(self.changes.append, self._by_id, self.given_up.append, most, lambda: self.now)

    def _by_id(self, container_id: str) -> Container:
        return self.known.get(container_id, Container(container_id))

    def at(self, after_s: float) -> int:
        """Set the clock to so many seconds after the beginning."""
        self.now = 1000.0 + after_s
        self.lives.settle()
        return BASE + int(after_s * S)

    def take(self) -> list[str]:
        """The actions since the last time."""
        taken = [change.action for change in self.changes]
        self.changes.clear()
        return list(taken)


@pytest.fixture
def told() -> Told:
    """Docker is there, and has no containers."""
    made = Told()
    made.lives.listed([], made.at(0), True)
    return made


def test_docker_tells_a_whole_life(told: Told) -> None:
    for second, state in enumerate(STATES, 1):
        told.lives.said(DOCKERS.id, state, told.at(second), 3 if state == "exited" else None)
    changes = list(told.changes)
    assert told.take() == ACTIONS
    assert all(change.container == DOCKERS for change in changes)
    assert [change.exit_code for change in changes] == [None, None, None, None, 3, None]
    assert [(change.time - BASE) / S for change in changes] == [1, 2, 3, 4, 5, 6]


def test_a_cgroup_tells_a_whole_life_where_docker_has_nothing_to_say(told: Told) -> None:
    for second, state in enumerate(STATES, 1):
        told.lives.showed(PODMANS, 7, state, told.at(second), 4242 if state == "running" else 0)
    changes = list(told.changes)
    assert told.take() == ACTIONS
    assert [change.host_pid for change in changes] == [0, 4242, 4242, 4242, 4242, 4242]
    assert len(told.lives) == 0


def test_what_both_tell_is_told_once_whoever_is_first(told: Told) -> None:
    lives = told.lives
    lives.said(DOCKERS.id, "created", told.at(1))
    lives.showed(DOCKERS, 7, "created", told.at(1.1))
    lives.showed(DOCKERS, 7, "running", told.at(1.2), 4242)
    lives.said(DOCKERS.id, "running", told.at(1.3))
    lives.showed(DOCKERS, 7, "paused", told.at(2))
    lives.said(DOCKERS.id, "paused", told.at(2.1))
    lives.said(DOCKERS.id, "running", told.at(3))
    lives.showed(DOCKERS, 7, "running", told.at(3.1))
    lives.showed(DOCKERS, 7, "exited", told.at(4))
    lives.said(DOCKERS.id, "exited", told.at(4.1), 0)
    lives.showed(DOCKERS, 7, "destroyed", told.at(4.2))
    told.at(60)
    assert [(change.action, change.host_pid) for change in told.changes][1] == ("running", 4242)
    assert told.take() == ["created", "running", "paused", "resumed", "exited"]
    lives.said(DOCKERS.id, "destroyed", told.at(61))
    assert told.take() == ["destroyed"]


def test_docker_is_not_held_to_what_a_cgroup_showed_before(told: Told) -> None:
    """A restart: the cgroup goes and comes, and the container is neither destroyed nor created."""
    lives = told.lives
    lives.said(DOCKERS.id, "running", told.at(1))
    lives.showed(DOCKERS, 7, "running", told.at(1), 4242)
    lives.said(DOCKERS.id, "exited", told.at(2), 143)
    lives.showed(DOCKERS, 7, "destroyed", told.at(2))
    lives.showed(DOCKERS, 8, "created", told.at(2.5))
    lives.showed(DOCKERS, 8, "running", told.at(2.5), 4343)
    lives.said(DOCKERS.id, "running", told.at(2.6))
    told.at(60)
    assert [change.host_pid for change in told.changes] == [0, 4242, 4343]
    assert told.take() == ["running", "exited", "running"]


def test_a_docker_that_is_slow_is_overtaken_by_the_cgroup_and_repeats_nothing(told: Told) -> None:
    lives = told.lives
    lives.said(DOCKERS.id, "running", told.at(1))
    lives.showed(DOCKERS, 7, "running", told.at(1), 4242)
    lives.showed(DOCKERS, 7, "paused", told.at(2))
    told.at(2 + HOLD_S - 0.1)
    assert told.take() == ["running"]
    told.at(2 + HOLD_S + 0.1)
    assert [change.time for change in told.changes] == [BASE + 2 * S], "when it happened"
    assert told.take() == ["paused"]
    lives.showed(DOCKERS, 7, "running", told.at(10))
    told.at(20)
    lives.said(DOCKERS.id, "paused", BASE + 2 * S - 1)
    lives.said(DOCKERS.id, "running", BASE + 10 * S - 1)
    assert told.take() == ["resumed"]
    lives.said(DOCKERS.id, "exited", told.at(21), 1)
    assert told.take() == ["exited"]


def test_what_lasts_for_less_than_docker_is_given_is_dockers_to_tell(told: Told) -> None:
    lives = told.lives
    lives.said(DOCKERS.id, "running", told.at(1))
    lives.showed(DOCKERS, 7, "running", told.at(1))
    lives.showed(DOCKERS, 7, "paused", told.at(2))
    lives.showed(DOCKERS, 7, "running", told.at(3))
    lives.showed(DOCKERS, 7, "paused", told.at(3.5))
    told.at(4.5)
    lives.showed(DOCKERS, 7, "running", told.at(5))
    told.at(60)
    assert told.take() == ["running"]


def test_a_container_of_another_docker_is_told_by_its_cgroup_once_ours_had_its_time(told: Told) -> None:
    lives = told.lives
    lives.showed(OTHERS, 9, "created", told.at(1))
    lives.showed(OTHERS, 9, "running", told.at(1.1), 77)
    lives.showed(OTHERS, 9, "exited", told.at(1.2))
    assert told.take() == []
    told.at(1 + HOLD_S + 0.1)
    assert [(change.time - BASE) / S for change in told.changes] == [1, 1.1, 1.2]
    assert told.take() == ["created", "running", "exited"]
    lives.showed(OTHERS, 9, "destroyed", told.at(9))
    assert told.take() == ["destroyed"], "at once: it is not Docker's"


def test_when_docker_leaves_the_cgroups_are_believed_at_once(told: Told) -> None:
    lives = told.lives
    lives.said(DOCKERS.id, "running", told.at(1))
    lives.showed(DOCKERS, 7, "running", told.at(1))
    lives.showed(DOCKERS, 7, "exited", told.at(2))
    lives.showed(OTHERS, 9, "created", told.at(2))
    told.take()
    lives.docker_left()
    assert told.take() == ["exited", "created"]
    lives.showed(DOCKERS, 7, "destroyed", told.at(3))
    assert told.take() == [], "its cgroup alone is gone"


def test_what_changed_while_docker_was_away_is_told_when_it_is_back(told: Told) -> None:
    lives = told.lives
    for name in "abcdef":
        lives.said(name * 64, "running", told.at(1))
    lives.said("e" * 64, "paused", told.at(1))
    told.take()
    lives.docker_left()
    listed = [
        Listed("a" * 64, "running"),
        Listed("b" * 64, "exited", 7),
        Listed("c" * 64, "paused"),
        Listed("e" * 64, "running"),
        Listed("1" * 64, "created"),
        Listed("2" * 64, "exited", 9),
    ]
    lives.listed(listed, told.at(5), True)
    seen = [(change.container.id[0], change.action, change.exit_code) for change in told.changes]
    assert sorted(seen, key=lambda one: one[0]) == [
        ("1", "created", None),
        ("2", "created", None),
        ("2", "exited", 9),
        ("b", "exited", 7),
        ("c", "paused", None),
        ("d", "exited", None),
        ("d", "destroyed", None),
        ("e", "resumed", None),
        ("f", "exited", None),
        ("f", "destroyed", None),
    ]


def test_a_list_that_is_not_whole_destroys_nothing(told: Told) -> None:
    told.lives.said(DOCKERS.id, "running", told.at(1))
    told.lives.docker_left()
    told.lives.listed([], told.at(2), False)
    assert told.take() == ["running"]


def test_what_the_first_list_has_was_there_before() -> None:
    told = Told()
    told.lives.listed([Listed(DOCKERS.id, "running"), Listed(OTHERS.id, "exited", 1)], told.at(0), True)
    assert told.take() == []
    told.lives.said(DOCKERS.id, "exited", told.at(1), 0)
    told.lives.said(OTHERS.id, "destroyed", told.at(1))
    assert told.take() == ["exited", "destroyed"]


def test_events_that_are_older_than_the_list_are_in_it_already(told: Told) -> None:
    told.lives.docker_left()
    told.lives.listed([Listed(DOCKERS.id, "exited", 3)], told.at(5), True)
    assert told.take() == ["created", "exited"]
    for state in ("created", "running", "exited"):
        told.lives.said(DOCKERS.id, state, BASE + 4 * S)
    assert told.take() == []


def test_a_container_that_could_not_be_started_never_ran(told: Told) -> None:
    lives = told.lives
    lives.said(DOCKERS.id, "created", told.at(1))
    lives.showed(DOCKERS, 7, "running", told.at(1.1), 42)
    lives.showed(DOCKERS, 7, "exited", told.at(1.2))
    lives.said(DOCKERS.id, "exited", told.at(1.3), 127)
    told.at(60)
    assert told.take() == ["created", "exited"]


def test_a_container_that_was_removed_does_not_come_back_by_what_is_late(told: Told) -> None:
    lives = told.lives
    lives.said(DOCKERS.id, "running", told.at(1))
    lives.showed(DOCKERS, 7, "running", told.at(1))
    lives.said(DOCKERS.id, "exited", told.at(2), 0)
    lives.said(DOCKERS.id, "destroyed", told.at(2))
    told.take()
    lives.showed(DOCKERS, 7, "exited", told.at(2.1))
    lives.showed(DOCKERS, 7, "destroyed", told.at(2.2))
    lives.said(DOCKERS.id, "running", told.at(2.3))
    told.at(60)
    assert told.take() == []
    assert len(lives) == 0


def test_an_oom_is_told_once_whoever_is_first(told: Told) -> None:
    lives = told.lives
    lives.said(DOCKERS.id, "running", told.at(1))
    lives.showed_oom(DOCKERS, told.at(2))
    lives.said_oom(DOCKERS.id, told.at(2.5))
    told.at(6)
    assert told.take() == ["running", "oom"]
    lives.said_oom(DOCKERS.id, told.at(10))
    lives.showed_oom(DOCKERS, told.at(10.9))
    told.at(20)
    assert told.take() == ["oom"]


def test_an_oom_of_which_docker_says_nothing_is_told_all_the_same(told: Told) -> None:
    lives = told.lives
    lives.said(DOCKERS.id, "running", told.at(1))
    lives.showed_oom(DOCKERS, told.at(2))
    told.at(2 + HOLD_S + 0.1)
    assert told.take() == ["running", "oom"]
    lives.said_oom(DOCKERS.id, BASE + 2 * S)
    assert told.take() == [], "too late"


def test_ooms_that_follow_each_other_at_once_are_one(told: Told) -> None:
    """Docker says several for a process that is killed; and a thousand of them would tell nothing more."""
    told.lives.showed(PODMANS, 7, "running", told.at(1))
    for number in range(30):
        told.lives.said_oom(DOCKERS.id, told.at(1 + number / 10))
        told.lives.showed_oom(PODMANS, told.at(1 + number / 10))
    assert told.take() == ["running", "oom", "oom", "oom", "oom"]


def test_an_oom_outlives_the_container(told: Told) -> None:
    lives = told.lives
    lives.said(DOCKERS.id, "running", told.at(1))
    lives.showed_oom(DOCKERS, told.at(2))
    lives.said(DOCKERS.id, "exited", told.at(2.1), 137)
    lives.said(DOCKERS.id, "destroyed", told.at(2.2))
    lives.said_oom(DOCKERS.id, told.at(2.3))
    told.at(60)
    assert told.take() == ["running", "exited", "destroyed", "oom"]


def test_very_many_containers_take_bounded_memory_and_those_that_run_are_kept() -> None:
    told = Told(most=10)
    told.lives.listed([], told.at(0), True)
    for number in range(8):
        told.lives.showed(Container(f"run{number}", "lxc"), number, "created", told.at(1))
        told.lives.showed(Container(f"run{number}", "lxc"), number, "running", told.at(1))
    for number in range(1000):
        told.lives.showed(Container(f"empty{number}", "lxc"), 100 + number, "created", told.at(2))
    assert len(told.lives) == 10
    assert told.lives.unfollowed == 998
    assert told.given_up == list(range(100, 1098))
    told.take()
    for number in range(8):
        told.lives.showed(Container(f"run{number}", "lxc"), number, "exited", told.at(3))
    assert told.take() == ["exited"] * 8


def test_where_all_run_one_more_is_not_taken_and_counted() -> None:
    told = Told(most=3)
    for number in range(5):
        told.lives.showed(Container(f"run{number}", "lxc"), number + 1, "running", told.at(1))
    assert (len(told.lives), told.lives.unfollowed) == (3, 2)


def test_a_container_of_which_docker_alone_knows_is_dockers(told: Told) -> None:
    told.lives.said("7" * 64, "created", told.at(1))
    assert told.changes[0].container == Container("7" * 64, "docker")
