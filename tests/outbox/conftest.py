"""What the tests of the outbox share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bpfd.counters import Counters
from bpfd.delivery import Delivery, Retry
from bpfd.outbox import Outbox
from tests.outbox.receiver import FAST, Receiver


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def outbox(tmp_path: Path, counters: Counters) -> Iterator[Outbox]:
    made = Outbox(tmp_path / "state", counters)
    yield made
    made.close()


@pytest.fixture
def receiver() -> Receiver:
    return Receiver({})


@pytest.fixture
def deliver(outbox: Outbox, counters: Counters, receiver: Receiver) -> Iterator[Callable[..., Delivery]]:
    made: list[Delivery] = []

    def _deliver(retry: Retry = FAST) -> Delivery:
        made.append(Delivery("a", receiver, outbox, counters, retry))
        return made[-1]

    yield _deliver
    for delivery in made:
        delivery.stop(5)
        assert not delivery._thread.is_alive()
