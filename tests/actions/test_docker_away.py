"""The actions on containers, when Docker is away, slow or talks nonsense."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bpfd.actions.container_checkpoint import ContainerCheckpoint
from bpfd.actions.container_disconnect import ContainerDisconnect
from bpfd.actions.container_kill import ContainerKill
from bpfd.actions.container_pause import ContainerPause
from bpfd.actions.container_restart import ContainerRestart
from bpfd.actions.container_stop import ContainerStop
from bpfd.actions.container_unpause import ContainerUnpause
from bpfd.actions.containers import ContainerAction
from bpfd.errors import ActionError, RefusedError, TargetGoneError
from bpfd.event import Container, Event
from bpfd.guard import Guard
from bpfd.ledger import Ledger
from tests.actions.receivers import HttpReceiver, answer, hang

ID = "c" * 64
VERSION = answer(
    "200 OK", json.dumps({"ApiVersion": "1.41"}).encode(), "Connection: close\r\nContent-Type: application/json\r\n"
)
ACTIONS = [
    ContainerCheckpoint,
    ContainerDisconnect,
    ContainerKill,
    ContainerPause,
    ContainerRestart,
    ContainerStop,
    ContainerUnpause,
]

Act = Callable[..., ActionError]


@pytest.fixture(params=ACTIONS, ids=[one.name for one in ACTIONS])
def act(request: pytest.FixtureRequest, http: HttpReceiver) -> Iterator[Act]:
    """Has each action in turn act on a container of the test's receiver; the error that it raises, in good time."""
    made: list[ContainerAction] = []

    def _act(address: str = "", timeout: float = 5) -> ActionError:
        made.append(request.param({"docker_host": address or http.url.replace("http", "tcp"), "timeout": timeout}))
        began = time.monotonic()
        with pytest.raises(ActionError) as caught:
            made[-1].act(Event(time.time_ns(), "t", 1, 1, 1, 0, 0, "c", 0, container=Container(ID, "docker")))
        assert time.monotonic() - began < 10
        assert str(caught.value).isprintable()
        return caught.value

    yield _act
    for action in made:
        action.close()


def test_docker_that_is_not_there_is_an_error(act: Act) -> None:
    assert str(act("tcp://127.0.0.1:1")) == "docker: it cannot be reached"


def test_docker_that_hangs_is_given_up(act: Act, http: HttpReceiver) -> None:
    http.reply = hang
    assert str(act(timeout=0.3)) == "docker: no answer within 0.3 s"
    http.plan = [VERSION]
    assert str(act(timeout=0.3)) == "docker: no answer within 0.3 s"


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"garbage\r\n\r\n",
        answer("500 No", b"\x1b[2J"),
        answer("200 OK", b"garbage"),
        answer("200 OK", b"[]"),
        answer("200 OK", b"null"),
        answer("200 OK", b"{}"),
        answer("200 OK", b'{"Id": 7}'),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
    ],
)
def test_docker_that_talks_nonsense_is_an_error(act: Act, http: HttpReceiver, reply: bytes) -> None:
    http.reply = reply
    act()
    http.plan = [VERSION]
    act()


def test_docker_without_the_container_says_that_it_has_gone(act: Act, http: HttpReceiver) -> None:
    http.plan = [VERSION]
    http.reply = answer(
        "404 No", b'{"message": "No such container"}', "Connection: close\r\nContent-Type: application/json\r\n"
    )
    assert isinstance(act(), TargetGoneError)


@pytest.mark.parametrize(
    ("said", "raised"),
    [
        (f"Container {ID} is restarting, wait until the container is running", ActionError),
        (f"Container {ID} is not running", TargetGoneError),
        (f"Container {ID} is already paused", None),
    ],
)
def test_a_pause_that_docker_refuses_is_not_taken_for_done(
    http: HttpReceiver, said: str, raised: type[ActionError] | None
) -> None:
    close = "Connection: close\r\nContent-Type: application/json\r\n"
    http.plan = [VERSION, answer("200 OK", json.dumps({"Id": ID}).encode(), close)]
    http.reply = answer("409 Conflict", json.dumps({"message": said}).encode(), close)
    action = ContainerPause({"docker_host": http.url.replace("http", "tcp"), "timeout": 5})
    event = Event(time.time_ns(), "t", 1, 1, 1, 0, 0, "c", 0, container=Container(ID, "docker"))
    try:
        if raised is None:
            action.act(event)
        else:
            with pytest.raises(ActionError) as caught:
                action.act(event)
            assert type(caught.value) is raised
    finally:
        action.close()
    assert [one.line.split()[0] for one in http.requests] == ["GET", "GET", "POST"]


def test_a_protected_container_is_not_hit_though_docker_had_not_told_its_name_yet(
    http: HttpReceiver, tmp_path: Path
) -> None:
    http.plan = [VERSION]
    http.reply = answer(
        "200 OK",
        json.dumps({"Id": ID, "Name": "/db"}).encode(),
        "Connection: close\r\nContent-Type: application/json\r\n",
    )
    guard = Guard(Ledger(tmp_path), lambda alert: None, protected=["container:db"])
    action = ContainerKill({"docker_host": http.url.replace("http", "tcp"), "timeout": 5})
    event = Event(time.time_ns(), "t", 1, 1, 1, 0, 0, "c", 0, container=Container(ID, "docker"))
    try:
        with pytest.raises(RefusedError, match="container db: it is protected"):
            guard.respond("container_kill", action, event)
    finally:
        action.close()
    assert [one.line.split()[0] for one in http.requests] == ["GET", "GET"]


def test_another_container_than_the_one_asked_for_is_never_hit(act: Act, http: HttpReceiver) -> None:
    http.plan = [VERSION]
    http.reply = answer(
        "200 OK", json.dumps({"Id": "d" * 64}).encode(), "Connection: close\r\nContent-Type: application/json\r\n"
    )
    assert isinstance(act(), TargetGoneError)
    assert [one.line.split()[0] for one in http.requests] == ["GET", "GET"]
