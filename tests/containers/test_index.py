"""Every cgroup is named by its container, early, late, and under all that happens meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpfd.containers import index as module
from bpfd.containers.cgroups import Hierarchy, find_hierarchy
from bpfd.containers.index import ContainerIndex
from bpfd.event import HOST, Container
from tests.containers.cgroup_dirs import own_cgroup

ID = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970"
OTHER = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d"
NOWHERE = 1 << 50
"""Ids from here on are no cgroup's of this machine."""


@pytest.fixture(params=[False, True], ids=["v2", "v1"])
def hierarchy(request: pytest.FixtureRequest) -> Hierarchy:
    return find_hierarchy(prefer_v1=request.param)


@pytest.fixture
def index(hierarchy: Hierarchy) -> Iterator[ContainerIndex]:
    made = ContainerIndex(hierarchy)
    yield made
    made.close()


@pytest.fixture
def scopes(index: ContainerIndex) -> list[tuple[int, str | None]]:
    """What the kernel's tables are told."""
    told: list[tuple[int, str | None]] = []
    index.on_scope = lambda cgroup_id, runtime: told.append((cgroup_id, runtime))
    return told


def test_containers_that_ran_before_are_known_after_the_scan(index: ContainerIndex, hierarchy: Hierarchy) -> None:
    with own_cgroup(hierarchy.mount) as path:
        container = path / "docker" / ID
        (container / "init.scope").mkdir(parents=True)
        index.scan()
        for inside in (container, container / "init.scope"):
            assert index.lookup(inside.stat().st_ino) == Container(ID, "docker")
            assert index.known()[inside.stat().st_ino] == "docker"
        assert index.lookup(path.stat().st_ino) is HOST
        assert index.known()[path.stat().st_ino] == "not-found"


def test_the_kernel_is_told_of_what_the_scan_finds(
    index: ContainerIndex, hierarchy: Hierarchy, scopes: list[tuple[int, str | None]]
) -> None:
    with own_cgroup(hierarchy.mount) as path:
        container, maybe = path / "docker" / ID, path / OTHER
        container.mkdir(parents=True)
        maybe.mkdir()
        index.scan()
        told = dict(scopes)
        assert told[path.stat().st_ino] == "not-found"
        assert told[container.stat().st_ino] == "docker"
        assert maybe.stat().st_ino not in told
        scopes.clear()
        index.scan()
        assert not {cgroup_id for cgroup_id, _ in scopes} & told.keys(), "told twice"


def test_a_cgroup_that_goes_while_docker_claims_it_does_not_stay_in_the_kernel(index: ContainerIndex) -> None:
    kernel: dict[int, str] = {}

    def settle(cgroup_id: int, runtime: str | None) -> None:
        if runtime is None:
            kernel.pop(cgroup_id, None)
        else:
            kernel[cgroup_id] = runtime

    def tell(cgroup_id: int, runtime: str | None) -> None:
        index.on_scope = settle
        index.removed(cgroup_id)  # what the event thread does between the news and its telling
        settle(cgroup_id, runtime)

    index.created(NOWHERE, f"/my-parent/{ID}")
    index.on_scope = tell
    index.describe(ID, "web", "nginx", {})
    assert kernel == {}
    assert index.lookup(NOWHERE).name == "web"


def test_a_cgroup_that_nobody_told_of_is_looked_up_once(index: ContainerIndex, hierarchy: Hierarchy) -> None:
    with own_cgroup(hierarchy.mount) as path:
        container = path / f"crio-{ID}.scope"
        container.mkdir()
        cgroup_id = container.stat().st_ino
        assert index.lookup(cgroup_id) == Container(ID, "cri-o")
    assert index.lookup(cgroup_id) == Container(ID, "cri-o")


def test_an_unknown_cgroup_is_the_host_until_it_is_learnt(index: ContainerIndex) -> None:
    assert index.lookup(NOWHERE) is HOST
    assert NOWHERE not in index.known()
    index.created(NOWHERE, f"/docker/{ID}")
    assert index.lookup(NOWHERE) == Container(ID, "docker")


def test_a_container_that_is_gone_is_still_named(index: ContainerIndex, scopes: list[tuple[int, str | None]]) -> None:
    index.created(NOWHERE, f"/docker/{ID}")
    index.removed(NOWHERE)
    assert index.lookup(NOWHERE) == Container(ID, "docker")
    assert NOWHERE not in index.known()
    assert scopes == [(NOWHERE, "docker"), (NOWHERE, None)]


def test_only_the_last_of_the_gone_are_remembered(index: ContainerIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LATE", 10)
    for number in range(30):
        index.created(NOWHERE + number, f"/lxc/c{number}")
        index.removed(NOWHERE + number)
    assert [index.lookup(NOWHERE + number).id for number in range(20, 30)] == [f"c{number}" for number in range(20, 30)]
    assert index.lookup(NOWHERE + 19) is HOST


def test_memory_is_bounded_whatever_is_asked(index: ContainerIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LATE", "MOST_TOLD", "MOST"):
        monkeypatch.setattr(module, name, 50)
    for number in range(500):
        index.lookup(NOWHERE + number)
        index.removed(NOWHERE + 1000 + number)
        index.created(NOWHERE + 2000 + number, f"/x/{number:064x}")
        index.created(NOWHERE + 3000 + number, f"/docker/{number:064x}")
        index.describe(f"{number:064x}", "n", "i", {})
        index.describe(f"{number + 7000:064x}", "n", "i", {})
    assert len(index._named) <= module.MOST + module.LATE
    for kept in (index._members, index._unclaimed, index._owners):
        assert len(kept) <= len(index._named)
    assert max(len(index._late), len(index._told)) <= 50


def test_docker_names_a_container_before_and_after_its_cgroup_is_made(index: ContainerIndex) -> None:
    index.describe(ID, "web", "nginx:1", {"tier": "front"})
    index.created(NOWHERE, f"/docker/{ID}")
    index.created(NOWHERE + 1, f"/system.slice/docker-{OTHER}.scope")
    index.describe(OTHER, "db", "postgres", {})
    assert index.lookup(NOWHERE) == Container(ID, "docker", "web", "nginx:1", {"tier": "front"})
    assert index.lookup(NOWHERE + 1) == Container(OTHER, "docker", "db", "postgres", {})
    index.created(NOWHERE + 2, f"/docker/{ID}/init.scope")
    assert index.lookup(NOWHERE + 2).name == "web"
    index.describe(ID, "web2", "nginx:1", {})
    assert {index.lookup(NOWHERE + number).name for number in (0, 2)} == {"web2"}


def test_a_container_of_a_pod_stays_one_when_docker_names_it(index: ContainerIndex) -> None:
    index.created(NOWHERE, f"/kubepods/burstable/pod9c4fd2a1-0e5b-4c7a-9d3e-2f1b6a7c8d9e/{ID}")
    index.describe(ID, "k8s_web", "nginx:1", {})
    assert index.lookup(NOWHERE) == Container(ID, "kube", "k8s_web", "nginx:1", {})


def test_a_bare_number_is_a_container_only_if_docker_says_so(
    index: ContainerIndex, scopes: list[tuple[int, str | None]]
) -> None:
    index.created(NOWHERE, f"/my-parent/{ID}")
    index.created(NOWHERE + 1, f"/my-parent/{OTHER}")
    assert index.lookup(NOWHERE) is HOST
    assert not {NOWHERE, NOWHERE + 1} & set(index.known())
    assert scopes == [], "the kernel must not drop what may yet turn out to be a container's"
    index.describe(ID, "web", "nginx", {})
    assert index.lookup(NOWHERE) == Container(ID, "docker", "web", "nginx", {})
    assert index.lookup(NOWHERE + 1) is HOST
    assert scopes == [(NOWHERE, "docker")]
    index.created(NOWHERE + 2, f"/my-parent/{ID}/init.scope")
    assert index.lookup(NOWHERE + 2).name == "web"


@pytest.mark.parametrize("fake", [f"docker-{ID}.scope", f"docker/{ID}", f"libpod-{ID}.scope", f"mine/{ID}"])
def test_nobody_is_taken_for_a_container_whose_id_he_gave_to_a_cgroup(index: ContainerIndex, fake: str) -> None:
    index.created(NOWHERE, f"/docker/{ID}")
    index.created(NOWHERE + 1, f"/user.slice/user-1000.slice/user@1000.service/{fake}")
    index.created(NOWHERE + 2, f"/docker/{OTHER}/{fake}/x")
    index.describe(ID, "web", "nginx", {})
    assert index.lookup(NOWHERE).name == "web"
    assert index.lookup(NOWHERE + 1) is HOST
    assert index.lookup(NOWHERE + 2).id == OTHER
    index.created(NOWHERE + 3, f"/docker/{ID}/{fake}")
    assert index.lookup(NOWHERE + 3).id == ID


def test_a_container_that_starts_again_is_the_same_one(index: ContainerIndex) -> None:
    index.created(NOWHERE, f"/docker/{ID}")
    index.removed(NOWHERE)
    index.created(NOWHERE + 1, f"/elsewhere/docker/{ID}")
    assert index.lookup(NOWHERE).id == index.lookup(NOWHERE + 1).id == ID


def test_containers_of_the_same_name_in_two_containers_are_both_known(index: ContainerIndex) -> None:
    index.created(NOWHERE, "/lxc.payload.a/lxc.payload.web")
    index.created(NOWHERE + 1, "/lxc.payload.b/lxc.payload.web")
    assert index.lookup(NOWHERE).id == index.lookup(NOWHERE + 1).id == "web"


def test_containers_are_found_by_their_id(index: ContainerIndex) -> None:
    assert index.by_id(ID) == Container(ID)
    index.describe(ID, "web", "nginx", {})
    assert index.by_id(ID) == Container(ID, "docker", "web", "nginx", {})
    index.created(NOWHERE, f"/machine.slice/libpod-{OTHER}.scope")
    assert index.by_id(OTHER) == Container(OTHER, "podman")


def test_what_was_told_outlives_many_others_while_the_container_runs(
    index: ContainerIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_TOLD", 5)
    index.describe(ID, "web", "nginx", {})
    index.created(NOWHERE, f"/docker/{ID}")
    for number in range(20):
        index.describe(f"{number:064x}", "short", "lived", {})
    index.created(NOWHERE + 1, f"/docker/{ID}/later")
    assert index.lookup(NOWHERE + 1).name == "web"
    assert index.by_id(ID).name == "web"


def test_a_removal_that_comes_before_the_scan_gets_there_leaves_nothing(index: ContainerIndex) -> None:
    index.removed(NOWHERE)
    assert NOWHERE not in index.known()
    assert index.lookup(NOWHERE) is HOST


def test_lookups_go_on_while_everything_changes(index: ContainerIndex) -> None:
    stop = threading.Event()
    errors: list[BaseException] = []

    def describe() -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                index.describe(ID, f"n{number}", f"n{number}", {"n": f"n{number}"})
                index.known()
                index.by_id(ID)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=describe)
    thread.start()
    try:
        for number in range(3000):
            index.created(NOWHERE + number, f"/docker/{ID}/{number}")
            found = index.lookup(NOWHERE + number // 2)
            assert found.id == ID
            assert found.name == found.image == found.labels.get("n", ""), "half of one description, half of another"
            if number % 3 == 0:
                index.removed(NOWHERE + number)
    finally:
        stop.set()
        thread.join()
    assert errors == []


def test_a_lookup_costs_no_more_than_a_dictionary(index: ContainerIndex) -> None:
    index.created(NOWHERE, f"/docker/{ID}")
    best = 1.0
    for _ in range(5):
        began = time.process_time()
        for _ in range(20_000):
            index.lookup(NOWHERE)
        best = min(best, (time.process_time() - began) / 20_000)
    assert best < 2e-6


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("created"), st.integers(0, 5), st.sampled_from([f"/docker/{ID}", f"/x/{ID}", "/a", f"/x/{OTHER}"])
        ),
        st.tuples(st.sampled_from(["removed", "lookup"]), st.integers(0, 5), st.just("")),
        st.tuples(st.just("describe"), st.just(0), st.sampled_from([ID, OTHER])),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(STEPS)
def test_no_order_of_news_leaves_the_index_at_odds_with_itself(steps: list[tuple[str, int, str]]) -> None:
    index = ContainerIndex(find_hierarchy())
    told: dict[int, str | None] = {}
    index.on_scope = told.__setitem__
    try:
        for step, number, text in steps:
            if step == "describe":
                index.describe(text, "n", "i", {})
            elif step == "created":
                index.created(NOWHERE + number, text)
            else:
                getattr(index, step)(NOWHERE + number)
        for cgroup_id, runtime in index.known().items():
            assert told[cgroup_id] == runtime == index.lookup(cgroup_id).runtime
        members = {cgroup_id for group in index._members.values() for cgroup_id in group}
        assert members <= index._named.keys()
        assert all(index._members.values())
        assert {owner for owner, _ in index._owners.values()} <= index._named.keys()
    finally:
        index.close()
