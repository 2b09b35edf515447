"""What happened just before."""

from __future__ import annotations

import threading

from bpfd.event import Container, Event
from bpfd.recent import PER_SECOND, Recent


def event(time_ns: int, pid: int, ppid: int = 1, container: str = "") -> Event:
    where = Container(container, "docker") if container else Container()
    return Event(time_ns, "t", pid, pid, ppid, 0, 0, "c", 0, container=where)


def recent_add(recent: Recent, events: list[Event]) -> None:
    for one in events:
        recent.add(one)


def times(events: tuple[Event, ...]) -> list[int]:
    return [one.time for one in events]


def test_an_event_in_a_container_has_its_containers_past() -> None:
    recent = Recent()
    recent_add(
        recent, [event(1, 10, container="a"), event(2, 11, container="b"), event(3, 12), event(4, 13, container="a")]
    )
    assert times(recent.before(event(5, 99, container="a"), 20)) == [1, 4]
    assert times(recent.before(event(4, 13, container="a"), 20)) == [1]


def test_an_event_on_the_host_has_the_past_of_its_process_tree() -> None:
    recent = Recent()
    login, shell, sibling, stranger = event(1, 20), event(2, 21, 20), event(3, 22, 21), event(4, 30)
    in_container = event(5, 21, 20, container="a")
    recent_add(recent, [login, shell, sibling, stranger, in_container])
    assert times(recent.before(event(6, 23, 21), 20)) == [1, 2, 3]


def test_only_so_many_are_given_the_newest_of_them() -> None:
    recent = Recent()
    recent_add(recent, [event(number, 7) for number in range(10)])
    assert times(recent.before(event(99, 7), 3)) == [7, 8, 9]
    assert recent.before(event(99, 7), 0) == ()


def test_the_ring_is_bounded_and_read_while_it_is_written() -> None:
    recent = Recent(100)
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            recent.add(event(number, 7))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            assert len(recent.before(event(1 << 60, 7), 1000)) <= 100
    finally:
        done.set()
        writer.join()


def test_processes_that_seem_their_own_ancestors_end_the_search() -> None:
    recent = Recent()
    recent_add(recent, [event(1, 5, 6), event(2, 6, 5)])
    assert times(recent.before(event(3, 5, 6), 9)) == [1, 2]


def test_in_a_flood_only_some_alerts_learn_what_went_before() -> None:
    recent = Recent()
    recent.add(event(1, 7))
    found = [recent.sparing(event(2, 7), 1) for _ in range(1000)]
    assert 2 * PER_SECOND <= sum(map(bool, found)) < 1000
    assert all(times(one) == [1] for one in found if one)
