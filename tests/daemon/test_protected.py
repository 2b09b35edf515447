"""What is protected is hit neither by the kernel nor from user space, and what is not protected is; both are told."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from tests.daemon.running import JsonEvent, RunningDaemon, until
from tests.dockerd import Dockerd

RULE = """
tracer = "open"
actions = ["kill", "stdout"]
where = "{where}"
containerRuntimes = ["docker"]
[filterEvents.filename]
is = ["{path}"]
"""
IN_KERNEL, IN_USER = (f"/tmp/{kind}-{os.getpid()}-{secrets.token_hex(4)}" for kind in ("kernel", "user"))
"""Nothing that runc reads itself, nor the containers of a test beside this one: rules see the whole machine."""


@pytest.fixture
def containers(daemon: RunningDaemon, dockerd: Dockerd) -> Iterator[dict[str, Container]]:
    """Two that are protected, by name and by id, and one that is not, beside a daemon that knows their names."""
    daemon.environment["DOCKER_HOST"] = dockerd.address
    begin = f"touch {IN_KERNEL} {IN_USER}; sleep 1000"
    made = {name: dockerd.run(begin, name=f"protected-test-{name}") for name in ("named", "numbered", "other")}
    try:
        daemon.write_rule("inside", RULE.format(where="kernel", path=IN_KERNEL).replace("filename", "path"))
        daemon.write_rule("outside", RULE.format(where="user", path=IN_USER))
        ids = ["protected-test-named", made["numbered"].id, "protected-test-new"]
        protected = json.dumps([f"container:{one}" for one in ids])
        daemon.start(config=f"protected = {protected}\n")
        until(lambda: status_of(made["named"], "cat", IN_KERNEL) == 0, lambda: daemon.log)
        yield made
    finally:
        for container in made.values():
            container.remove(force=True)


def status_of(container: Container, *words: str) -> int:
    """What a program in the container ends with; 137: it was killed."""
    status = container.exec_run(list(words))[0]
    assert isinstance(status, int)
    return status


def of(daemon: RunningDaemon, rule: str, container: Container) -> JsonEvent:
    """The last event of a rule in a container."""
    wanted = {"rule": rule, "containerID": container.id}
    return daemon.wait_for(lambda event: wanted.items() <= event.items())[-1]


def test_the_kernel_kills_in_a_container_and_not_in_a_protected_one_and_both_events_say_so(
    daemon: RunningDaemon, dockerd: Dockerd, containers: dict[str, Container]
) -> None:
    statuses = {name: status_of(container, "cat", IN_KERNEL) for name, container in containers.items()}
    assert statuses == {"named": 0, "numbered": 0, "other": 137}
    did = {name: of(daemon, "inside", one)["data"].get("kernelAction") for name, one in containers.items()}
    assert did == {"named": None, "numbered": None, "other": "kill"}

    def done() -> list[str]:
        return [entry["event"]["containerID"] for entry in log(daemon, "inside", "done")]

    until(lambda: containers["other"].id in done(), done)
    assert done().count(containers["other"].id or "") == 1
    assert containers["numbered"].id not in done()
    new = dockerd.run(f"sleep 1; touch {IN_KERNEL} && cat {IN_KERNEL} && exit 7", name="protected-test-new")
    assert new.wait()["StatusCode"] == 7, "one that comes later is protected before it does anything"
    new.remove()


def test_from_user_space_nothing_is_killed_in_a_protected_container_and_the_log_says_why(
    daemon: RunningDaemon, containers: dict[str, Container]
) -> None:
    stay_s = {"named": 0.5, "numbered": 0.5, "other": 120}
    statuses = {
        name: status_of(container, "sh", "-c", f"exec 3<{IN_USER}; sleep {stay_s[name]}")
        for name, container in containers.items()
    }
    assert statuses == {"named": 0, "numbered": 0, "other": 137}
    told = {of(daemon, "outside", container)["containerID"] for container in containers.values()}
    assert told == {container.id for container in containers.values()}
    refused = until(lambda: two(log(daemon, "outside", "refused")), lambda: daemon.json("actions", "log"))
    why = {entry["event"]["containerID"]: entry["detail"] for entry in refused}
    numbered = containers["numbered"].id
    assert why == {
        containers["named"].id: "container protected-test-named: it is protected",
        numbered: f"container {numbered}: it is protected",
    }
    [done] = until(lambda: log(daemon, "outside", "done"), lambda: daemon.json("actions", "log"))
    assert done["event"]["containerID"] == containers["other"].id


def two(entries: list[Any]) -> list[Any]:
    return entries if len(entries) >= 2 else []


def log(daemon: RunningDaemon, rule: str, result: str) -> list[Any]:
    """What was done for a rule, with that result."""
    return [one for one in daemon.json("actions", "log") if (one["rule"], one["result"]) == (rule, result)]


@pytest.mark.parametrize("where", ["kernel", "user"])
def test_no_ancestor_of_the_daemon_is_killed_though_it_matches(
    daemon: RunningDaemon, tmp_path: Path, where: str
) -> None:
    """The tests are one. A shell between them and the daemon is another, and a process of the tests' is none."""
    forbidden = tmp_path / "forbidden"
    forbidden.write_text("")
    text = RULE.format(where=where, path=forbidden).replace('containerRuntimes = ["docker"]\n', "")
    daemon.write_rule("guard", text.replace("filename", "path"))
    daemon.start()
    forbidden.read_text()
    child = subprocess.Popen(["sh", "-c", f"exec 3<{forbidden}; sleep 1000"])
    assert child.wait(15) == -signal.SIGKILL
    events = daemon.wait_for(lambda event: event["rule"] == "guard", 2)
    did = {event["pid"]: event["data"].get("kernelAction") for event in events}
    assert did == {os.getpid(): None, child.pid: "kill" if where == "kernel" else None}
    if where == "user":
        [refused] = until(lambda: log(daemon, "guard", "refused"), lambda: daemon.json("actions", "log"))
        assert refused["detail"] == f"process {os.getpid()}: an ancestor of the daemon is never signalled"
    [done] = until(lambda: log(daemon, "guard", "done"), lambda: daemon.json("actions", "log"))
    assert str(child.pid) in done["target"]
