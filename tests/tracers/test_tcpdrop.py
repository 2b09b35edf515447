"""TCP packets that the kernel drops are told with its reason; what reached somebody is not."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from bpfd.event import Event
from bpfd.kernel import formats, probes
from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.tcpdrop import TcpDropTracer, flags_text
from tests.kernel.conftest import Bench
from tests.tracers.network import run
from tests.tracers.tracing import tracing

NOBODY = 0xFFFFFFFF
PACKETS = """
import ctypes
SYN, FIN, RST, PSH, ACK = 2, 1, 4, 8, 16
address = sys.argv[1]
family = V6 if ":" in address else V4
if family == V6:
    shell(f"ip -6 addr add {address}/128 dev lo nodad")
    has_route(address)

def send(sport, dport, flags, spoilt=0):
    packed = socket.inet_pton(family, address)
    segment = struct.pack("!HHIIBBHHH", sport, dport, 1, 0, 5 << 4, flags, 1024, 0, 0)
    whole = segment + packed + packed + struct.pack("!HH", 6, len(segment))
    total = sum(struct.unpack(f"!{len(whole) // 2}H", whole))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    segment = segment[:16] + struct.pack("!H", (~total & 0xffff) ^ spoilt) + segment[18:]
    with socket.socket(family, socket.SOCK_RAW, 6) as raw:
        raw.bind((address, 0))
        raw.sendto(segment, (address, 0))
"""


@pytest.fixture(scope="module")
def drops(build: Build) -> Iterator[Bench]:
    with tracing(TcpDropTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(drops: Bench) -> None:
    drops.judge_by([All()])


@pytest.fixture(params=["IPv4", "IPv6"])
def address(request: pytest.FixtureRequest) -> str:
    """One that no other test has: nothing else tells whose a dropped packet is."""
    return ipv4() if request.param == "IPv4" else ipv6()


def ipv4() -> str:
    return f"127.{64 + secrets.randbelow(64)}.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"


def ipv6() -> str:
    return f"fd00::{1 + secrets.randbelow(0xFFFE):x}:{1 + secrets.randbelow(0xFFFE):x}"


def dropped(drops: Bench, address: str) -> list[Event]:
    """The dropped packets from or to an address, oldest first."""
    found = [event for event, _ in drops.events() if address in (event.data["saddr"], event.data["daddr"])]
    return sorted(found, key=lambda event: event.time)


def test_a_packet_with_a_wrong_checksum_is_told_with_its_ends_flags_and_the_reason(drops: Bench, address: str) -> None:
    run(PACKETS + "send(1234, 4321, SYN | PSH, spoilt=1)", address)
    [event] = dropped(drops, address)
    assert event.data == {
        "saddr": address,
        "sport": "1234",
        "daddr": address,
        "dport": "4321",
        "flags": "SYN|PSH",
        "reason": "TCP_CSUM",
    }


def test_a_packet_to_a_port_where_nobody_listens_is_told(drops: Bench, address: str) -> None:
    ran = run(PACKETS + "say(failing(socket.socket(family).connect, (address, 81)))", address)
    assert ran.said == -111
    [event] = dropped(drops, address)
    assert (event.data["dport"], event.data["flags"], event.data["reason"]) == ("81", "SYN", "NO_SOCKET")
    assert "state" not in event.data


def test_a_packet_that_a_listener_refuses_is_told_with_its_state_and_whose_it_is(drops: Bench, address: str) -> None:
    code = """
os.setgroups([])
pid = os.fork()
if not pid:
    os.setuid(65534)
    listener, port = listening(family, address, 8080)
    time.sleep(60)
while failing(socket.create_connection, (address, 8080)):
    time.sleep(0.01)
send(5555, 8080, SYN | FIN)
os.kill(pid, 9)
os.wait()
"""
    run(PACKETS + code, address)
    [event] = [event for event in dropped(drops, address) if event.data["sport"] == "5555"]
    assert (event.data["reason"], event.data["flags"], event.data["state"]) == ("TCP_FLAGS", "SYN|FIN", "LISTEN")
    assert event.uid == 65534


def test_a_packet_that_a_firewall_stops_is_told_on_its_way_out_and_on_its_way_in(drops: Bench, address: str) -> None:
    code = """
tables = "ip6tables" if family == V6 else "iptables"
shell(f"{tables} -A OUTPUT -p tcp --dport 7001 -j DROP && {tables} -A INPUT -p tcp --dport 7002 -j DROP")
os.setuid(65534)
for port in (7001, 7002):
    with socket.socket(family) as made:
        made.setblocking(False)
        made.connect_ex((address, port))
"""
    run(PACKETS + code, address)
    leaving, coming = dropped(drops, address)
    assert [one.data["dport"] for one in (leaving, coming)] == ["7001", "7002"]
    assert {one.data["reason"] for one in (leaving, coming)} == {"NETFILTER_DROP"}
    assert (leaving.data["state"], leaving.uid) == ("SYN_SENT", 65534)
    assert ("state" in coming.data, coming.uid) == (False, NOBODY)


def test_a_packet_that_a_sockets_own_filter_stops_is_told_as_its_listeners(drops: Bench, address: str) -> None:
    code = """
listener, port = listening(family, address, 6000)
nothing = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0), 8)  # BPF_RET 0
listener.setsockopt(socket.SOL_SOCKET, 26, struct.pack("=HxxxxxxQ", 1, ctypes.addressof(nothing)))  # SO_ATTACH_FILTER
client = socket.socket(family)
client.setblocking(False)
client.connect_ex((address, port))
"""
    run(PACKETS + code, address)
    events = dropped(drops, address)
    assert {(event.data["reason"], event.data["state"], event.uid) for event in events} == {
        ("SOCKET_FILTER", "LISTEN", 0)
    }


def test_an_event_names_no_process_and_none_that_was_interrupted(drops: Bench, address: str) -> None:
    ran = run(PACKETS + 'send(1, 2, ACK, spoilt=1)\nsay(open("/proc/self/comm").read().strip())', address)
    [event] = dropped(drops, address)
    assert (event.pid, event.tid, event.ppid, event.command, event.parent) == (0, 0, 0, "", "")
    assert (event.uid, event.gid, event.user, event.start, event.duration) == (NOBODY, NOBODY, "", 0, 0)
    drops.judge_by([model.Test("command", "is", (ran.said,)), model.Test("uid", "is", ("0",))])
    run(PACKETS + "send(1, 2, ACK, spoilt=1)", address)
    assert dropped(drops, address) == []


def test_headers_between_ip_and_tcp_are_gone_through(drops: Bench) -> None:
    address = ipv6()
    code = """
tcp = struct.pack("!HHIIBBHHH", 77, 78, 1, 0, 5 << 4, ACK, 1024, 0xdead, 0)
options = bytes([60, 0, 1, 4, 0, 0, 0, 0]) + bytes([6, 1, 0x1e, 12]) + bytes(12)
packed = socket.inet_pton(V6, address)
packet = struct.pack("!IHBB", 6 << 28, len(options) + len(tcp), 60, 64) + packed + packed + options + tcp
socket.socket(V6, socket.SOCK_RAW, 255).sendto(packet, (address, 0))
"""
    run(PACKETS + code, address)
    [event] = dropped(drops, address)
    assert (event.data["sport"], event.data["dport"], event.data["flags"]) == ("77", "78", "ACK")
    assert event.data["reason"] == "TCP_CSUM"


def test_a_packet_whose_ip_header_is_too_short_is_told_without_ports(drops: Bench) -> None:
    address = ipv4()
    code = """
packed = socket.inet_pton(V4, address)
packet = struct.pack("!BBHHHBBH", 0x40, 0, 40, 4711, 0, 64, 6, 0) + packed + packed + bytes(20)
socket.socket(socket.AF_PACKET, UDP).sendto(packet, ("lo", 0x0800))
"""
    run(PACKETS + code, address)
    [event] = dropped(drops, address)
    assert (event.data["reason"], event.data["flags"]) == ("IP_INHDR", "")
    assert (event.data["sport"], event.data["dport"]) == ("0", "0")


def test_packets_that_reach_somebody_and_copies_for_sniffers_are_not_told(drops: Bench, address: str) -> None:
    code = """
every = socket.ntohs(3)  # ETH_P_ALL
sniffers = [socket.socket(family, socket.SOCK_RAW, 6), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, every)]
full = socket.socket(family, socket.SOCK_RAW, 6)
full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
listener, port = listening(family, address)
for closes_first in (0, 1):
    client = socket.create_connection((address, port))
    accepted, _ = listener.accept()
    threading.Thread(target=client.sendall, args=(bytes(3_000_000),)).start()
    left = 3_000_000
    while left:
        left -= len(accepted.recv(65536))
    pair = [client, accepted]
    pair[closes_first].close()
    time.sleep(0.05)
    pair[1 - closes_first].close()
for sniffer in (*sniffers, full):
    sniffer.close()
send(1, 2, ACK, spoilt=1)
"""
    run(PACKETS + code, address)
    # On a busy machine a packet is sent twice, or a full window is asked after, and the kernel does drop that.
    busy = ("TCP_OLD_DATA", "TCP_OLD_SEQUENCE", "TCP_ZEROWINDOW", "TCP_OVERWINDOW")
    reasons = [event.data["reason"] for event in dropped(drops, address)]
    assert [reason for reason in reasons if reason not in busy] == ["TCP_CSUM"]


def test_dropped_packets_of_other_protocols_are_not_told(drops: Bench, address: str) -> None:
    code = """
with socket.socket(family, UDP) as made:
    made.sendto(b"x" * 40, (address, 9))
with socket.socket(family, socket.SOCK_RAW, 89) as made:  # OSPF
    made.sendto(b"x" * 40, (address, 0))
"""
    run(PACKETS + code, address)
    assert dropped(drops, address) == []


def test_rules_on_ports_reason_and_state_are_judged_in_the_kernel(drops: Bench) -> None:
    address = ipv4()
    rules = [
        model.Test("reason", "is", ("TCP_CSUM",)),
        All((model.Test("dport", "below", ("100",)), model.Test("reason", "prefix", ("NO_",)))),
        model.Test("state", "is", ("LISTEN",)),
    ]
    assert drops.judge_by(rules).inexact == {}
    run(PACKETS + "send(1, 99, ACK, spoilt=1)\nsend(2, 99, RST)\nsend(3, 100, RST)", address)
    left = [
        (event.data["sport"], bits)
        for event, bits in drops.events()
        if address in (event.data["saddr"], event.data["daddr"])
    ]
    assert left == [("1", 0b001), ("2", 0b010)]
    plan = drops.judge_by([model.Test("flags", "is", ("SYN",)), model.Test("saddr", "net", ("10.0.0.0/8",))])
    assert plan.inexact.keys() == {0, 1}


def test_every_reason_has_the_name_that_the_kernel_itself_prints(drops: Bench) -> None:
    printed = formats.read(probes.tracefs() / "events" / "skb" / "kfree_skb" / "format")
    [names] = [one.names for one in printed if one.name == "reason"]
    table = drops.program.maps["bpfd_constants"]
    told = {
        int.from_bytes(key[4:], "little"): value.rstrip(b"\0").decode()
        for key, value in table.items()
        if not int.from_bytes(key[:4], "little")
    }
    assert len(names) > 50
    assert names.items() <= told.items()


@pytest.mark.parametrize(
    ("flags", "text"),
    [(0, ""), (2, "SYN"), (18, "SYN|ACK"), (17, "FIN|ACK"), (0x1FF, "SYN|FIN|RST|PSH|ACK|URG|ECE|CWR|AE")],
)
def test_flags_are_shown_by_their_names(flags: int, text: str) -> None:
    assert flags_text(flags) == text
