"""Events of containers of a real dockerd carry the right container, however short it lived."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from bpfd.containers.cgroups import find_hierarchy
from tests.daemon.running import JsonEvent, RunningDaemon, open_rule, until
from tests.daemon.seed import follow_as_the_seed
from tests.dockerd import Dockerd

NOBODY = 65534
SHADOW = open_rule("/etc/shadow", more='containerRuntimes = ["docker"]')
LONG_LIVED, EACH = 6, 320
SHORT_LIVED = 80


def seen(event: JsonEvent) -> tuple[int, int, int, str, str, str]:
    """Who did it, and where, as both APIs tell it."""
    pid, uid, gid = (event.get(name.lower(), event.get(name)) for name in ("PID", "UID", "GID"))
    assert isinstance(pid, int)
    assert isinstance(uid, int)
    assert isinstance(gid, int)
    return pid, uid, gid, event["command"], event["containerID"], event["containerRuntime"]


@pytest.fixture
def watching(daemon: RunningDaemon, dockerd: Dockerd) -> RunningDaemon:
    """A daemon beside Docker, with a rule for /etc/shadow in containers; not yet started."""
    daemon.write_rule("shadow", SHADOW)
    daemon.environment["DOCKER_HOST"] = dockerd.address
    return daemon


@pytest.mark.parametrize("uid", [0, NOBODY])
def test_reading_a_secret_in_a_container_is_told_everywhere(
    watching: RunningDaemon, dockerd: Dockerd, seed_client: dict[str, str], uid: int
) -> None:
    watching.start()
    trace, seed = watching.trace(), follow_as_the_seed(watching, seed_client)
    container = dockerd.run(["sleep", "1000"], name=f"web-{uid}", labels={"team": "blue"})
    api = dockerd.client.api
    done = api.exec_create(container.id, ["cat", "/etc/shadow"], user=f"{uid}:{uid}")
    api.exec_start(done["Id"])
    wanted = (api.exec_inspect(done["Id"])["Pid"], uid, uid, "cat", container.id, "docker")

    def ours(event: JsonEvent) -> bool:
        """Containers of a test beside this one may read their /etc/shadow too."""
        return event["containerID"] in ("", container.id)

    (event,) = watching.wait_for(lambda event: event["rule"] == "shadow" and ours(event))
    assert seen(event) == wanted
    assert event["container"] == {"name": f"web-{uid}", "image": dockerd.image, "labels": {"team": "blue"}}
    assert event["returnValue"] == (-13 if uid else 3)
    assert (event["data"]["filename"], event["data"]["path"]) == ("/etc/shadow", "/etc/shadow")
    assert trace.wait_for(ours) == [event]
    assert [seen(event) for event in seed.wait_for(ours)] == [wanted]
    subprocess.run(["cat", "/etc/shadow"], check=True, stdout=subprocess.DEVNULL)
    watching.create("host", open_rule("/etc/shadow", more='containerRuntimes = ["not-found"]'))
    cat = subprocess.Popen(["cat", "/etc/shadow"], stdout=subprocess.DEVNULL)
    cat.wait()
    (sentinel,) = watching.wait_for(lambda event: event["rule"] == "host" and event["pid"] == cat.pid)
    assert [one for one in watching.events("shadow", sentinel) if ours(one)] == [event]
    container.remove(force=True)


@pytest.mark.serial
def test_every_one_of_2000_short_lived_processes_is_seen_in_its_container(
    watching: RunningDaemon, dockerd: Dockerd, brief: Path
) -> None:
    """Also those of containers that end as soon as they began."""
    watching.write_rule("end", 'tracer = "exec"\n[filterEvents.argv]\nvalues = ["brief end "]\n')
    watching.start()
    program = {str(brief): {"bind": "/brief", "mode": "ro"}}
    wanted: dict[str, str] = {}
    containers = []
    for number in range(LONG_LIVED):
        tag = f"long{number}"
        container = dockerd.run(["/brief", "spawn", str(EACH), tag], volumes=program)
        assert container.id is not None
        containers.append(container)
        wanted |= {f"brief end {tag}-{n}": container.id for n in range(EACH)}
    for number in range(8):
        tag = f"short{number}"
        container = dockerd.run(["/brief", "spawn", str(SHORT_LIVED // 8), tag], volumes=program)
        assert container.id is not None
        containers.append(container)
        wanted |= {f"brief end {tag}-{n}": container.id for n in range(SHORT_LIVED // 8)}
    assert len(wanted) == 2000
    for container in containers:
        assert container.wait()["StatusCode"] == 0
    until(lambda: watching.rule("end")["matched"] >= 2000, lambda: watching.rule("end"))
    events = watching.wait_for(lambda event: event["rule"] == "end", 2000)
    got = {event["data"]["argv"]: event["containerID"] for event in events}
    assert len(events) == 2000
    assert {argv: (got.get(argv), container) for argv, container in wanted.items() if got.get(argv) != container} == {}
    assert {event["containerRuntime"] for event in events} == {"docker"}
    assert watching.tracer("exec")["lost"] == 0
    for container in containers:
        container.remove(force=True)


def test_a_container_that_lived_for_10_ms_is_named(daemon: RunningDaemon, brief: Path, tmp_path: Path) -> None:
    """A hundred cgroups of the sort that Docker makes, each for the life of one process and no longer."""
    daemon.write_rule("end", f'tracer = "exec"\n[filterEvents.argv]\nvalues = ["end {tmp_path.name}-"]\n')
    daemon.start()
    above = find_hierarchy().mount / f"docker-{os.getpid()}"
    above.mkdir()
    lived_ms = []
    try:
        ids = [f"{number:064x}" for number in range(0xABC0, 0xABC0 + 100)]
        for container in ids:
            began = time.monotonic()
            place = above / f"docker-{container}.scope"
            place.mkdir()
            words = ["sh", "-c", f'echo $$ > {place}/cgroup.procs; exec "$0" end "$1"', str(brief)]
            subprocess.run([*words, f"{tmp_path.name}-{container}"], check=True)
            until(lambda place=place: not (place / "cgroup.procs").read_text(), lambda: "it does not end")
            place.rmdir()
            lived_ms.append((time.monotonic() - began) * 1000)
    finally:
        for place in above.glob("*.scope"):
            place.rmdir()
        above.rmdir()
    events = daemon.wait_for(lambda event: event["rule"] == "end", 100)
    print(f"lived for {min(lived_ms):.1f} to {max(lived_ms):.1f} ms")
    told = [(event["containerID"], event["containerRuntime"], event["data"]["argv"][-64:]) for event in events]
    assert told == [(container, "docker", container) for container in ids]


def test_the_sample_of_the_seed_sees_ping_in_a_container_and_nowhere_else(
    watching: RunningDaemon, dockerd: Dockerd, tmp_path: Path
) -> None:
    from tests.daemon.test_rules import SEEDS_SAMPLE

    watching.write_rule("sample", SEEDS_SAMPLE)
    watching.start()
    (tmp_path / "ping").symlink_to("/bin/true")
    subprocess.run([tmp_path / "ping"], check=True)
    container = dockerd.run(["ping", "-c", "1", "127.0.0.1"])
    container.wait()
    other = dockerd.run(["true"])
    other.wait()
    (event,) = watching.wait_for(lambda event: event["rule"] == "sample")
    assert (event["command"], event["containerID"], event["data"]["argv"]) == (
        "ping",
        container.id,
        "ping -c 1 127.0.0.1",
    )
    for one in (container, other):
        one.remove(force=True)


def test_a_docker_that_comes_later_is_asked_for_names(daemon: RunningDaemon, dockerd: Dockerd, tmp_path: Path) -> None:
    """Until then everything works, and the cgroup tells the container's id."""
    daemon.write_rule("shadow", SHADOW)
    daemon.environment["DOCKER_HOST"] = f"unix://{tmp_path}/later"
    daemon.start()
    container = dockerd.run("while :; do cat /etc/shadow; sleep 0.2; done", name="came-before")
    first = daemon.wait_for(lambda event: event["containerID"] == container.id)[0]
    assert (first["containerRuntime"], first["container"]["name"]) == ("docker", "")
    (tmp_path / "later").symlink_to(dockerd.socket)
    named = daemon.wait_for(lambda event: event["container"]["name"] == "came-before", within_s=20)[0]
    assert (named["containerID"], named["container"]["image"]) == (container.id, dockerd.image)
    container.remove(force=True)
    late = dockerd.run("while :; do cat /etc/shadow; sleep 0.2; done", name="came-after")
    event = daemon.wait_for(lambda event: event["container"]["name"] == "came-after")[0]
    assert event["containerID"] == late.id
    late.remove(force=True)
