"""The live trace: each client its own queue."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from bpfd.api import bpfd_pb2, bpfd_pb2_grpc, feeds
from bpfd.api.address import parse_address
from bpfd.api.client import Client
from bpfd.api.server import Server
from bpfd.errors import ApiError, RuleError
from bpfd.event import Event
from tests.api.fake_control import EVENT, FakeControl


def numbered(number: int, **changes: object) -> Event:
    return EVENT._replace(data={"number": str(number)}, **changes)


@contextlib.contextmanager
def following(control: FakeControl, client: Client, **wanted: str) -> Iterator[Iterator[tuple[list[Event], int]]]:
    """A live trace that is in force: what is published in the block, it gets."""
    begun = threading.Event()
    batches = client.live_trace(**wanted, on_start=begun.set)
    before = len(control.subscriptions)
    first: list[tuple[list[Event], int]] = []
    # The generator starts its call at the first `next`, which waits for an event: so from a thread of its own.
    thread = threading.Thread(target=lambda: first.extend([next(batches)]))
    thread.start()
    assert begun.wait(10)
    assert len(control.subscriptions) == before + 1

    def all_batches() -> Iterator[tuple[list[Event], int]]:
        thread.join(10)
        yield from first
        yield from batches

    try:
        yield all_batches()
    finally:
        if thread.is_alive():
            control.publish(EVENT)
            thread.join(10)
        batches.close()


def take(batches: Iterator[tuple[list[Event], int]], count: int) -> list[str]:
    """The numbers of the next `count` events."""
    numbers: list[str] = []
    while len(numbers) < count:
        events, lost = next(batches)
        assert lost == 0
        numbers += [event.data["number"] for event in events]
    return numbers


def test_events_arrive_whole_and_in_order(control: FakeControl, client: Client) -> None:
    control.queue_size = 5000
    with following(control, client) as batches:
        control.publish(EVENT)
        events, lost = next(batches)
        assert (events[0].as_dict(), lost) == (EVENT.as_dict(), 0)
        for number in range(3000):
            control.publish(numbered(number))
        assert take(batches, 3000) == [str(number) for number in range(3000)]
    control.wait_for_clients(0)


@pytest.mark.parametrize("wanted", [{"rule": "wanted"}, {"tracer": "wanted"}])
def test_a_client_can_follow_one_rule_or_tracer(control: FakeControl, client: Client, wanted: dict[str, str]) -> None:
    with following(control, client, **wanted) as batches:
        control.publish(numbered(1))
        control.publish(numbered(2, rule="wanted", tracer="wanted"))
        assert take(batches, 1) == ["2"]


def test_a_slow_client_loses_only_its_own_and_is_told_how_many(
    server: Server, control: FakeControl, client: Client
) -> None:
    control.queue_size = 300
    filler = "x" * 4000
    with grpc.insecure_channel(parse_address(server.address).target) as channel:
        slow = bpfd_pb2_grpc.BpfdStub(channel).LiveTrace(bpfd_pb2.LiveTraceRequest())
        control.wait_for_clients(1)
        (slow_queue,) = control.subscriptions
        published = 0
        with following(control, client) as fast:
            deadline = time.monotonic() + 60
            while not slow_queue._lost:  # until the network's buffers are full and its queue overflows
                assert time.monotonic() < deadline
                for _ in range(200):
                    control.publish(numbered(published)._replace(command=filler))
                    published += 1
                assert take(fast, 200) == [str(number) for number in range(published - 200, published)]
        received: list[int] = []
        lost = 0
        for message in slow:
            gap = int(message.events[0].data["number"]) - (received[-1] + 1 if received else 0)
            assert gap == message.lost
            lost += message.lost
            received += [int(event.data["number"]) for event in message.events]
            if received[-1] == published - 1:
                break
        slow.cancel()
    assert lost > 0
    assert len(received) + lost == published
    control.wait_for_clients(0)


def test_a_hundred_clients_cost_no_thread_each(server: Server, control: FakeControl) -> None:
    with grpc.insecure_channel(parse_address(server.address).target) as channel:
        stub = bpfd_pb2_grpc.BpfdStub(channel)
        calls = [stub.LiveTrace(bpfd_pb2.LiveTraceRequest()) for _ in range(100)]
        control.wait_for_clients(100)
        assert sum(thread.name.startswith("bpfd-api") for thread in threading.enumerate()) <= 5
        for number in range(20):
            control.publish(numbered(number))
        for call in calls:
            numbers: list[str] = []
            while len(numbers) < 20:
                numbers += [event.data["number"] for event in next(call).events]
            assert numbers == [str(number) for number in range(20)]
            call.cancel()
    control.wait_for_clients(0)


def test_publishing_to_a_hundred_clients_never_waits(server: Server, control: FakeControl) -> None:
    with grpc.insecure_channel(parse_address(server.address).target) as channel:
        stub = bpfd_pb2_grpc.BpfdStub(channel)
        calls = [stub.LiveTrace(bpfd_pb2.LiveTraceRequest()) for _ in range(100)]
        control.wait_for_clients(100)
        began = time.monotonic()
        for number in range(100):
            control.publish(numbered(number))
        assert time.monotonic() - began < 5  # ten thousand hand-overs
        for call in calls:
            call.cancel()
    control.wait_for_clients(0)


def test_stop_ends_the_traces_at_once_and_says_why(server: Server, control: FakeControl, client: Client) -> None:
    with following(control, client) as batches:
        control.publish(EVENT)
        next(batches)
        began = time.monotonic()
        server.stop(grace=5)
        assert time.monotonic() - began < 2
        with pytest.raises(ApiError, match="the daemon is stopping"):
            next(batches)


def test_a_client_that_goes_away_gives_up_its_queue(control: FakeControl, client: Client) -> None:
    with following(control, client) as batches:
        control.publish(EVENT)
        next(batches)
        client.close()
        control.wait_for_clients(0)


class Refusal(grpc.RpcError):
    """A call that was refused, between its headers and its status: gRPC says for that long that it is active."""

    def initial_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def is_active(self) -> bool:
        return True

    def __iter__(self) -> Iterator[bpfd_pb2.LiveTraceResponse]:
        raise self

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.INVALID_ARGUMENT

    def details(self) -> str:
        return "no such rule"

    def cancel(self) -> None:
        """It has ended."""


def test_a_client_that_is_refused_is_not_told_that_it_follows(
    control: FakeControl, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []

    def ask() -> None:
        with pytest.raises(RuleError, match="no such rule"):
            next(client.live_trace(rule="x", on_start=lambda: told.append(True)))

    control.error = RuleError(["no such rule"])
    ask()
    monkeypatch.setattr(client._stub, "LiveTrace", lambda request: Refusal())
    ask()
    assert told == []


def test_an_event_that_fits_no_message_counts_as_lost(control: FakeControl, client: Client) -> None:
    with following(control, client) as batches:
        control.publish(EVENT._replace(data={"huge": "x" * (4 << 20)}))
        control.publish(numbered(1))
        lost = 0
        numbers: list[str] = []
        while not numbers:
            events, more = next(batches)
            lost += more
            numbers += [event.data["number"] for event in events]
        assert (lost, numbers) == (1, ["1"])


def test_a_queue_that_speaks_up_for_each_event_is_fine_too(
    control: FakeControl, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "PAUSE_S", 0)
    with following(control, client) as batches:
        (queue,) = control.subscriptions
        for number in range(500):
            queue.put(numbered(number))
            queue.on_ready()
        assert take(batches, 500) == [str(number) for number in range(500)]


def test_stop_waits_no_longer_than_its_grace_for_a_client_that_never_reads(
    server: Server, control: FakeControl
) -> None:
    control.queue_size = 100
    with grpc.insecure_channel(parse_address(server.address).target) as channel:
        stuck = bpfd_pb2_grpc.BpfdStub(channel).LiveTrace(bpfd_pb2.LiveTraceRequest())
        control.wait_for_clients(1)
        (queue,) = control.subscriptions
        deadline = time.monotonic() + 60
        while not queue._lost:
            assert time.monotonic() < deadline
            control.publish(EVENT._replace(command="x" * 4000))
        began = time.monotonic()
        server.stop(grace=0.3)
        assert time.monotonic() - began < 2
        stuck.cancel()
    assert not control.subscriptions
