"""Real cgroups that look like containers are followed through their lives, in each mode that a machine may be in."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bpfd.containers import life_watch as module
from bpfd.containers.cgroups import Hierarchy, find_hierarchy
from bpfd.containers.docker import DockerWatch
from bpfd.containers.index import ContainerIndex
from bpfd.containers.life_watch import LifeWatch
from bpfd.containers.lives import Listed
from bpfd.containers.shown import Places
from bpfd.event import Container
from bpfd.plugin import ContainerChange
from tests.containers.cgroup_dirs import own_cgroup, remove
from tests.containers.fake_docker import event, eventually, fake_docker

HERE = Places.here()
MODES = {"v2": Places(HERE.v2, None, None), "hybrid": HERE, "v1": Places(None, HERE.freezer, HERE.memory)}
CONTROLLERS = "cgroup.controllers"
LIMITS = ("memory.max", "memory.limit_in_bytes")
HOG = "a = b'x' * (64 << 20)"


class Machine:
    """An index and a watch of it, told of cgroups as the kernel would."""

    def __init__(self, places: Places, hierarchy: Hierarchy) -> None:
        self.places, self.hierarchy = places, hierarchy
        self.index = ContainerIndex(hierarchy)
        self.watch = LifeWatch(self.index, places)
        self.index.on_cgroup, self.index.on_gone = self.watch.cgroup_came, self.watch.cgroup_went
        self.changes: list[ContainerChange] = []

    def follow(self) -> None:
        self.index.scan()
        self.watch.follow(self.changes.append)

    def close(self) -> None:
        self.watch.unfollow(self.changes.append)
        self.watch.close()
        self.index.close()

    def of(self, container_id: str) -> list[str]:
        """What was told of a container."""
        return [change.action for change in list(self.changes) if change.container.id == container_id]

    def await_of(self, container_id: str, *actions: str) -> None:
        """Wait until exactly this was told of it."""
        eventually(lambda: len(self.of(container_id)) >= len(actions))
        assert self.of(container_id) == list(actions)


class Box:
    """A container of cri-o, as far as its cgroups tell, in every hierarchy of a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.id = machine, secrets.token_hex(32)
        places = machine.places
        mounts = dict.fromkeys(Path(place[0]) for place in (places.v2, places.freezer, places.memory) if place)
        self.name = f"bpfd-test-{secrets.token_hex(8)}/crio-{self.id}.scope"
        self.paths = [mount / self.name for mount in mounts]
        self.processes: list[subprocess.Popen[bytes]] = []

    def make(self, *, is_heard_of: bool = True) -> None:
        for path in self.paths:
            path.mkdir(parents=True)
        self.cgroup = (self.machine.hierarchy.mount / self.name).stat().st_ino
        if is_heard_of:
            self.machine.index.created(self.cgroup, f"/{self.name}")

    def run(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a process in it."""
        procs = " ".join(f"{path}/cgroup.procs" for path in self.paths)
        script = f'for f in {procs}; do echo $$ > $f; done; exec "$@"'
        process = subprocess.Popen(["sh", "-c", script, "sh", *words], stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def freeze(self, frozen: bool) -> None:
        """As its runtime does: by v1 where there is a v1 freezer."""
        for path in self.paths:
            if (path / "freezer.state").exists():
                (path / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
                return
        (self.paths[0] / "cgroup.freeze").write_text(str(int(frozen)))

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()

    def remove(self, *, is_heard_of: bool = True) -> None:
        for path in self.paths:
            remove(path.parent)
        if is_heard_of:
            self.machine.index.removed(self.cgroup)

    def close(self) -> None:
        for path in self.paths:
            for name, text in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                if (path / name).exists():
                    (path / name).write_text(text)
        self.end()
        for path in self.paths:
            if path.parent.exists():
                remove(path.parent)


def has_memory(places: Places) -> bool:
    """Whether one of its hierarchies limits memory."""
    return places.memory is not None or bool(places.v2 and "memory" in Path(places.v2[0], CONTROLLERS).read_text())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.05)


@pytest.fixture(params=MODES)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with a_machine(request.param) as made:
        yield made


@contextmanager
def a_machine(mode: str) -> Iterator[Machine]:
    made = Machine(MODES[mode], find_hierarchy(prefer_v1=mode == "v1"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def box(machine: Machine) -> Iterator[Box]:
    """Not made yet."""
    made = Box(machine)
    yield made
    made.close()


@pytest.fixture(params=[mode for mode, places in MODES.items() if has_memory(places)])
def limited(request: pytest.FixtureRequest) -> Iterator[Box]:
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


def test_what_was_not_heard_of_is_found_by_looking_at_all(
    machine: Machine, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESYNC_S", 0.1)
    lost = 0
    machine.watch.lost = lambda: lost
    machine.follow()
    box.make(is_heard_of=False)
    box.run("sleep", "1000")
    lost = 1
    eventually(lambda: machine.of(box.id) == ["created", "running"])
    box.end()
    eventually(lambda: machine.of(box.id)[2:] == ["exited"])
    box.remove(is_heard_of=False)
    lost = 2
    eventually(lambda: machine.of(box.id)[3:] == ["destroyed"])


def test_a_container_that_runs_out_of_memory_says_so(limited: Box) -> None:
    keeper = limited.run("sleep", "1000")
    limited.machine.await_of(limited.id, "created", "running")
    assert limited.run("python3", "-c", HOG).wait(30) == -9
    limited.machine.await_of(limited.id, "created", "running", "oom")
    assert limited.machine.changes[-1].host_pid == keeper.pid


def test_an_oom_that_ends_the_container_is_told_before_its_end(limited: Box) -> None:
    assert limited.run("python3", "-c", HOG).wait(30) == -9
    limited.machine.await_of(limited.id, "created", "running", "oom", "exited")


def test_nothing_is_left_when_nobody_follows_any_more(machine: Machine, box: Box) -> None:
    machine.follow()
    box.make()
    machine.await_of(box.id, "created")
    machine.watch.unfollow(machine.changes.append)
    assert "bpfd-lives" not in [thread.name for thread in threading.enumerate()]
    box.run("sleep", "1000")
    machine.follow()
    box.end()
    machine.await_of(box.id, "created")


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


def test_a_listener_that_fails_spoils_no_other(machine: Machine, box: Box) -> None:
    def fail(change: ContainerChange) -> None:
        raise RuntimeError("oops")

    machine.watch.follow(fail)
    machine.follow()
    box.make()
    machine.await_of(box.id, "created")
    machine.watch.unfollow(fail)


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


def test_news_of_cgroups_that_find_no_room_are_counted_and_made_up_for(
    machine: Machine, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESYNC_S", 0.1)
    machine.follow()
    monkeypatch.setattr(module, "MOST_NEWS", 0)
    box.make()
    assert machine.watch.changes_lost == 1
    eventually(lambda: machine.of(box.id) == ["created"])


def test_what_docker_did_while_it_was_away_is_told_when_it_is_back(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bpfd.containers.docker.LONGEST_WAIT_S", 0.1)
    stays, goes, comes = ("a" * 64, "b" * 64, "c" * 64)
    docker = DockerWatch(machine.index, f"unix://{tmp_path}/d", machine.watch)
    machine.watch.on_begin = docker.again
    docker.start()
    try:
        machine.follow()
        with fake_docker(tmp_path / "d") as fake:
            fake.running = json.dumps([{"Id": one, "State": "running"} for one in (stays, goes)]).encode()
            fake.events = event(stays, "pause", time.time_ns() + 10**9, name="kept")
            eventually(lambda: machine.of(stays) == ["paused"])
        with fake_docker(tmp_path / "d") as fake:
            said = [{"Id": stays, "State": "paused"}, {"Id": comes, "State": "exited", "Status": "Exited (3) now"}]
            fake.running = json.dumps(said).encode()
            machine.await_of(goes, "exited", "destroyed")
            machine.await_of(comes, "created", "exited")
    finally:
        docker.stop()
    assert machine.of(stays) == ["paused"]
    assert {change.exit_code for change in machine.changes if change.container.id == comes} == {None, 3}


def test_who_follows_has_docker_heard_already(machine: Machine, tmp_path: Path) -> None:
    with fake_docker(tmp_path / "d") as fake:
        fake.running = json.dumps([{"Id": "e" * 64, "State": "paused"}]).encode()
        docker = DockerWatch(machine.index, fake.address, machine.watch)
        machine.watch.on_begin = docker.again
        docker.start()
        try:
            machine.follow()
            life = machine.watch._lives.life("e" * 64)
            assert life is not None
            assert life.state == "paused"
            assert machine.of("e" * 64) == []
        finally:
            docker.stop()


def test_nothing_is_kept_of_a_container_that_docker_removed_before_its_cgroup_went(machine: Machine, box: Box) -> None:
    box.make()
    process = box.run("sleep", "1000")
    eventually(lambda: all(str(process.pid) in (path / "cgroup.procs").read_text().split() for path in box.paths))
    machine.follow()
    machine.watch.docker_listed([Listed(box.id, "running")], time.time_ns(), True)
    machine.watch.docker_said(box.id, "exited", time.time_ns(), 137)
    machine.watch.docker_said(box.id, "destroyed", time.time_ns(), None)
    machine.await_of(box.id, "exited", "destroyed")
    box.end()
    eventually(lambda: not any((path / "cgroup.procs").read_text() for path in box.paths))
    box.freeze(True)
    other = Box(machine)
    try:
        other.make()
        machine.await_of(other.id, "created")
        box.freeze(False)
        box.remove()
        other.remove()
        machine.await_of(other.id, "created", "destroyed")
    finally:
        other.close()
    machine.await_of(box.id, "exited", "destroyed")
    assert machine.watch._lives.life(box.id) is None


def test_what_docker_says_waits_for_no_room_and_is_not_lost(machine: Machine) -> None:
    machine.follow()
    machine.watch.docker_listed([], time.time_ns() - 1, True)
    ids = [f"{number:064x}" for number in range(0xD0C0, 0xD0C0 + 50)]
    for container_id in ids:
        machine.watch.docker_said(container_id, "created", time.time_ns(), None)
        machine.watch.docker_said(container_id, None, time.time_ns(), None)
    machine.watch.docker_left()
    machine.watch.docker_listed([Listed(ids[0], "exited", 3)], time.time_ns(), True)
    for container_id in ids[1:]:
        machine.await_of(container_id, "created", "oom", "destroyed")
    machine.await_of(ids[0], "created", "oom", "exited")


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


@pytest.mark.parametrize(
    "text", ["", "populated", "populated x\n", "populated 1 2\n", "\0\xff", "frozen 1\n" * 100_000, "populated -1\n"]
)
def test_a_file_that_makes_no_sense_shows_nothing(tmp_path: Path, text: str) -> None:
    files = Files(tmp_path)
    (files.path / "cgroup.events").write_text(text, encoding="latin-1")
    shown = Places((str(tmp_path), "/"), None, None).look("/libpod")
    assert shown is not None
    assert (shown.populated, shown.oom_kills) == (False, 0)
