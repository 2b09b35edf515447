"""A receiver that fails as planned, and what it is told of."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from bpfd.alert import Alert
from bpfd.delivery import Retry
from bpfd.event import Container, Event
from bpfd.plugin import Action

FAST = Retry(first_s=0.001, longest_s=0.01, tries=5)


def event(pid: int = 7) -> Event:
    return Event(
        time.time_ns(),
        "open",
        pid,
        pid,
        1,
        0,
        0,
        "cat",
        -2,
        {"filename": "/etc/shadow"},
        Container("ab" * 32, "docker", "web", "nginx:1", {"a": "b"}),
        "secrets",
        "here",
    )


class Receiver(Action):
    """Take what it is told, or fail as planned."""

    name = "receiver"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.got: list[Alert] = []
        self.plan: list[Exception] = []
        self.always: Callable[[Alert], None] = lambda alert: None
        self.closed = 0

    def act(self, event: Event) -> None:
        raise AssertionError

    def send(self, alert: Alert) -> None:
        self.always(alert)
        if self.plan:
            raise self.plan.pop(0)
        self.got.append(alert)

    def close(self) -> None:
        self.closed += 1


def eventually(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.002)
