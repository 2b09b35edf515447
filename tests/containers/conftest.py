"""What tests of containers that are followed have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bpfd.containers import life_watch
from tests.containers.machines import MODES, Box, Machine, a_machine


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of which nothing tells are read twenty times a second."""
    monkeypatch.setattr(life_watch, "POLL_S", 0.05)


@pytest.fixture(params=MODES)
def machine(quick: None, request: pytest.FixtureRequest) -> Iterator[Machine]:
    with a_machine(request.param) as made:
        yield made


@pytest.fixture
def box(machine: Machine) -> Iterator[Box]:
    """Not made yet."""
    made = Box(machine)
    yield made
    made.close()
