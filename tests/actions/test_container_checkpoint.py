"""container_checkpoint, on an engine that can, and on the real dockerd, which can't without CRIU."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from bpfd.actions.container_checkpoint import ContainerCheckpoint
from bpfd.errors import ActionError, RefusedError, TargetGoneError, WithheldError
from bpfd.event import Container, Event
from tests.actions.fake_engine import ID, FakeEngine, fake_engine
from tests.dockerd import Dockerd, running_dockerd

Act = Callable[..., None]


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with fake_engine() as running:
        yield running


@pytest.fixture
def act() -> Iterator[Act]:
    made: list[ContainerCheckpoint] = []

    def _act(address: str, container_id: str = ID, runtime: str = "docker", **settings: object) -> None:
        made.append(ContainerCheckpoint({"docker_host": address, **settings}))
        where = Container(container_id, runtime)
        made[-1].act(Event(time.time_ns(), "t", 1, 1, 1, 0, 0, "c", 0, container=where))

    yield _act
    for action in made:
        action.close()


def test_a_checkpoint_is_made_and_the_container_runs_on(engine: FakeEngine, act: Act) -> None:
    act(engine.address)
    [name] = engine.checkpoints[""]
    assert name.startswith("bpfd-")
    assert engine.exits == [False]


def test_it_may_be_kept_elsewhere_and_end_the_container(engine: FakeEngine, act: Act) -> None:
    act(engine.address, dir="/evidence", exit=True)
    assert len(engine.checkpoints["/evidence"]) == 1
    assert engine.exits == [True]


def test_the_first_checkpoints_stay_and_more_are_withheld(engine: FakeEngine, act: Act) -> None:
    engine.checkpoints[""] = ["somebody-elses"]
    for _ in range(2):
        act(engine.address, most=2)
    before = list(engine.checkpoints[""])
    with pytest.raises(WithheldError, match="container cccccccccccc: has 2 checkpoints already; see most"):
        act(engine.address, most=2)
    assert engine.checkpoints[""] == before
    act(engine.address, most=2, dir="/elsewhere")


def test_a_container_that_has_ended_or_gone_is_gone(engine: FakeEngine, act: Act) -> None:
    engine.running = False
    with pytest.raises(TargetGoneError):
        act(engine.address)
    engine.exists = False
    with pytest.raises(TargetGoneError):
        act(engine.address)


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        ((501, b'{"message": "this experimental feature is disabled"}'), "start dockerd with --experimental"),
        ((404, b'{"message": "page not found"}'), "start dockerd with --experimental"),
        (
            (500, b'{"message": "exec: \\"criu\\": not found\\u001b[2J"}'),
            r"not found\x1b[2J; install criu on the engine",
        ),
        ((500, b'{"message": "Cannot checkpoint container: busy"}'), "Cannot checkpoint container: busy"),
        ((500, b"garbage"), "answered 500"),
        ((500, b"[]"), "answered 500"),
        ((200, b"garbage"), "its list of checkpoints is none"),
        ((200, b'{"a": 1}'), "its list of checkpoints is none"),
    ],
)
def test_an_engine_that_cannot_says_why(engine: FakeEngine, act: Act, refusal: tuple[int, bytes], text: str) -> None:
    engine.refusal = refusal
    with pytest.raises(ActionError) as caught:
        act(engine.address)
    assert type(caught.value) is ActionError
    assert text in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_engine_that_hangs_is_given_up(engine: FakeEngine, act: Act) -> None:
    engine.silent.set()
    began = time.monotonic()
    with pytest.raises(ActionError, match=r"docker: no answer within 0\.3 s"):
        act(engine.address, timeout=0.3)
    assert time.monotonic() - began < 5


def test_an_engine_that_is_not_there_is_an_error(act: Act) -> None:
    with pytest.raises(ActionError, match="docker: it cannot be reached"):
        act("tcp://127.0.0.1:1")


def test_the_host_and_other_runtimes_have_none(engine: FakeEngine, act: Act) -> None:
    with pytest.raises(RefusedError):
        act(engine.address, "", "not-found")
    with pytest.raises(ActionError, match="container_checkpoint: can't be done in podman"):
        act(engine.address, runtime="podman")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"dir": "relative"}, "dir: must be the absolute path"),
        ({"exit": "no"}, "exit: must be true or false"),
        ({"most": 0}, "most: must be a whole number"),
        ({"timeout": 0}, "timeout: must be a time"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ActionError) as caught:
        ContainerCheckpoint(settings)
    assert str(caught.value).startswith(text)


def test_a_real_dockerd_that_is_not_experimental_refuses_and_the_container_runs_on(act: Act, dockerd: Dockerd) -> None:
    container = dockerd.run("while :; do sleep 0.05; done")
    with pytest.raises(ActionError, match="the engine makes no checkpoints; start dockerd with --experimental"):
        act(dockerd.address, container.id)
    container.reload()
    assert container.status == "running"
    container.remove(force=True)


def test_a_real_dockerd_makes_a_checkpoint_or_says_that_it_wants_criu(act: Act) -> None:
    with running_dockerd('{"experimental": true}') as experimental:
        container = experimental.run("while :; do sleep 0.05; done")
        if shutil.which("criu"):
            with suppress(ActionError):  # it may be too old for this kernel
                act(experimental.address, container.id)
        else:
            with pytest.raises(ActionError, match="install criu on the engine's machine"):
                act(experimental.address, container.id)
        container.reload()
        assert container.status == "running"
