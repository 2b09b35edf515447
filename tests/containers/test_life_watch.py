"""Who follows containers is told of all of them, also of what was not heard of, and of what Docker says."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from bpfd.containers import life_watch as module
from bpfd.containers.docker import DockerWatch
from bpfd.containers.lives import Listed
from bpfd.plugin import ContainerChange
from tests.containers.fake_docker import event, eventually, fake_docker
from tests.containers.machines import Box, Machine


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


def test_a_listener_that_fails_spoils_no_other(machine: Machine, box: Box) -> None:
    def fail(change: ContainerChange) -> None:
        raise RuntimeError("oops")

    machine.watch.follow(fail)
    machine.follow()
    box.make()
    machine.await_of(box.id, "created")
    machine.watch.unfollow(fail)


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
            later = time.time_ns() + 100 * 10**9  # than the list, however late that is heard
            fake.events = event(stays, "pause", later, name="kept")
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
