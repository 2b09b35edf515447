"""What the tests of actions share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bpfd.alert import Alert
from bpfd.event import Container, Event
from tests.actions.receivers import HttpReceiver, http_receiver


@pytest.fixture
def http() -> Iterator[HttpReceiver]:
    """An HTTP server that answers as planned."""
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def alert() -> Alert:
    """An alert about an event that does its worst to whoever shows it."""
    event = Event(
        time=1_764_000_000_123_456_789,
        tracer="open",
        pid=42,
        tid=43,
        ppid=1,
        uid=1000,
        gid=1001,
        command="c\nat",
        return_value=-2,
        data={"filename": '/etc/"<!channel>`*_]\\\udcff\x1b[2J\r\n.\r\n'},
        container=Container("0123456789ab" * 5 + "cdef", "docker", "web", "nginx:1"),
        rule="secrets",
        host="here",
    )
    return Alert(event, id="f" * 32)
