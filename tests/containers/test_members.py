"""Real cgroups that look like containers are followed through their lives, in each mode that a machine may be in."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.containers.life_watch import LifeWatch
from bpfd.containers.shown import Places
from bpfd.event import Container
from bpfd.plugin import ContainerChange
from tests.containers.cgroup_dirs import own_cgroup
from tests.containers.fake_docker import eventually
from tests.containers.machines import MODES, Box, Machine, a_machine, has_memory

LIMITS = ("memory.max", "memory.limit_in_bytes")
HOG = "a = b'x' * (64 << 20)"


@pytest.fixture(params=[mode for mode, places in MODES.items() if has_memory(places)])
def limited(quick: None, request: pytest.FixtureRequest) -> Iterator[Box]:
    """One that is followed and has 16 MiB, in the modes that have this machine's memory controller."""
    with a_machine(request.param) as machine:
        made = Box(machine)
        try:
            machine.follow()
            made.make()
            (limit,) = [path / name for path in made.paths for name in LIMITS if (path / name).exists()]
            limit.write_text(str(16 << 20))
            yield made
        finally:
            made.close()


def test_the_cgroup_of_a_container_tells_its_life(machine: Machine, box: Box) -> None:
    machine.follow()
    box.make()
    machine.await_of(box.id, "created")
    first = box.run("sleep", "1000")
    machine.await_of(box.id, "created", "running")
    box.run("sleep", "1000")
    box.freeze(True)
    machine.await_of(box.id, "created", "running", "paused")
    box.freeze(False)
    machine.await_of(box.id, "created", "running", "paused", "resumed")
    box.end()
    machine.await_of(box.id, "created", "running", "paused", "resumed", "exited")
    box.remove()
    machine.await_of(box.id, "created", "running", "paused", "resumed", "exited", "destroyed")
    told = [change for change in machine.changes if change.container.id == box.id]
    assert {change.container.runtime for change in told} == {"cri-o"}
    assert {change.exit_code for change in told} == {None}
    assert [change.host_pid for change in told] == [0, *[first.pid] * 5]
    assert all(abs(change.time - time.time_ns()) < 60 * 10**9 for change in told)
    assert [change.time for change in told] == sorted(change.time for change in told)


def test_the_first_process_is_the_one_that_is_number_1_of_its_own_namespace(machine: Machine, box: Box) -> None:
    """A runtime's own processes are in the cgroup for a moment, and are older."""
    machine.follow()
    box.make()
    outer = box.run("unshare", "--pid", "--fork", "sleep", "1000")
    machine.await_of(box.id, "created", "running")
    (init,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
    assert machine.changes[-1].host_pid == int(init)
    subprocess.run(["kill", "-9", init], check=True)
    outer.wait()
    machine.await_of(box.id, "created", "running", "exited")


def test_what_was_there_before_is_not_told_but_what_becomes_of_it_is(machine: Machine, box: Box) -> None:
    box.make()
    process = box.run("sleep", "1000")
    eventually(lambda: all(str(process.pid) in (path / "cgroup.procs").read_text().split() for path in box.paths))
    machine.follow()
    box.freeze(True)
    machine.await_of(box.id, "paused")
    assert machine.changes[-1].host_pid == process.pid
    box.freeze(False)
    machine.await_of(box.id, "paused", "resumed")


def test_one_that_was_there_and_empty_has_a_first_process_once_it_runs(machine: Machine, box: Box) -> None:
    box.make()
    machine.follow()
    process = box.run("sleep", "1000")
    machine.await_of(box.id, "running")
    assert machine.changes[-1].host_pid == process.pid


def test_a_container_with_cgroups_of_its_own_below_is_one(machine: Machine, box: Box) -> None:
    machine.follow()
    box.make()
    inner = machine.hierarchy.mount / box.name / "init.scope"
    inner.mkdir()
    machine.index.created(inner.stat().st_ino, f"/{box.name}/init.scope")
    box.run("sleep", "1000")
    machine.await_of(box.id, "created", "running")
    number = inner.stat().st_ino
    inner.rmdir()
    machine.index.removed(number)
    box.end()
    machine.await_of(box.id, "created", "running", "exited")


def test_a_container_that_was_gone_before_anybody_looked_is_created_and_destroyed(machine: Machine, box: Box) -> None:
    machine.follow()
    box.make(is_heard_of=False)
    cgroup = box.cgroup
    box.remove(is_heard_of=False)
    machine.index.created(cgroup, f"/{box.name}")
    machine.index.removed(cgroup)
    machine.await_of(box.id, "created", "destroyed")


def test_cgroups_of_the_host_are_not_told(machine: Machine, box: Box) -> None:
    machine.follow()
    with own_cgroup(machine.hierarchy.mount) as path:
        machine.index.created(path.stat().st_ino, f"/{path.name}")
        (path / "sub").mkdir()
        machine.index.created((path / "sub").stat().st_ino, f"/{path.name}/sub")
        box.make()
        machine.await_of(box.id, "created")
    assert [change.container.id for change in machine.changes if path.name in change.container.id] == []
    assert len({change.container.id for change in machine.changes}) == 1


def test_a_container_that_runs_out_of_memory_says_so(limited: Box) -> None:
    keeper = limited.run("sleep", "1000")
    limited.machine.await_of(limited.id, "created", "running")
    assert limited.run("python3", "-c", HOG).wait(30) == -9
    limited.machine.await_of(limited.id, "created", "running", "oom")
    assert limited.machine.changes[-1].host_pid == keeper.pid


def test_an_oom_that_ends_the_container_is_told_before_its_end(limited: Box) -> None:
    assert limited.run("python3", "-c", HOG).wait(30) == -9
    limited.machine.await_of(limited.id, "created", "running", "oom", "exited")


def test_no_watch_is_left_of_containers_that_are_gone(machine: Machine) -> None:
    machine.follow()
    for _ in range(20):
        box = Box(machine)
        try:
            box.make()
            machine.await_of(box.id, "created")
            box.remove()
            machine.await_of(box.id, "created", "destroyed")
        finally:
            box.close()
    inotify = machine.watch._members._inotify
    assert inotify is not None
    watched = Path(f"/proc/self/fdinfo/{inotify.fd}").read_text().count("inotify wd:")
    assert watched == len(machine.watch._members._by_watch)
    assert watched <= 2 * len(machine.watch._members._members)


def test_without_inotify_containers_are_looked_at_once_a_second(
    machine: Machine, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("bpfd.containers.members.Inotify", none)
    machine.follow()
    box.make()
    box.run("sleep", "1000")
    machine.await_of(box.id, "created", "running")
    box.end()
    machine.await_of(box.id, "created", "running", "exited")


class Files:
    """An index of one container, whose cgroup is a directory of files that look like those of v2."""

    def __init__(self, place: Path) -> None:
        self.container = Container("f" * 64, "podman")
        self.path = place / "libpod"
        self.path.mkdir()
        self.write(populated=0, frozen=0, kills=0)

    def write(self, *, populated: int, frozen: int, kills: int) -> None:
        """In one piece, as the kernel does: the texts have the same length each time."""
        texts = {
            "memory.events": f"low 0\noom 9\noom_kill {kills}\noom_group_kill 0\n",
            "cgroup.events": f"populated {populated}\nfrozen {frozen}\n",
        }
        for name, text in texts.items():
            file = os.open(self.path / name, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(file, text.encode())
            os.close(file)

    def by_id(self, container_id: str) -> Container:
        return self.container

    def cgroups(self) -> Iterator[tuple[int, Container, str]]:
        yield from ()

    def path_of(self, cgroup_id: int) -> str | None:
        return "/libpod"


def test_v2_tells_of_memory_and_nothing_is_read_again_and_again(tmp_path: Path) -> None:
    files, changes = Files(tmp_path), list[ContainerChange]()
    watch = LifeWatch(files, Places((str(tmp_path), "/"), None, None))
    watch.follow(changes.append)
    try:
        watch.cgroup_came(5, files.container, None)
        eventually(lambda: [change.action for change in changes] == ["created"])
        files.write(populated=1, frozen=0, kills=0)
        eventually(lambda: [change.action for change in changes][1:] == ["running"])
        files.write(populated=1, frozen=1, kills=2)
        eventually(lambda: sorted(change.action for change in changes[2:]) == ["oom", "paused"])
        files.write(populated=0, frozen=0, kills=2)
        eventually(lambda: [change.action for change in changes[4:]] == ["exited"])
        assert list(watch._members._turn) == []
    finally:
        watch.unfollow(changes.append)
        watch.close()
