"""Containers are paused and ended through their cgroups, whatever made them."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from bpfd import freezer
from bpfd.actions.container_kill import ContainerKill
from bpfd.actions.container_pause import ContainerPause
from bpfd.actions.container_stop import ContainerStop
from bpfd.actions.container_unpause import ContainerUnpause
from bpfd.errors import ActionError, RefusedError, TargetGoneError
from bpfd.event import Container, Event

ROOTS = freezer._roots()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.005)


class Box:
    """A cgroup that is named like a container's, with a process in it and one in a cgroup below."""

    def __init__(self, root: Path) -> None:
        self.id = secrets.token_hex(32)
        self.path = root / "bpfd-test" / f"crio-{self.id}.scope"
        self.below = self.path / "init"
        self.below.mkdir(parents=True)
        self.processes = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2)]
        for process, path in zip(self.processes, (self.below, self.below), strict=True):
            (path / "cgroup.procs").write_text(str(process.pid))

    def ticks(self) -> int:
        """How much processor time they used."""
        return sum(
            int(value) for p in self.processes for value in Path(f"/proc/{p.pid}/stat").read_text().split()[13:15]
        )

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        if (self.path / "cgroup.freeze").exists():
            (self.path / "cgroup.freeze").write_text("0")
        elif (self.path / "freezer.state").exists():
            (self.path / "freezer.state").write_text("THAWED")
        for process in self.processes:
            process.wait()
        for path in (self.below, self.path, self.path.parent):
            eventually(lambda path=path: _removed(path))  # type: ignore[misc]


def _removed(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture(params=range(len(ROOTS)), ids=[control for _, control in ROOTS])
def box(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A box in each hierarchy of this machine that can freeze."""
    root, control = ROOTS[request.param]
    monkeypatch.setattr(freezer, "_roots", lambda: [(root, control)])
    made = Box(root)
    yield made
    made.close()


def event_in(container_id: str, runtime: str = "cri-o") -> Event:
    return Event(time.time_ns(), "t", 1, 1, 1, 0, 0, "c", 0, container=Container(container_id, runtime))


def test_this_machine_has_a_hierarchy_that_can_freeze() -> None:
    assert ROOTS


def test_a_paused_container_stands_still_and_goes_on_afterwards(box: Box) -> None:
    ContainerPause({}).act(event_in(box.id))
    before = box.ticks()
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        assert box.ticks() == before
    ContainerUnpause({}).act(event_in(box.id))
    eventually(lambda: box.ticks() > before)


@pytest.mark.parametrize("paused", [False, True])
def test_a_killed_container_is_empty_even_if_it_was_paused(box: Box, paused: bool) -> None:
    if paused:
        ContainerPause({}).act(event_in(box.id))
    ContainerKill({}).act(event_in(box.id))
    for process in box.processes:
        assert process.wait(5) == -9


@pytest.mark.parametrize(
    ("mine", "container_id", "runtime", "others"),
    [
        ("libpod-{id}.scope", "{id}", "podman", "libpod-conmon-{id}.scope"),
        ("lxc.payload.shop-{short}", "shop-{short}", "lxc", "lxc.payload.shop-{short}-2"),
        ("lxc.payload.{short}", "{short}", "lxc", "lxc.monitor.{short}"),
    ],
)
def test_what_only_has_the_containers_id_in_its_name_is_left_alone(
    box: Box, mine: str, container_id: str, runtime: str, others: str
) -> None:
    names = {"id": secrets.token_hex(32), "short": secrets.token_hex(4)}
    parent = box.path.parent
    paths = [parent / name.format(**names) for name in (mine, others)]
    with ExitStack() as undo:
        processes = []
        for path in paths:
            path.mkdir()
            undo.callback(eventually, partial(_removed, path))
            process = undo.enter_context(subprocess.Popen(["sleep", "60"]))
            undo.callback(process.kill)
            (path / "cgroup.procs").write_text(str(process.pid))
            processes.append(process)
        ContainerKill({}).act(event_in(container_id.format(**names), runtime))
        assert processes[0].wait(5) == -9
        assert processes[1].poll() is None


def test_the_cgroup_of_the_daemon_is_not_killed(box: Box) -> None:
    child = os.fork()
    if child == 0:
        (box.path / "cgroup.procs").write_text(str(os.getpid()))
        try:
            freezer.kill(box.id)
        except RefusedError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert all(process.poll() is None for process in box.processes)


def test_a_container_that_has_gone_is_gone() -> None:
    with pytest.raises(TargetGoneError, match="no cgroup any more"):
        ContainerPause({}).act(event_in("ab" * 32))


@pytest.mark.parametrize("container_id", ["", "short", "../../../../etc", "a" * 11])
def test_what_is_no_id_finds_nothing(container_id: str) -> None:
    with pytest.raises(ActionError):
        freezer.cgroups_of(container_id)


def test_what_only_docker_can_do_is_refused_for_others() -> None:
    with pytest.raises(ActionError, match="container_stop: can't be done in cri-o"):
        ContainerStop({}).act(event_in("ab" * 32))


def test_a_process_of_the_host_has_no_container_to_act_on() -> None:
    with pytest.raises(RefusedError, match="comes from none"):
        ContainerKill({}).act(event_in("", "not-found"))


def test_docker_that_is_away_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    action = ContainerKill({"docker_host": f"tcp://127.0.0.1:{port}"})
    with pytest.raises(ActionError, match="docker: it cannot be reached"):
        action.act(event_in("ab" * 32, "docker"))
    action.close()
