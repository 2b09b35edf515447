"""What the kernel spares is kept up to date."""

from __future__ import annotations

from collections.abc import Iterator, Set

import pytest

from bpfd import sparing as module
from bpfd.event import Container
from bpfd.protected import Protected
from bpfd.sparing import CGROUP, Sparing
from tests.containers.fake_docker import eventually


class Told:
    """What the kernel is told, and the containers that there are."""

    def __init__(self) -> None:
        self.cgroups: set[int] = set()
        self.spared: list[set[int]] = []
        self.sparing = Sparing(Protected(["container:keeper", "container:" + "a" * 64]), self._spare, self._named)

    def _spare(self, keys: object) -> None:
        assert isinstance(keys, list)
        self.spared.append({number for kind, number in keys if kind == CGROUP})

    def _named(self, names: Set[str]) -> set[int]:
        assert names == {"keeper", "a" * 64}
        return self.cgroups


@pytest.fixture
def told() -> Iterator[Told]:
    made = Told()
    made.sparing.start()
    yield made
    made.sparing.stop(5)


@pytest.mark.parametrize("container", [Container("b" * 64, "docker", "keeper"), Container("a" * 64, "podman")])
def test_a_protected_container_is_spared_as_soon_as_it_comes(told: Told, container: Container) -> None:
    told.cgroups = {7}
    told.sparing.container_came(container)
    eventually(lambda: told.spared == [{7}], module.REFRESH_S - 1)


def test_other_containers_make_no_work(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REST_S", 0)
    for number in range(1000):
        told.sparing.container_came(Container(f"{number:064x}", "docker", f"other-{number}"))
    told.sparing.container_came(Container("b" * 64, "docker", "keeper"))
    eventually(lambda: bool(told.spared))
    assert len(told.spared) == 1


def test_what_cannot_be_looked_up_is_tried_again(
    told: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "REST_S", 0)
    monkeypatch.setattr(told.sparing, "_cgroups", lambda names: 1 / 0)
    told.sparing.container_came(Container("b" * 64, "docker", "keeper"))
    eventually(lambda: "what the kernel spares was not looked up" in caplog.text)
    monkeypatch.setattr(told.sparing, "_cgroups", told._named)
    told.sparing.container_came(Container("b" * 64, "docker", "keeper"))
    eventually(lambda: told.spared == [set()])
