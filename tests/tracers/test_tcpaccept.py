"""Accepted connections are told with both ends; nothing else is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.tcpaccept import TcpAcceptTracer
from tests.kernel.conftest import Bench
from tests.tracers.network import FAMILIES, events_of, run, shown
from tests.tracers.tracing import tracing

ACCEPT = """
family = getattr(socket, sys.argv[1])
listener, port = listening(family, sys.argv[2], int(sys.argv[3]))
client = socket.create_connection((sys.argv[2], port))
accepted, peer = listener.accept()
say([port, peer[1], accepted.fileno()])
"""


@pytest.fixture(scope="module")
def accepts(build: Build) -> Iterator[Bench]:
    with tracing(TcpAcceptTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(accepts: Bench) -> None:
    accepts.judge_by([All()])


@pytest.mark.parametrize(("family", "address"), FAMILIES)
def test_an_accepted_connection_is_told_with_both_ends(accepts: Bench, family: str, address: str) -> None:
    ran = run(ACCEPT, family, address, "0")
    port, peer, descriptor = ran.said
    [event] = events_of(accepts, ran.pid)
    assert event.return_value == descriptor
    assert event.data == {
        "saddr": shown(address),
        "sport": str(port),
        "daddr": shown(address),
        "dport": str(peer),
        "family": "AF_INET6" if address == "::1" else "AF_INET",
    }


def test_the_older_of_the_two_calls_is_seen_too(accepts: Bench) -> None:
    """Python's accept is accept4."""
    ran = run("""
import ctypes
listener, port = listening(V4, "127.0.0.1")
client = socket.create_connection(("127.0.0.1", port))
say([port, ctypes.CDLL(None).accept(listener.fileno(), None, None)])
""")
    port, descriptor = ran.said
    [event] = events_of(accepts, ran.pid)
    assert (event.return_value, event.data["sport"]) == (descriptor, str(port))


def test_calls_that_accept_nothing_and_sockets_that_are_not_tcp_are_not_told(accepts: Bench) -> None:
    ran = run("""
listener, port = listening(V4, "127.0.0.1")
listener.setblocking(False)
results = [failing(listener.accept)]
listener.setblocking(True)
unix = socket.socket(socket.AF_UNIX)
unix.bind("\\0bpfd-test")
unix.listen()
other = socket.socket(socket.AF_UNIX)
other.connect("\\0bpfd-test")
unix.accept()
results += [failing(socket.socket(V4, UDP).accept), failing(socket.socket(V4, TCP).accept)]
client = socket.create_connection(("127.0.0.1", port))
taken, _ = listener.accept()
say([results, taken.fileno()])
""")
    results, descriptor = ran.said
    assert results == [-11, -95, -22]
    assert [event.return_value for event in events_of(accepts, ran.pid)] == [descriptor]


def test_a_connection_that_nobody_accepts_is_not_told(accepts: Bench) -> None:
    ran = run('listener, port = listening(V4, "127.0.0.1")\nsocket.create_connection(("127.0.0.1", port))')
    assert events_of(accepts, ran.pid) == []


def test_rules_on_ports_and_family_are_judged_in_the_kernel_and_those_on_addresses_in_python(accepts: Bench) -> None:
    plan = accepts.judge_by([model.Test("sport", "is", ("2222",)), model.Test("family", "is", ("AF_INET6",))])
    assert plan.inexact == {}
    other = run(ACCEPT, "AF_INET", "127.0.0.1", "2223")
    ran = run(ACCEPT, "AF_INET", "127.0.0.1", "2222")
    ipv6 = run(ACCEPT, "AF_INET6", "::1", "2222")
    left = {event.pid: bits for event, bits in accepts.events()}
    assert (left.get(other.pid), left[ran.pid], left[ipv6.pid]) == (None, 0b01, 0b11)
    assert accepts.judge_by([model.Test("daddr", "net", ("10.0.0.0/8",))]).inexact != {}
