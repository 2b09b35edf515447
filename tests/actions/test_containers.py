"""The actions on containers, on a real dockerd."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from docker.models.containers import Container as DockerContainer

from bpfd import freezer
from bpfd.actions.container_disconnect import ContainerDisconnect
from bpfd.actions.container_kill import ContainerKill, DockerKill
from bpfd.actions.container_pause import ContainerPause, Pause
from bpfd.actions.container_restart import ContainerRestart
from bpfd.actions.container_stop import ContainerStop
from bpfd.actions.container_unpause import ContainerUnpause
from bpfd.actions.containers import ContainerAction
from bpfd.errors import ActionError, TargetGoneError
from bpfd.event import Container, Event
from tests.dockerd import Dockerd

Act = Callable[..., None]


@pytest.fixture
def container(dockerd: Dockerd) -> Iterator[DockerContainer]:
    made = dockerd.run("while :; do sleep 0.05; done")
    yield made
    made.remove(force=True)


@pytest.fixture
def act(dockerd: Dockerd) -> Iterator[Act]:
    made: list[ContainerAction] = []

    def _act(
        action: type[ContainerAction], container_id: str | None, runtime: str = "docker", **settings: object
    ) -> None:
        made.append(action({"docker_host": dockerd.address, **settings}))
        where = Container(container_id or "", runtime)
        made[-1].act(Event(time.time_ns(), "t", 1, 1, 1, 0, 0, "c", 0, container=where))

    yield _act
    for action in made:
        action.close()


def status(container: DockerContainer) -> str:
    container.reload()
    return container.status


@pytest.mark.parametrize("action", [ContainerPause, Pause])
def test_a_container_is_paused_and_goes_on_and_twice_is_no_error(
    container: DockerContainer, act: Act, action: type[ContainerAction]
) -> None:
    act(action, container.id)
    assert status(container) == "paused"
    act(action, container.id)
    act(ContainerUnpause, container.id)
    assert status(container) == "running"
    act(ContainerUnpause, container.id)


def test_a_pause_is_taken_back(container: DockerContainer, dockerd: Dockerd) -> None:
    action = ContainerPause({"docker_host": dockerd.address, "for": "1s"})
    event = Event(time.time_ns(), "t", 1, 1, 1, 0, 0, "c", 0, container=Container(container.id or "", "docker"))
    action.act(event)
    assert status(container) == "paused"
    action.undo(event)
    assert status(container) == "running"
    action.close()


@pytest.mark.parametrize("action", [ContainerKill, DockerKill])
def test_a_container_is_killed_and_then_gone(
    container: DockerContainer, act: Act, action: type[ContainerAction]
) -> None:
    act(action, container.id)
    container.wait(timeout=30)
    assert container.attrs is not None
    assert status(container) == "exited"
    assert container.attrs["State"]["ExitCode"] == 137
    with pytest.raises(TargetGoneError):
        act(action, container.id)


def test_a_container_is_stopped_within_its_grace(dockerd: Dockerd, act: Act) -> None:
    deaf = dockerd.run("trap '' TERM; while :; do sleep 0.05; done")
    began = time.monotonic()
    act(ContainerStop, deaf.id, grace=1)
    assert time.monotonic() - began >= 0.9
    assert status(deaf) == "exited"
    deaf.remove(force=True)


def test_a_container_is_restarted(container: DockerContainer, act: Act) -> None:
    assert container.attrs is not None
    container.reload()
    before = container.attrs["State"]["Pid"]
    act(ContainerRestart, container.id, grace=0)
    assert status(container) == "running"
    assert container.attrs["State"]["Pid"] != before


def test_a_container_is_taken_off_its_networks(dockerd: Dockerd, act: Act) -> None:
    network = dockerd.client.networks.create("bpfd-test-net", driver="bridge")
    other = dockerd.client.networks.create("bpfd-test-two", driver="bridge")
    container = dockerd.run("sleep 60", network="bpfd-test-net")
    try:
        other.connect(container)
        act(ContainerDisconnect, container.id)
        container.reload()
        assert container.attrs is not None
        assert container.attrs["NetworkSettings"]["Networks"] == {}
        assert status(container) == "running"
    finally:
        container.remove(force=True)
        network.remove()
        other.remove()


def test_a_container_on_the_hosts_network_cannot_be_taken_off_it(dockerd: Dockerd, act: Act) -> None:
    container = dockerd.run("sleep 60", network_mode="host")
    with pytest.raises(ActionError, match="shares the network of host"):
        act(ContainerDisconnect, container.id)
    container.remove(force=True)


def test_a_container_of_another_runtime_is_frozen_and_killed_by_its_cgroup(
    container: DockerContainer, act: Act
) -> None:
    act(ContainerPause, container.id, runtime="podman")
    paths = freezer.cgroups_of(container.id or "")
    states = [p / name for p in paths for name in ("cgroup.events", "freezer.state") if (p / name).exists()]
    assert {path.read_text().splitlines()[-1] for path in states} <= {"frozen 1", "FROZEN"}
    assert states
    act(ContainerKill, container.id, runtime="podman")
    container.wait(timeout=30)
    assert status(container) == "exited"


def test_a_container_that_has_been_removed_is_gone(dockerd: Dockerd, act: Act) -> None:
    container = dockerd.run("true")
    container.wait(timeout=30)
    container.remove()
    for action in (ContainerPause, ContainerKill, ContainerStop, ContainerRestart, ContainerDisconnect):
        with pytest.raises(TargetGoneError):
            act(action, container.id)


def test_the_short_id_or_name_of_a_container_is_not_taken_for_it(container: DockerContainer, act: Act) -> None:
    for name in (container.short_id, container.name):
        with pytest.raises(TargetGoneError):
            act(ContainerKill, name)
    assert status(container) == "running"
