"""Bound ports are told, TCP and UDP, with the result."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.bind import BindTracer
from tests.kernel.conftest import Bench
from tests.tracers.network import CUT, FAMILIES, SHORT, events_of, run, shown
from tests.tracers.tracing import tracing


@pytest.fixture(scope="module")
def binds(build: Build) -> Iterator[Bench]:
    with tracing(BindTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(binds: Bench) -> None:
    binds.judge_by([All()])


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize(("family", "address"), [*FAMILIES, ("AF_INET", "0.0.0.0"), ("AF_INET6", "::")])
def test_a_bound_port_is_told_with_its_address_and_protocol(binds: Bench, kind: str, family: str, address: str) -> None:
    code = """
made = socket.socket(getattr(socket, sys.argv[1]), UDP if sys.argv[3] == "udp" else TCP)
made.bind((sys.argv[2], 4711))
"""
    [event] = events_of(binds, run(code, family, address, kind).pid)
    assert event.return_value == 0
    assert event.data == {"addr": shown(address), "port": "4711", "protocol": kind}


@pytest.mark.parametrize("kind", ["TCP", "UDP"])
def test_a_program_that_asks_for_any_port_is_told_with_the_one_it_got(binds: Bench, kind: str) -> None:
    ran = run(f'made = socket.socket(V4, {kind})\nmade.bind(("127.0.0.1", 0))\nsay(made.getsockname()[1])')
    [event] = events_of(binds, ran.pid)
    assert ran.said > 0
    assert event.data["port"] == str(ran.said)


def test_multipath_tcp_has_its_name(binds: Bench) -> None:
    [event] = events_of(binds, run('socket.socket(V4, TCP, 262).bind(("127.0.0.1", 80))').pid)
    assert event.data == {"addr": "127.0.0.1", "port": "80", "protocol": "mptcp"}


def test_a_failed_bind_is_told_with_what_was_asked_for_and_the_error(binds: Bench) -> None:
    ran = run("""
first = socket.socket(V6, TCP)
first.bind(("::1", 7000))
say([failing(socket.socket(V6, TCP).bind, ("::1", 7000)), failing(socket.socket(V4, UDP).bind, ("192.0.2.9", 53))])
""")
    assert ran.said == [-errno.EADDRINUSE, -errno.EADDRNOTAVAIL]
    found = [(event.return_value, *event.data.values()) for event in events_of(binds, ran.pid)]
    assert [sorted(map(str, one)) for one in found] == [
        sorted(["0", "::1", "7000", "tcp"]),
        sorted([str(-errno.EADDRINUSE), "::1", "7000", "tcp"]),
        sorted([str(-errno.EADDRNOTAVAIL), "192.0.2.9", "53", "udp"]),
    ]


def test_the_multicast_group_that_a_socket_is_bound_to_is_told(binds: Bench) -> None:
    [event] = events_of(binds, run('socket.socket(V4, UDP).bind(("224.0.0.251", 5353))').pid)
    assert event.data == {"addr": "224.0.0.251", "port": "5353", "protocol": "udp"}


def test_what_binds_no_port_is_not_told(binds: Bench) -> None:
    """Unix and netlink sockets, raw ones, a file, a bad descriptor, an address that is none; ports without a bind."""
    ran = run("""
import ctypes
bind = ctypes.CDLL(None).bind
socket.socket(socket.AF_UNIX).bind("\\0bpfd-test")
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).bind((0, 0))
socket.socket(V4, socket.SOCK_RAW, 17).bind(("127.0.0.1", 0))
file = os.open("/etc/hostname", os.O_RDONLY)
address = struct.pack("=H14x", V4)
tcp = socket.socket(V4, TCP)
results = [bind(file, address, 16), bind(999, address, 16), bind(tcp.fileno(), ctypes.c_void_p(1), 16)]
results.append(bind(tcp.fileno(), struct.pack("=H14x", socket.AF_UNIX), 16))
socket.socket(V4, UDP).sendto(b"x", ("127.0.0.1", 9))
tcp.bind(("127.0.0.1", 4712))
say(results)
""")
    assert ran.said == [-1, -1, -1, -1]
    assert [event.data["port"] for event in events_of(binds, ran.pid)] == ["4712"]


def test_rules_on_port_and_protocol_are_judged_in_the_kernel(binds: Bench) -> None:
    below = All((model.Test("port", "below", ("1024",)), model.Test("protocol", "is", ("udp",))))
    assert binds.judge_by([below]).inexact == {}
    ran = run("""
for kind in (TCP, UDP):
    for port in (53, 5353):
        socket.socket(V4, kind).bind(("127.0.0.1", port))
""")
    assert [(event.data["port"], event.data["protocol"]) for event, _ in binds.events() if event.pid == ran.pid] == [
        ("53", "udp")
    ]


@pytest.mark.parametrize("behind", [False, True], ids=["nothing behind", "the rest behind"])
@pytest.mark.parametrize("family", SHORT)
def test_a_bind_with_too_few_bytes_for_an_address_is_not_told_and_one_with_just_enough_is(
    binds: Bench, family: str, behind: bool
) -> None:
    enough = {"V4": (16,), "V6": (24, 27, 28)}[family]
    ran = run(
        CUT
        + f"""
taken = socket.socket({family}, TCP)
short = [cut("bind", socket.socket({family}, TCP), {family}, 7000, length, {behind}) for length in {SHORT[family]}]
say([short,
     [cut("bind", socket.socket({family}, TCP), {family}, 7000 + length, length) for length in {enough}],
     cut("bind", taken, {family}, 7100, {enough[0]}),
     [cut("bind", socket.socket({family}, TCP), {family}, 7100, length) for length in {enough}]])
"""
    )
    short, bound, first, again = ran.said
    assert {*short} == {-errno.EINVAL}
    assert ({*bound, first}, {*again}) == ({0}, {-errno.EADDRINUSE})
    told = [(event.return_value, event.data["addr"], event.data["port"]) for event in events_of(binds, ran.pid)]
    address = {"V4": "127.0.0.1", "V6": "::1"}[family]
    assert told == [
        *((0, address, str(7000 + length)) for length in enough),
        (0, address, "7100"),
        *((-errno.EADDRINUSE, address, "7100") for _ in enough),
    ]
