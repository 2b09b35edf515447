"""Listeners are told, with their address, port and backlog, and the result."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.listen import ListenTracer
from tests.kernel.conftest import Bench
from tests.tracers.network import FAMILIES, events_of, run, shown
from tests.tracers.tracing import tracing


@pytest.fixture(scope="module")
def listens(build: Build) -> Iterator[Bench]:
    with tracing(ListenTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(listens: Bench) -> None:
    listens.judge_by([All()])


@pytest.mark.parametrize(("family", "address"), [*FAMILIES, ("AF_INET", "0.0.0.0"), ("AF_INET6", "::")])
def test_a_listener_is_told_with_its_address_port_and_backlog(listens: Bench, family: str, address: str) -> None:
    ran = run("listening(getattr(socket, sys.argv[1]), sys.argv[2], 8443, 17)", family, address)
    [event] = events_of(listens, ran.pid)
    assert event.return_value == 0
    assert event.data == {"addr": shown(address), "port": "8443", "protocol": "tcp", "backlog": "17"}


def test_a_listener_that_was_never_bound_is_told_with_the_port_that_it_got(listens: Bench) -> None:
    ran = run("""
import ctypes
made = socket.socket(V4, TCP)
ctypes.CDLL(None).listen(made.fileno(), -1)
say(made.getsockname()[1])
""")
    [event] = events_of(listens, ran.pid)
    assert ran.said > 0
    assert (event.data["port"], event.data["backlog"]) == (str(ran.said), "-1")


def test_a_udp_socket_cannot_listen_and_the_error_is_told(listens: Bench) -> None:
    ran = run('udp = socket.socket(V4, UDP)\nudp.bind(("127.0.0.1", 53))\nsay(failing(udp.listen, 128))')
    [event] = events_of(listens, ran.pid)
    assert event.return_value == ran.said == -errno.EOPNOTSUPP
    assert event.data == {"addr": "127.0.0.1", "port": "53", "protocol": "udp", "backlog": "128"}


def test_a_connected_socket_that_shall_listen_is_told_with_the_error(listens: Bench) -> None:
    ran = run("""
listener, port = listening(V4, "127.0.0.1", 8000)
client = socket.create_connection(("127.0.0.1", port))
say(failing(client.listen, 3))
""")
    _, failed = events_of(listens, ran.pid)
    assert (failed.return_value, failed.data["protocol"]) == (ran.said, "tcp")
    assert ran.said == -errno.EINVAL


def test_sockets_without_ports_and_what_is_no_socket_are_not_told(listens: Bench) -> None:
    ran = run("""
import ctypes
listen = ctypes.CDLL(None).listen
unix = socket.socket(socket.AF_UNIX)
unix.bind("\\0bpfd-test")
unix.listen()
results = [listen(os.open("/etc/hostname", os.O_RDONLY), 1), listen(999, 1)]
listening(V4, "127.0.0.1", 8001)
say(results)
""")
    assert ran.said == [-1, -1]
    assert [event.data["port"] for event in events_of(listens, ran.pid)] == ["8001"]


def test_rules_on_the_port_are_judged_in_the_kernel(listens: Bench) -> None:
    assert listens.judge_by([model.Test("port", "above", ("8999",))]).inexact == {}
    ran = run('listening(V4, "127.0.0.1", 8999)\nlistening(V4, "127.0.0.1", 9000)')
    assert [event.data["port"] for event in events_of(listens, ran.pid)] == ["9000"]
