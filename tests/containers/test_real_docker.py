"""Containers of a real dockerd are named: at once by id and runtime, soon by name, image and labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.models.containers import Container as DockerContainer

from bpfd.containers.cgroups import CgroupTree, Hierarchy, find_hierarchy
from bpfd.containers.docker import DockerWatch
from bpfd.containers.index import ContainerIndex
from bpfd.event import Container
from tests.containers.cgroup_dirs import remove
from tests.containers.fake_docker import eventually
from tests.dockerd import Dockerd, running_dockerd

CGROUP_PARENT = f"/bpfd-test-parent-{os.getpid()}"


@pytest.fixture(params=[False, True], ids=["v2", "v1"])
def hierarchy(request: pytest.FixtureRequest) -> Hierarchy:
    return find_hierarchy(prefer_v1=request.param)


@pytest.fixture
def index(hierarchy: Hierarchy) -> Iterator[ContainerIndex]:
    made = ContainerIndex(hierarchy)
    yield made
    made.close()


@pytest.fixture
def watch(index: ContainerIndex, dockerd: Dockerd) -> Iterator[DockerWatch]:
    """Not started yet."""
    made = DockerWatch(index, dockerd.address)
    yield made
    made.stop()


@pytest.fixture
def sleeper(dockerd: Dockerd) -> Iterator[DockerContainer]:
    made = dockerd.run("sleep 1000", labels={"tier": "front"})
    yield made
    made.remove(force=True)


def cgroup_of(container: DockerContainer, hierarchy: Hierarchy) -> int:
    """The id of the cgroup that the container's first process is in."""
    container.reload()
    rows = Path(f"/proc/{container.attrs['State']['Pid']}/cgroup").read_text().splitlines()
    begin = f"{hierarchy.hierarchy_id}:{hierarchy.controller}:"
    (path,) = [row.removeprefix(begin) for row in rows if row.startswith(begin)]
    return (hierarchy.mount / path.lstrip("/")).stat().st_ino


def test_a_container_is_named_without_docker(
    index: ContainerIndex, hierarchy: Hierarchy, sleeper: DockerContainer
) -> None:
    assert index.lookup(cgroup_of(sleeper, hierarchy)) == Container(sleeper.id or "", "docker")


def test_docker_tells_of_a_container_that_runs(
    index: ContainerIndex, hierarchy: Hierarchy, sleeper: DockerContainer, watch: DockerWatch, dockerd: Dockerd
) -> None:
    index.scan()
    watch.start()
    cgroup_id = cgroup_of(sleeper, hierarchy)
    eventually(lambda: index.lookup(cgroup_id).name != "")
    expected = Container(sleeper.id or "", "docker", sleeper.name or "", dockerd.image, {"tier": "front"})
    assert index.lookup(cgroup_id) == expected


def test_docker_tells_of_a_container_before_it_starts(
    index: ContainerIndex, hierarchy: Hierarchy, watch: DockerWatch, dockerd: Dockerd, sleeper: DockerContainer
) -> None:
    watch.start()
    eventually(lambda: index.by_id(sleeper.id or "").name != "")
    made = dockerd.client.containers.create(
        dockerd.image, ["sleep", "1000"], labels={"a": "b"}, network_mode="none", name=f"bpfd-{os.getpid()}"
    )
    try:
        eventually(lambda: index.by_id(made.id or "").name != "")
        made.start()
        expected = Container(made.id or "", "docker", f"bpfd-{os.getpid()}", dockerd.image, {"a": "b"})
        assert index.lookup(cgroup_of(made, hierarchy)) == expected
        made.rename(f"bpfd-{os.getpid()}-new")
        eventually(lambda: index.by_id(made.id or "").name.endswith("-new"))
    finally:
        made.remove(force=True)


def test_a_container_below_a_parent_of_the_users_own_is_known_once_docker_tells(
    index: ContainerIndex, hierarchy: Hierarchy, watch: DockerWatch, dockerd: Dockerd
) -> None:
    made = dockerd.run("sleep 1000", cgroup_parent=CGROUP_PARENT)
    try:
        cgroup_id = cgroup_of(made, hierarchy)
        assert index.lookup(cgroup_id).id == ""
        watch.start()
        eventually(lambda: index.lookup(cgroup_id).id == made.id)
        assert index.lookup(cgroup_id).runtime == "docker"
    finally:
        made.remove(force=True)
        for mount in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
            if (mount / CGROUP_PARENT[1:]).is_dir():
                remove(mount / CGROUP_PARENT[1:])


def test_a_process_in_a_container_of_a_container_is_named_by_the_inner_one(
    index: ContainerIndex, hierarchy: Hierarchy, sleeper: DockerContainer
) -> None:
    inner = "1" * 64
    tree = CgroupTree(hierarchy)
    try:
        outer = hierarchy.mount / (tree.path_of(cgroup_of(sleeper, hierarchy)) or "").lstrip("/")
        path = outer / "docker" / inner
        path.mkdir(parents=True)
        try:
            assert index.lookup(path.stat().st_ino) == Container(inner, "docker")
            assert index.lookup(path.parent.stat().st_ino).id == sleeper.id
        finally:
            path.rmdir()
            path.parent.rmdir()
    finally:
        tree.close()


def test_docker_that_is_killed_and_comes_back_is_followed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bpfd.containers.docker.LONGEST_WAIT_S", 0.2)
    index = ContainerIndex(find_hierarchy())
    with running_dockerd() as own:
        watch = DockerWatch(index, own.address)
        watch.start()
        try:
            first = own.run("sleep 1000")
            eventually(lambda: index.by_id(first.id or "").name == first.name)
            own.kill()
            own.stop()
            own.start()
            second = own.run("sleep 1000")
            eventually(lambda: index.by_id(second.id or "").name == second.name)
        finally:
            watch.stop()
            index.close()


def test_dockerd_leaves_nothing_behind() -> None:
    with running_dockerd() as own:
        place, pid = own.place, own.pid
        container = own.run("sleep 1000")
        container.reload()
        inside = int(container.attrs["State"]["Pid"])
        own.kill()
    assert not place.exists()
    assert str(place) not in Path("/proc/self/mountinfo").read_text()
    eventually(lambda: not any(Path(f"/proc/{one}").exists() for one in (pid, inside)))
    eventually(lambda: not any(str(place).encode() in cmdline for cmdline in cmdlines()))


def cmdlines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            continue
