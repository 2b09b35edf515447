"""Taking the address."""

from __future__ import annotations

import logging
import os
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from bpfd.api.address import parse_address
from bpfd.api.client import connect
from bpfd.api.listen import UnixListener
from bpfd.api.server import Server
from bpfd.errors import ApiError
from tests.api.fake_control import FakeControl


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def fail_to_start(address: object) -> str:
    threads = {*threading.enumerate()}
    with pytest.raises(ApiError) as caught:
        Server(FakeControl(), str(address)).start()
    assert {*threading.enumerate()} <= threads  # one that a test before this one left may have ended
    return str(caught.value)


@pytest.fixture(params=[0o000, 0o077])
def umask(request: pytest.FixtureRequest) -> object:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_the_directory_is_0750_and_the_socket_0660_whatever_the_umask(server: Server, socket_dir: Path) -> None:
    assert mode(socket_dir / "run") == 0o750
    assert mode(socket_dir / "run/bpfd.sock") == 0o660
    assert os.listdir(socket_dir / "run") == ["bpfd.sock"]


class BindingServer:
    """Binds as gRPC does."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)

    def add_insecure_port(self, target: str) -> int:
        self.socket.bind(target.removeprefix("unix:"))
        return 1


def test_a_socket_is_out_of_reach_until_its_mode_is_right(socket_dir: Path) -> None:
    before = os.umask(0)
    server = BindingServer()
    listener = UnixListener(parse_address(f"{socket_dir}/s"))
    try:
        listener.bind(server)
        (private,) = socket_dir.iterdir()
        assert mode(private) == 0o700
        listener.publish()
        assert [entry.name for entry in socket_dir.iterdir()] == ["s"]
        assert mode(socket_dir / "s") == 0o660
    finally:
        os.umask(before)
        server.socket.close()
        listener.remove()
    assert not list(socket_dir.iterdir())


def test_who_takes_the_place_first_keeps_it(socket_dir: Path) -> None:
    server = BindingServer()
    listener = UnixListener(parse_address(f"{socket_dir}/s"))
    listener.bind(server)
    try:
        (socket_dir / "s").write_text("quicker")
        with pytest.raises(ApiError, match="address in use"):
            listener.publish()
    finally:
        server.socket.close()
        listener.remove()
    assert (socket_dir / "s").read_text() == "quicker"


def test_the_socket_is_removed_at_stop(server: Server, socket_dir: Path) -> None:
    server.stop()
    assert not list((socket_dir / "run").iterdir())


def test_the_socket_of_another_daemon_is_left_alone_at_stop(server: Server, socket_dir: Path) -> None:
    path = socket_dir / "run/bpfd.sock"
    path.unlink()
    path.write_text("somebody else's")
    server.stop()
    assert path.exists()


def test_a_stale_socket_is_replaced(control: FakeControl, socket_dir: Path) -> None:
    path = socket_dir / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = Server(control, str(path))
    server.start()
    try:
        with connect(parse_address(server.address)) as client:
            assert client.status().host == "box"
    finally:
        server.stop()


def test_an_address_in_use_is_said_in_one_line(server: Server, socket_dir: Path) -> None:
    text = fail_to_start(server.address)
    assert text == (
        f"{socket_dir}/run/bpfd.sock: address in use: another bpfd daemon listens there; "
        "stop it, or choose another --grpc-addr"
    )
    with connect(parse_address(server.address)) as client:
        assert client.status().host == "box"


def test_a_file_in_the_place_of_the_socket_is_not_removed(socket_dir: Path) -> None:
    path = socket_dir / "s"
    path.write_text("precious")
    assert "is not a socket" in fail_to_start(path)
    assert path.read_text() == "precious"


def test_a_directory_that_cannot_be_made_is_said_in_one_line(socket_dir: Path) -> None:
    (socket_dir / "file").write_text("")
    assert "cannot listen: Not a directory" in fail_to_start(socket_dir / "file/x/s")


def test_a_path_that_is_too_long_for_the_hidden_socket_is_refused(socket_dir: Path) -> None:
    room = 100 - len(str(socket_dir))
    assert "too long" in fail_to_start(socket_dir / ("x" * room) / "s")


def test_names_with_a_meaning_in_uris_work(control: FakeControl, socket_dir: Path) -> None:
    server = Server(control, f"{socket_dir}/%41 ?#.sock")
    server.start()
    try:
        assert (socket_dir / "%41 ?#.sock").is_socket()
        with connect(parse_address(server.address)) as client:
            assert client.status().host == "box"
    finally:
        server.stop()


def test_a_tcp_port_in_use_is_said_in_one_line(control: FakeControl) -> None:
    server = Server(control, "127.0.0.1:0")
    server.start()
    try:
        assert fail_to_start(server.address) == (
            f"{server.address}: cannot listen: address already in use; choose another --grpc-addr"
        )
    finally:
        server.stop()


@pytest.mark.parametrize(("address", "warns"), [("127.0.0.1:0", False), ("0.0.0.0:0", True)])
def test_only_an_open_tcp_address_is_warned_of(
    control: FakeControl, caplog: pytest.LogCaptureFixture, address: str, warns: bool
) -> None:
    server = Server(control, address)
    with caplog.at_level(logging.WARNING):
        server.start()
    server.stop()
    assert ("controls bpfd" in caplog.text) is warns


def test_fifty_servers_leave_no_descriptor_and_no_thread(control: FakeControl, socket_dir: Path) -> None:
    def once() -> None:
        server = Server(control, f"{socket_dir}/s")
        server.start()
        with connect(parse_address(server.address)) as client:
            client.status()
        server.stop()

    once()
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(50):
        once()
    deadline = time.monotonic() + 20
    while threading.active_count() > threads or len(os.listdir("/proc/self/fd")) > descriptors + 2:
        assert time.monotonic() < deadline, (threading.enumerate(), os.listdir("/proc/self/fd"))
        time.sleep(0.02)  # gRPC's own threads close what they had
