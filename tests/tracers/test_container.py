"""Containers' lives, of a real dockerd and of cgroups alone: each change is seen once, and right."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container as DockerContainer

from bpfd import freezer
from bpfd.event import Container, Event
from bpfd.plugin import ContainerChange
from bpfd.quicklook import QuickLook
from bpfd.rules.model import All
from bpfd.settings import Settings
from bpfd.tracers.container import MOST_LABELS, ContainerTracer
from tests.actions.receivers import http_receiver
from tests.daemon.running import PROGRAM, START_S, RunningDaemon, until
from tests.dockerd import Dockerd

HOG = "tail /dev/zero & wait $!; exit 4"
"""One process that the kernel kills where memory is limited, and a shell that goes on."""


class Seen:
    """What the tracer tells."""

    def __init__(self, take: Callable[[], list[Event]]) -> None:
        self._take = take
        self._events: list[Event] = []

    def of(self, container: DockerContainer | str) -> list[Event]:
        """The events of one container so far."""
        self._events += self._take()
        wanted = container if isinstance(container, str) else container.id
        return [event for event in self._events if event.container.id == wanted]

    def wait_for(self, container: DockerContainer | str, *actions: str) -> list[Event]:
        """Wait until this has been told of a container, and nothing else: its events."""
        until(lambda: len(self.of(container)) >= len(actions), lambda: (actions, self.of(container)))
        assert [event.data["action"] for event in self.of(container)] == list(actions)
        return self.of(container)


@pytest.fixture
def seen(dockerd: Dockerd, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """The tracer beside a dockerd that it follows by now."""
    monkeypatch.setenv("DOCKER_HOST", dockerd.address)
    with QuickLook(ContainerTracer, All(), Settings(cache_dir=cache_dir), lambda: None) as look:
        made = Seen(look.take)

        def is_followed() -> bool:
            probe = dockerd.client.containers.create(dockerd.image, ["true"], network_mode="none")
            probe.remove()
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline:
                if len(made.of(probe)) == 2:
                    return True
                time.sleep(0.01)
            return False

        until(is_followed, lambda: "Docker is not followed", START_S)
        yield made
        assert look.lost() == {}


def pid_of(container: DockerContainer) -> str:
    container.reload()
    assert container.attrs is not None
    return str(container.attrs["State"]["Pid"])


def test_docker_tells_a_life_with_all_that_belongs_to_it(seen: Seen, dockerd: Dockerd) -> None:
    began = time.time_ns()
    container = dockerd.run("trap 'exit 3' USR1; while :; do sleep 0.05; done", labels={"tier": "front", "app": "web"})
    assert container.id is not None
    seen.wait_for(container, "created", "running")
    pid = pid_of(container)
    container.exec_run(["true"])
    container.rename("renamed")
    container.pause()
    seen.wait_for(container, "created", "running", "paused")
    container.unpause()
    seen.wait_for(container, "created", "running", "paused", "resumed")
    container.kill("USR1")
    assert container.wait()["StatusCode"] == 3
    seen.wait_for(container, "created", "running", "paused", "resumed", "exited")
    container.remove()
    events = seen.wait_for(container, "created", "running", "paused", "resumed", "exited", "destroyed")
    known = {"image": dockerd.image, "labels": "app=web,tier=front"}
    assert all(known.items() <= event.data.items() for event in events)
    assert [event.data.get("host_pid") for event in events] == [None, *[pid] * 5]
    assert [event.data.get("exit_code") for event in events] == [None] * 4 + ["3", None]
    assert [event.data["name"] == "renamed" for event in events] == [False, False, True, True, True, True]
    whole = Container(container.id, "docker", "renamed", dockerd.image, {"app": "web", "tier": "front"})
    assert events[-1].container == whole
    assert {(event.pid, event.tracer, event.command) for event in events} == {(0, "container", "")}
    times = [event.time for event in events]
    assert times == sorted(times)
    assert began < times[0] < times[-1] < time.time_ns()


def test_an_oom_a_kill_and_a_restart_are_told_once(seen: Seen, dockerd: Dockerd) -> None:
    hog = dockerd.run(HOG, mem_limit="16m")
    assert hog.wait()["StatusCode"] == 4
    events = seen.wait_for(hog, "created", "running", "oom", "exited")
    assert events[-1].data["exit_code"] == "4"
    hog.remove()
    container = dockerd.run("sleep 1000")
    first = pid_of(container)
    container.restart(timeout=0)
    second = pid_of(container)
    container.kill()
    container.wait()
    container.remove()
    events = seen.wait_for(container, "created", "running", "exited", "running", "exited", "destroyed")
    assert [event.data.get("exit_code") for event in events] == [None, None, "137", None, "137", None]
    assert [event.data.get("host_pid") for event in events] == [None, first, first, second, second, second]
    # What cgroups showed meanwhile is held back for two seconds: nothing of it may come late.
    sentinel = dockerd.run("sleep 1000")
    seen.wait_for(sentinel, "created", "running")
    os.kill(dockerd.pid, signal.SIGSTOP)
    try:
        subprocess.run(["kill", "-9", pid_of_cgroup(seen, sentinel)], check=True)
        seen.wait_for(sentinel, "created", "running", "exited")
    finally:
        os.kill(dockerd.pid, signal.SIGCONT)
    assert "exit_code" not in seen.of(sentinel)[-1].data
    sentinel.wait()
    sentinel.remove()
    seen.wait_for(sentinel, "created", "running", "exited", "destroyed")
    seen.wait_for(hog, "created", "running", "oom", "exited", "destroyed")
    seen.wait_for(container, "created", "running", "exited", "running", "exited", "destroyed")


def pid_of_cgroup(seen: Seen, container: DockerContainer) -> str:
    return seen.of(container)[-1].data["host_pid"]


def test_a_container_that_cannot_be_started_never_ran(seen: Seen, dockerd: Dockerd) -> None:
    container = dockerd.client.containers.create(dockerd.image, ["/nothing"], network_mode="none")
    with pytest.raises(Exception, match="/nothing"):
        container.start()
    container.remove()
    until(
        lambda: [event.data["action"] for event in seen.of(container)][-1:] == ["destroyed"], lambda: seen.of(container)
    )
    assert [event.data["action"] for event in seen.of(container)] in (
        ["created", "destroyed"],
        ["created", "exited", "destroyed"],
    )


def test_a_label_is_not_taken_for_an_exit_code(seen: Seen, dockerd: Dockerd) -> None:
    container = dockerd.run("exit 3", labels={"exitCode": "0"})
    assert seen.wait_for(container, "created", "running", "exited")[-1].data["exit_code"] == "3"
    container.remove()


def test_a_container_that_is_frozen_behind_dockers_back_is_paused(seen: Seen, dockerd: Dockerd) -> None:
    container = dockerd.run("sleep 1000")
    assert container.id is not None
    seen.wait_for(container, "created", "running")
    freezer.freeze(container.id, True)
    seen.wait_for(container, "created", "running", "paused")
    freezer.freeze(container.id, False)
    seen.wait_for(container, "created", "running", "paused", "resumed")
    container.remove(force=True)
    seen.wait_for(container, "created", "running", "paused", "resumed", "exited", "destroyed")


def test_cgroups_tell_of_other_runtimes_and_of_nothing_on_the_host(seen: Seen) -> None:
    """The cgroups are made by processes of their own: what the one that watches does itself it does not tell."""
    container_id = secrets.token_hex(32)
    root, _ = freezer._roots()[0]
    above = root / f"bpfd-test-{secrets.token_hex(8)}"
    place, host = above / f"crio-{container_id}.scope", above / "session-1.scope"
    subprocess.run(["mkdir", "-p", place, host], check=True)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        seen.wait_for(container_id, "created")
        for directory in (place, host):
            words = ["sh", "-c", f"echo $$ > {directory}/cgroup.procs; exec sleep 1000"]
            processes.append(subprocess.Popen(words))
        seen.wait_for(container_id, "created", "running")
        freezer.freeze(container_id, True)
        seen.wait_for(container_id, "created", "running", "paused")
        freezer.freeze(container_id, False)
        seen.wait_for(container_id, "created", "running", "paused", "resumed")
    finally:
        for process in processes:
            process.kill()
            process.wait()
        until(lambda: "populated 0" in (above / "cgroup.events").read_text(), lambda: "it is not empty")
        subprocess.run(["rmdir", place, host, above], check=True)
    events = seen.wait_for(container_id, "created", "running", "paused", "resumed", "exited", "destroyed")
    assert all(event.container == Container(container_id, "cri-o") for event in events)
    assert {event.data.get("host_pid") for event in events[1:]} == {str(processes[0].pid)}
    assert {key for event in events for key in event.data} == {"action", "host_pid"}
    assert [one for one in seen._events if one.container.id == ""] == []


def test_what_a_container_is_called_is_told_as_text_within_bounds() -> None:
    told: list[tuple[Mapping[str, str], Mapping[str, Any]]] = []

    def emit(data: Mapping[str, str], **identity: Any) -> bool:
        told.append((data, identity))
        return True

    labels = {"b": "2", "a": "1,x=y", "z": "v" * 10_000}
    tracer = ContainerTracer()
    tracer.start(emit)
    tracer.container_changed(ContainerChange("exited", Container("c" * 64, "docker", "n", "i", labels), 5, 0, 42))
    tracer.container_changed(ContainerChange("created", Container("p" * 64, "podman"), 6))
    tracer.stop()
    (first, identity), (second, _) = told
    assert identity == {"time": 5, "container": Container("c" * 64, "docker", "n", "i", labels)}
    assert first["labels"].startswith("a=1,x=y,b=2,z=vvv")
    assert len(first["labels"]) == MOST_LABELS
    assert (first["exit_code"], first["host_pid"]) == ("0", "42")
    assert second == {"action": "created"}


RULES = {
    "forbidden": """
tracer = "container"
actions = ["container_kill", "stdout"]
[filterEvents.action]
is = ["running"]
[container]
label = { forbidden = "yes" }
""",
    "failed": """
tracer = "container"
actions = ["hook"]
[filterEvents.action]
is = ["exited"]
[filterEvents.exit_code]
above = 0
""",
    "oom": """
tracer = "container"
actions = ["stdout"]
output = "{containerID} has too little memory: {labels}"
[filterEvents.action]
is = ["oom"]
[filterEvents.labels]
values = ["tier=front"]
""",
}


def test_rules_on_containers_are_answered(daemon: RunningDaemon, dockerd: Dockerd) -> None:
    for name, text in RULES.items():
        daemon.write_rule(name, text)
    daemon.environment["DOCKER_HOST"] = dockerd.address
    with http_receiver() as receiver:
        config = f'[actions.hook]\ntype = "webhook"\nurl = "{receiver.url}"\n'
        config += f'[actions.container_kill]\ndocker_host = "{dockerd.address}"\n'
        daemon.start(config=config)
        allowed = dockerd.run("sleep 1000", labels={"forbidden": "no"})
        forbidden = dockerd.run("sleep 1000", labels={"forbidden": "yes"})
        good = dockerd.run("exit 0")
        hogs = [dockerd.run(HOG, mem_limit="16m", labels={"tier": tier}) for tier in ("front", "back")]
        assert forbidden.wait()["StatusCode"] == 137
        (event,) = daemon.wait_for(lambda event: event["rule"] == "forbidden")
        assert (event["containerID"], event["data"]["action"]) == (forbidden.id, "running")
        assert (event["pid"], event["containerRuntime"]) == (0, "docker")
        (event,) = daemon.wait_for(lambda event: event["rule"] == "oom")
        assert (event["containerID"], event["container"]["labels"]) == (hogs[0].id, {"tier": "front"})
        failed = {forbidden.id: "137", hogs[0].id: "4", hogs[1].id: "4"}

        def told() -> dict[str, str]:
            events = [json.loads(request.body) for request in list(receiver.requests)]
            return {event["containerID"]: event["data"]["exit_code"] for event in events}

        until(lambda: told() == failed, lambda: (told(), failed, daemon.log))
        allowed.reload()
        assert allowed.status == "running"
        assert daemon.json("status")["counters"]["action.container_kill.done"] == 1
        assert len(receiver.requests) == 3
    for container in (allowed, forbidden, good, *hogs):
        container.remove(force=True)


def test_bpfd_run_shows_containers(dockerd: Dockerd, cache_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "bpfd.toml").write_text(f'cache_dir = "{cache_dir}"\n')
    words = [PROGRAM, "run", "container", "--csv", "--config", str(tmp_path / "bpfd.toml")]
    environment = {**os.environ, "DOCKER_HOST": dockerd.address}
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        look = subprocess.Popen(words, stdout=stdout, stderr=stderr, env=environment)
    try:
        until(lambda: "watching container" in err.read_text(), err.read_text, START_S)
        container = dockerd.run("exit 5")
        assert container.id is not None
        container.wait()
        container.remove()

        def rows() -> list[list[str]]:
            return [row.split(",")[-6:] for row in out.read_text().splitlines() if f",{container.id}," in row]

        until(lambda: "destroyed" in [row[0] for row in rows()], lambda: (rows(), err.read_text()))
        look.send_signal(signal.SIGINT)
        assert look.wait(20) == 130
    finally:
        look.kill()
        look.wait()
    assert out.read_text().splitlines()[0].endswith(",action,name,image,labels,exit_code,host_pid")
    assert [(row[0], row[4]) for row in rows()] == [
        ("created", ""),
        ("running", ""),
        ("exited", "5"),
        ("destroyed", ""),
    ]
    assert {row[2] for row in rows()} == {dockerd.image}
