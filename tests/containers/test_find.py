"""Which container somebody means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.containers.find import ContainerError, among, container
from tests.containers.fake_docker import FakeDocker

ONE, TWO, POD = "a1" * 32, "a2" * 32, "b1" * 32
NAMES = {ONE: "web", TWO: "b1b1"}


@pytest.mark.parametrize(
    ("wanted", "meant"), [(ONE, ONE), ("web", ONE), ("a1", ONE), ("a2a2", TWO), (POD, POD), ("b1b1b1", POD)]
)
def test_an_id_the_beginning_of_one_or_a_name(wanted: str, meant: str) -> None:
    assert among(wanted, [POD, ONE], NAMES) == meant


def test_a_name_goes_before_the_beginning_of_an_id() -> None:
    assert among("b1b1", [POD], NAMES) == TWO


@pytest.mark.parametrize(
    ("wanted", "problem", "said"),
    [
        ("a", "", 'the ids of 2 containers begin with "a"; give more of it'),
        ("wob\x1b", "", 'no running container has the id or name "wob\\x1b"; docker ps lists those of Docker'),
        ("", "", 'no running container has the id or name ""; docker ps lists those of Docker'),
    ],
)
def test_nobody_and_several_are_errors(wanted: str, problem: str, said: str) -> None:
    with pytest.raises(ContainerError) as caught:
        among(wanted, [POD], NAMES, problem)
    assert str(caught.value) == said


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeDocker]:
    made = FakeDocker(tmp_path / "d.sock")
    try:
        yield made
    finally:
        made.close()


def test_a_docker_that_talks_nonsense_is_named_in_the_error(fake: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.running = b"nonsense"
    monkeypatch.setenv("DOCKER_HOST", fake.address)
    with pytest.raises(ContainerError, match=f"which does not answer at {fake.address}: "):
        container("web")
    fake.running = b'[{"Id": "' + ONE.encode() + b'", "Names": ["/web"]}, 7]'
    assert container("web") == ONE


def test_a_docker_over_tcp_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(ContainerError, match="only unix:///… is followed"):
        container("web")
