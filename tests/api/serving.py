"""Fixtures: a server over a daemon without a kernel, and a client of it. All is closed, and looked at, afterwards."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.api.address import parse_address
from bpfd.api.client import Client, connect
from bpfd.api.server import Server
from tests.api.fake_control import FakeControl


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def socket_dir() -> Iterator[Path]:
    """A directory with a short path: a Unix socket's may not be long."""
    path = Path(tempfile.mkdtemp(prefix="bpfd-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server(control: FakeControl, socket_dir: Path) -> Iterator[Server]:
    server = Server(control, f"unix://{socket_dir}/run/bpfd.sock")
    server.start()
    yield server
    control.gate.set()
    server.stop(grace=0.5)
    deadline = time.monotonic() + 20
    while left := [thread.name for thread in threading.enumerate() if thread.name.startswith("bpfd-api")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)
    while control.subscriptions:  # the last of a cancelled call may still be under way
        assert time.monotonic() < deadline, control.subscriptions
        time.sleep(0.01)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with connect(parse_address(server.address)) as client:
        yield client
