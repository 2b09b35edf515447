"""Each attempt to connect is told once, with what became of it and who made it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
from collections.abc import Callable, Iterator

import pytest

from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.tcpconnect import TcpConnectTracer
from tests.kernel.conftest import Bench
from tests.tracers.network import CUT, FAMILIES, SHORT, Ran, events_of, run, shown
from tests.tracers.own_tracing import own_tracing
from tests.tracers.tracing import tracing

SILENT = """
shell("ip link add v0 type veth peer name v1 && ip link set v1 up && ip link set v0 up")
shell("ip addr add 192.0.2.1/24 dev v0 && ip -6 addr add 2001:db8::1/64 dev v0 nodad")
for address in ("192.0.2.2", "2001:db8::2"):
    shell(f"ip neigh add {address} lladdr 02:00:00:00:00:02 dev v0 nud permanent")
has_route("2001:db8::1")
"""
"""Makes a network in which 192.0.2.2 and 2001:db8::2 never answer."""


@pytest.fixture(scope="module")
def connects(build: Build) -> Iterator[Bench]:
    with tracing(TcpConnectTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(connects: Bench) -> None:
    connects.judge_by([All()])


@pytest.fixture(scope="module")
def run_silent(connects: Bench) -> Iterator[Callable[..., Ran]]:
    """Runs a program in the silent network, where timers of the kernel end its connections, again if the answer of a
    connection came where the kernel lets no program of ours run: it says so in `lost` where a timer interrupted another
    BPF program, or one that changes a map (bpf_prog_active, kernel/trace/bpf_trace.c). Nothing tells of a machine whose
    init is kept from being watched, and is interrupted: the kernel's own tracing says when it was."""
    with own_tracing(f"bpfd-answers-{os.getpid()}", fields=False) as tracing:

        def run_until_seen(code: str, *arguments: str) -> Ran:
            for _ in range(20):
                lost = connects.program.lost
                tracing.enable("sock:inet_sock_set_state")
                ran = run(SILENT + code, *arguments)
                tracing.disable()
                answered = [line for line in tracing.lines() if "oldstate=TCP_SYN_SENT" in line]
                interrupted = {found[1] for line in answered if (found := re.search(r"-(\d+) +\[\d+\]", line))}
                assert interrupted
                if connects.program.lost == lost and interrupted.isdisjoint(os.listdir("/proc/1/task")):
                    return ran
            raise AssertionError("the kernel let no program of ours run, twenty times")

        yield run_until_seen


def results(bench: Bench, pid: int) -> list[tuple[int, str, str]]:
    return [(event.return_value, event.data["daddr"], event.data["dport"]) for event in events_of(bench, pid)]


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "does not wait"])
@pytest.mark.parametrize(("family", "address"), FAMILIES)
def test_a_connection_is_told_with_both_ends_whether_or_not_the_program_waits(
    connects: Bench, family: str, address: str, waits: bool
) -> None:
    ran = run(
        """
family = getattr(socket, sys.argv[1])
listener, port = listening(family, sys.argv[2])
client = socket.socket(family)
client.setblocking(sys.argv[3] == "True")
result = client.connect_ex((sys.argv[2], port))
listener.accept()
say([result, port, client.getsockname()[1]])
""",
        family,
        address,
        str(waits),
    )
    result, port, own_port = ran.said
    assert result == (0 if waits else errno.EINPROGRESS)
    [event] = events_of(connects, ran.pid)
    assert (event.return_value, event.ppid > 0, event.command.startswith("python")) == (0, True, True)
    assert event.data == {
        "saddr": shown(address),
        "sport": str(own_port),
        "daddr": shown(address),
        "dport": str(port),
        "family": "AF_INET6" if address == "::1" else "AF_INET",
    }


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "does not wait"])
@pytest.mark.parametrize(("family", "address"), FAMILIES)
def test_a_refused_connection_is_told_once_however_the_program_hears_of_it(
    connects: Bench, family: str, address: str, waits: bool
) -> None:
    code = """
client = socket.socket(getattr(socket, sys.argv[1]))
client.setblocking(sys.argv[3] == "True")
results = [client.connect_ex((sys.argv[2], 1))]
if sys.argv[3] != "True":
    settled(client)
    results.append(client.connect_ex((sys.argv[2], 1)))  # asks what became of it
say(results)
"""
    ran = run(code, family, address, str(waits))
    assert ran.said == ([errno.ECONNREFUSED] if waits else [errno.EINPROGRESS, errno.ECONNREFUSED])
    assert results(connects, ran.pid) == [(-errno.ECONNREFUSED, shown(address), "1")]


def test_a_program_that_asks_again_and_again_makes_one_connection(connects: Bench) -> None:
    ran = run("""
listener, port = listening(V4, "127.0.0.1")
client = socket.socket(V4)
client.setblocking(False)
first = client.connect_ex(("127.0.0.1", port))
settled(client)
say([first, *(client.connect_ex(("127.0.0.1", port)) for _ in range(3))])
""")
    assert ran.said == [errno.EINPROGRESS, 0, errno.EISCONN, errno.EISCONN]
    assert [result for result, _, _ in results(connects, ran.pid)] == [0]


@pytest.mark.parametrize("family", ["V4", "V6"])
def test_a_socket_that_is_connected_anew_after_a_refusal_is_told_once_for_each_attempt(
    connects: Bench, family: str
) -> None:
    """A refused socket may be used again; without a wait the refusal is fetched first, by connect or by SO_ERROR."""
    ran = run(
        """
family, address = (V4, "127.0.0.1") if sys.argv[1] == "V4" else (V6, "::1")
listener, port = listening(family, address)
def waiting():
    client = socket.socket(family)
    return [client.connect_ex((address, where)) for where in (1, 1, port)]
def asking():
    client, results = socket.socket(family), []
    client.setblocking(False)
    for where in (1, 1, 1, 1, port):  # begins, asks, begins, asks, begins
        results.append(client.connect_ex((address, where)))
        settled(client)
    return results
def reading():
    client, results = socket.socket(family), []
    client.setblocking(False)
    for _ in range(2):
        results.append(client.connect_ex((address, 1)))
        settled(client)
        results.append(client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        results.append(client.connect_ex((address, 1)))  # the error was fetched: ECONNABORTED
    return results
say([port, waiting(), asking(), reading()])
""",
        family,
    )
    port, waiting, asking, reading = ran.said
    refused, begun, aborted = errno.ECONNREFUSED, errno.EINPROGRESS, errno.ECONNABORTED
    assert waiting == [refused, refused, 0]
    assert asking == [begun, refused, begun, refused, begun]
    assert reading == [begun, refused, aborted] * 2
    failed, worked = (-refused, "1"), (0, str(port))
    told = [(result, to) for result, _, to in results(connects, ran.pid)]
    assert told == [failed, failed, worked, failed, failed, worked, failed, failed]


def test_a_program_that_asks_before_there_is_an_answer_makes_one_connection(
    connects: Bench, run_silent: Callable[..., Ran]
) -> None:
    code = """
client = socket.socket(V4)
client.setblocking(False)
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 200)
results = [client.connect_ex(("192.0.2.2", 80)) for _ in range(3)]
while not (error := client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
    time.sleep(0.02)
say([*results, error])
"""
    ran = run_silent(code)
    assert ran.said == [errno.EINPROGRESS, errno.EALREADY, errno.EALREADY, errno.ETIMEDOUT]
    assert results(connects, ran.pid) == [(-errno.ETIMEDOUT, "192.0.2.2", "80")]


def test_a_socket_that_is_taken_apart_and_connected_anew_is_told_twice(connects: Bench) -> None:
    """AF_UNSPEC ends a connection; what was only begun is given up."""
    ran = run(
        SILENT
        + """
import ctypes
apart = lambda one: ctypes.CDLL(None).connect(one.fileno(), struct.pack("=H14x", 0), 16)
listener, port = listening(V4, "127.0.0.1")
client = socket.socket(V4)
first = client.connect_ex(("127.0.0.1", port)), apart(client), client.connect_ex(("127.0.0.1", port))
other = socket.socket(V4)
other.setblocking(False)
second = other.connect_ex(("192.0.2.2", 22)), apart(other)
other.setblocking(True)
say([port, *first, *second, other.connect_ex(("127.0.0.1", port))])
"""
    )
    port, *said = ran.said
    assert said == [0, 0, 0, errno.EINPROGRESS, 0, 0]
    worked = (0, "127.0.0.1", str(port))
    assert results(connects, ran.pid) == [worked, worked, (-errno.ECANCELED, "192.0.2.2", "22"), worked]


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "does not wait"])
@pytest.mark.parametrize(("family", "address"), [("AF_INET", "192.0.2.2"), ("AF_INET6", "2001:db8::2")])
def test_a_connection_that_nobody_answers_is_told_when_its_time_is_up(
    connects: Bench, run_silent: Callable[..., Ran], family: str, address: str, waits: bool
) -> None:
    code = """
client = socket.socket(getattr(socket, sys.argv[1]))
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 200)
client.setblocking(sys.argv[3] == "True")
result = client.connect_ex((sys.argv[2], 80))
while result == errno.EINPROGRESS:
    time.sleep(0.05)
    result = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.EINPROGRESS
say(result)
"""
    ran = run_silent(code, family, address, str(waits))
    assert ran.said == errno.ETIMEDOUT
    [event] = events_of(connects, ran.pid)
    assert (event.return_value, event.data["daddr"], event.data["dport"]) == (-errno.ETIMEDOUT, address, "80")
    assert event.data["saddr"] in ("192.0.2.1", "2001:db8::1")
    assert event.command.startswith("python")


def test_a_neighbour_that_is_not_there_is_told_as_unreachable(connects: Bench, run_silent: Callable[..., Ran]) -> None:
    """The kernel finds out after it began to connect."""
    ran = run_silent(
        """
for name in ("mcast_solicit", "ucast_solicit"):
    open(f"/proc/sys/net/ipv4/neigh/v0/{name}", "w").write("1")
open("/proc/sys/net/ipv4/neigh/v0/retrans_time_ms", "w").write("100")
say(failing(socket.socket(V4).connect, ("192.0.2.77", 443)))
"""
    )
    assert ran.said == -errno.EHOSTUNREACH
    assert results(connects, ran.pid) == [(-errno.EHOSTUNREACH, "192.0.2.77", "443")]


def test_what_fails_before_anything_is_sent_is_told_with_its_error(connects: Bench) -> None:
    ran = run("""
shell("ip route add unreachable 198.51.100.0/24 && ip route add prohibit 203.0.113.0/24")
open("/proc/sys/net/ipv4/ip_local_port_range", "w").write("40000 40000")
listener, port = listening(V4, "127.0.0.1", 8000)
kept = socket.create_connection(("127.0.0.1", port))
tried = [(V4, "10.0.0.1"), (V4, "198.51.100.1"), (V4, "203.0.113.1"), (V6, "2001:db8::1"), (V4, "127.0.0.1")]
say([failing(socket.socket(family).connect, (address, 8000)) for family, address in tried])
""")
    errors = [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.ENETUNREACH, errno.EADDRNOTAVAIL]
    assert ran.said == [-error for error in errors]
    addresses = ["10.0.0.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "127.0.0.1"]
    failed = [(-error, address, "8000") for error, address in zip(errors, addresses, strict=True)]
    assert results(connects, ran.pid) == [(0, "127.0.0.1", "8000"), *failed]


def test_a_socket_that_is_closed_before_the_answer_is_told_as_given_up(connects: Bench) -> None:
    ran = run(SILENT + 'with socket.socket(V4) as s:\n  s.setblocking(False)\n  s.connect_ex(("192.0.2.2", 22))')
    assert results(connects, ran.pid) == [(-errno.ECANCELED, "192.0.2.2", "22")]


def test_a_program_that_is_killed_while_it_waits_is_told_too(connects: Bench) -> None:
    ran = run(
        SILENT
        + """
pid = os.fork()
if not pid:
    socket.socket(V4).connect(("192.0.2.2", 22))
while not any(row.split()[3] == "02" for row in open("/proc/net/tcp")):  # TCP_SYN_SENT
    time.sleep(0.01)
os.kill(pid, 9)
os.waitpid(pid, 0)
say(pid)
"""
    )
    assert results(connects, ran.said) == [(-errno.ECANCELED, "192.0.2.2", "22")]


def test_a_call_that_a_signal_interrupts_is_one_connection(connects: Bench, run_silent: Callable[..., Ran]) -> None:
    ran = run_silent(
        """
import signal
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.1)
client = socket.socket(V4)
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
say(failing(client.connect, ("192.0.2.2", 80)))
"""
    )
    assert ran.said == -errno.ETIMEDOUT
    assert results(connects, ran.pid) == [(-errno.ETIMEDOUT, "192.0.2.2", "80")]


def test_data_that_is_sent_with_the_first_packet_makes_a_connection(connects: Bench) -> None:
    """TCP Fast Open: no call of connect."""
    ran = run("""
listener, port = listening(V4, "127.0.0.1")
socket.socket(V4).sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", port))
say(port)
""")
    assert results(connects, ran.pid) == [(0, "127.0.0.1", str(ran.said))]


def test_a_socket_that_is_connected_to_itself_is_told(connects: Bench) -> None:
    """Both ends begin: the socket goes by way of SYN_RECV, as one does that is accepted."""
    ran = run("""
client = socket.socket(V4)
client.bind(("127.0.0.1", 5000))
client.connect(("127.0.0.1", 5000))
""")
    [event] = events_of(connects, ran.pid)
    assert (event.return_value, event.data["sport"], event.data["dport"]) == (0, "5000", "5000")


def test_multipath_tcp_is_told_once(connects: Bench) -> None:
    ran = run("""
listener, port = listening(V4, "127.0.0.1")
socket.socket(V4, TCP, 262).connect(("127.0.0.1", port))
say([port, failing(socket.socket(V4, TCP, 262).connect, ("10.0.0.1", 81))])
""")
    assert results(connects, ran.pid) == [
        (0, "127.0.0.1", str(ran.said[0])),
        (-errno.ENETUNREACH, "10.0.0.1", "81"),
    ]


def test_what_makes_no_tcp_connection_is_not_told(connects: Bench) -> None:
    """UDP and Unix sockets, a file, an address that is none, connections that are accepted or taken apart."""
    ran = run("""
import ctypes
connect = ctypes.CDLL(None).connect
address = struct.pack("=H14x", V4)
tcp, udp, unix = socket.socket(V4), socket.socket(V4, UDP), socket.socket(socket.AF_UNIX)
udp.connect(("127.0.0.1", 53))
results = [failing(unix.connect, "/no/such"), failing(udp.connect, ("10.0.0.1", 53))]
calls = [connect(os.open("/etc/hostname", os.O_RDONLY), address, 16), connect(999, address, 16)]
calls += [connect(tcp.fileno(), ctypes.c_void_p(1), 16), connect(tcp.fileno(), struct.pack("=H14x", 1), 16)]
listener, port = listening(V4, "127.0.0.1")
if not os.fork():
    socket.create_connection(("127.0.0.1", port))
    os._exit(0)
accepted, _ = listener.accept()
connect(accepted.fileno(), struct.pack("=H14x", 0), 16)  # AF_UNSPEC: takes it apart
os.wait()
say([results, calls])
""")
    assert ran.said == [[-errno.ENOENT, -errno.ENETUNREACH], [-1, -1, -1, -1]]
    assert results(connects, ran.pid) == []


def test_rules_are_judged_in_the_kernel_by_who_connected_and_not_by_whom_the_answer_interrupted(
    connects: Bench, run_silent: Callable[..., Ran]
) -> None:
    code = """
import ctypes
ctypes.CDLL(None).prctl(15, sys.argv[1].encode())  # PR_SET_NAME
os.setgid(65534)
os.setuid(65534)
client = socket.socket(V4)
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 200)
failing(client.connect, ("192.0.2.2", int(sys.argv[2])))
"""
    rules = [
        model.Test("command", "is", ("connecting",)),
        model.Test("uid", "is", ("65534",)),
        All((model.Test("dport", "is", ("80",)), model.Test("returnValue", "below", ("0",)))),
        model.Test("uid", "is", ("0",)),
        model.Test("ancestors", "contains", ("pytest",)),
        model.Test("daddr", "net", ("192.0.2.0/24",)),
    ]
    plan = connects.judge_by(rules)
    assert plan.inexact.keys() == {4, 5}
    first, second = run_silent(code, "connecting", "80"), run_silent(code, "other", "81")
    found = {event.pid: (event, bits) for event, bits in connects.events()}
    event, bits = found[first.pid]
    assert (bits & 0b1111, event.command, event.uid, event.gid) == (0b0111, "connecting", 65534, 65534)
    assert found[second.pid][1] & 0b1111 == 0b0010
    assert event.ancestors.split()[0] == event.parent


def test_connections_beyond_what_is_kept_are_counted(connects: Bench) -> None:
    kept = connects.program.maps["attempts"]
    strangers = [struct.pack("=Q", number) for number in range(1, kept.max_entries + 1)]
    before = connects.program.own_count(TcpConnectTracer.counts.index("untracked"))
    try:
        with contextlib.suppress(OSError):  # it may be full before: others connect too
            for key in strangers:
                kept.write(key, bytes(kept.value_size))
        ran = run('listener, port = listening(V4, "127.0.0.1")\nsocket.create_connection(("127.0.0.1", port))')
        assert events_of(connects, ran.pid) == []
        assert connects.program.own_count(0) > before
    finally:
        for key in strangers:
            kept.delete(key)


def test_nothing_is_kept_of_what_has_ended(connects: Bench) -> None:
    run("""
listener, port = listening(V4, "127.0.0.1", backlog=100)
for _ in range(50):
    socket.create_connection(("127.0.0.1", port)).close()
    failing(socket.socket(V4).connect, ("127.0.0.1", 1))
    failing(socket.socket(V4).connect, ("10.0.0.1", 1))
""")
    for name in ("attempts", "calls"):
        assert len(list(connects.program.maps[name].keys())) < 40


@pytest.mark.parametrize("behind", [False, True], ids=["nothing behind", "the rest behind"])
@pytest.mark.parametrize("family", SHORT)
def test_a_connect_with_too_few_bytes_for_an_address_is_not_told_and_one_with_just_enough_is(
    connects: Bench, family: str, behind: bool
) -> None:
    enough = {"V4": (16,), "V6": (24, 27, 28)}[family]
    address = {"V4": "127.0.0.1", "V6": "::1"}[family]
    ran = run(
        CUT
        + f"""
listener, port = listening({family}, "{address}")
calls = [cut("connect", socket.socket({family}, TCP), {family}, port, length, {behind}) for length in {SHORT[family]}]
calls += [cut("connect", socket.socket({family}, TCP), {family}, port, length) for length in {enough}]
say([calls, port])
"""
    )
    calls, port = ran.said
    assert calls == [-errno.EINVAL] * len(SHORT[family]) + [0] * len(enough)
    assert results(connects, ran.pid) == [(0, address, str(port))] * len(enough)
