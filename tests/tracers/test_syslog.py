"""Messages to the system's log are told, whatever call sends them, and nothing else that goes over a socket."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from bpfd.event import Event
from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.syslog import SyslogTracer
from tests.kernel.conftest import Bench
from tests.tracers.network import events_of
from tests.tracers.tracing import python, tracing

LISTENING = """
import ctypes, os, socket, struct, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0
assert libc.mount(None, b"/", None, 0x44000, None) == 0
assert libc.mount(b"none", b"/dev", b"tmpfs", 0, None) == 0
DATAGRAM, STREAM = socket.SOCK_DGRAM, socket.SOCK_STREAM

def listening(name, kind=DATAGRAM):
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(name)
    if kind == STREAM:
        made.listen()
    return made

def sending(name, kind=DATAGRAM):
    made = socket.socket(socket.AF_UNIX, kind)
    made.connect(name)
    return made

kept = []

def text(buffer):
    kept.append(buffer)
    return ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value

def pieces(*buffers):
    return b"".join(struct.pack("=QQ", text(one), len(one)) for one in buffers)

def messages(*many):
    # struct mmsghdr: name, pieces and control data, each with its length; flags; the result
    return b"".join(struct.pack("=8Q", 0, 0, text(one), len(one) // 16, 0, 0, 0, 0) for one in many)

log = listening("/dev/log")
to_log = sending("/dev/log")
"""
"""Begins a program: in a mount namespace of its own it listens at /dev/log, and is connected to it."""
STAMP = "Nov 29 01:42:18 sshd[42]: "


@pytest.fixture(scope="module")
def messages(build: Build) -> Iterator[Bench]:
    with tracing(SyslogTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(messages: Bench) -> None:
    messages.judge_by([All()])


def told(bench: Bench, code: str) -> list[Event]:
    """What is told of a program that has a log of its own."""
    return events_of(bench, python(LISTENING + code))


@pytest.mark.parametrize(
    "send",
    [
        "to_log.send(MESSAGE)",
        "socket.socket(socket.AF_UNIX, DATAGRAM).sendto(MESSAGE, '/dev/log')",
        "to_log.sendmsg([MESSAGE])",
        "to_log.sendmsg([MESSAGE[:7], MESSAGE[7:9], b'', MESSAGE[9:]])",
        "socket.socket(socket.AF_UNIX, DATAGRAM).sendmsg([MESSAGE], [], 0, '/dev/log')",
        "os.write(to_log.fileno(), MESSAGE)",
        "os.writev(to_log.fileno(), [MESSAGE[:7], MESSAGE[7:]])",
    ],
)
def test_a_message_is_told_whatever_call_sends_it(messages: Bench, send: str) -> None:
    message = f"<86>{STAMP}Invalid user admin from 192.0.2.7"
    [event] = told(messages, f"MESSAGE = {message.encode()!r}\n{send}\nassert log.recv(1024) == MESSAGE\n")
    assert event.return_value == len(message)
    assert event.data == {
        "message": message[4:],
        "facility": "authpriv",
        "level": "info",
        "socket": "/dev/log",
    }


def test_messages_that_one_call_sends_are_lines_of_one_event(messages: Bench) -> None:
    code = """
array = messages(pieces(b"<13>one, ", b"in pieces"), pieces(b"<14>two"))
sent = libc.sendmmsg(to_log.fileno(), array, 2, 0)
assert sent == 2
"""
    [event] = told(messages, code)
    assert event.return_value == 2
    assert (event.data["message"], event.data["level"]) == ("one, in pieces\n<14>two", "notice")


def test_what_real_programs_log_is_told(messages: Bench) -> None:
    """The logger of util-linux, and the C library's syslog."""
    code = """
libc.openlog(b"probe", 0, 10 << 3)
libc.syslog(4, b"%s", b"from the library")
child = subprocess.Popen(["logger", "--priority", "local3.crit", "--tag", "tool", "from", "a", "tool"])
assert child.wait() == 0
print(child.pid)
"""
    pid = python(LISTENING + code)
    found = [event for event, _ in messages.events() if pid in (event.pid, event.ppid)]
    library, tool = sorted(found, key=lambda event: event.time)
    assert (library.pid, library.data["facility"], library.data["level"]) == (pid, "authpriv", "warning")
    assert library.data["message"].endswith(" probe: from the library")
    assert (tool.command, tool.data["facility"], tool.data["level"]) == ("logger", "local3", "crit")
    assert tool.data["message"].endswith(" tool: from a tool")


@pytest.mark.parametrize(
    ("name", "socket"),
    [
        ("/dev/log", "/dev/log"),
        ("/run/systemd/journal/dev-log", "/run/systemd/journal/dev-log"),
        ("/var/empty/dev/log", "/var/empty/dev/log"),
    ],
)
def test_the_log_of_systemd_and_of_a_chroot_are_logs(messages: Bench, name: str, socket: str) -> None:
    code = f"""
log.close()
os.unlink("/dev/log")
for place in (b"/run", b"/var"):
    assert libc.mount(b"none", place, b"tmpfs", 0, None) == 0
os.makedirs(os.path.dirname({name!r}), exist_ok=True)
log = listening({name!r})
os.makedirs("/run/elsewhere")
os.symlink({name!r}, "/run/elsewhere/link")
sending("/run/elsewhere/link").send(b"hello")
"""
    [event] = told(messages, code)
    assert event.data == {"message": "hello", "socket": socket}


def test_a_stream_is_told_without_the_end_of_its_message(messages: Bench) -> None:
    code = """
os.unlink("/dev/log")
log = listening("/dev/log", STREAM)
sending("/dev/log", STREAM).send(b"<30>hello\\0")
"""
    [event] = told(messages, code)
    assert event.data == {"message": "hello", "facility": "daemon", "level": "info", "socket": "/dev/log"}


@pytest.mark.parametrize(
    ("given", "message", "facility", "level"),
    [
        ("<0>x", "x", "kern", "emerg"),
        ("<191>x", "x", "local7", "debug"),
        ("<104>x", "x", "13", "emerg"),
        ("<192>x", "<192>x", "", ""),
        ("<>x", "<>x", "", ""),
        ("<1x", "<1x", "", ""),
        ("<12", "<12", "", ""),
        ("<1234>x", "<1234>x", "", ""),
        ("<-1>x", "<-1>x", "", ""),
        ("<13>", "", "user", "notice"),
        ("x<13>", "x<13>", "", ""),
        ("", "", "", ""),
    ],
)
def test_the_priority_is_told_where_there_is_one(
    messages: Bench, given: str, message: str, facility: str, level: str
) -> None:
    """What is left of the message before it does not count."""
    [_, event] = told(messages, f"to_log.send(b'<13>45>78>'); to_log.send({given.encode()!r})")
    assert event.data == {
        "message": message,
        **({"facility": facility, "level": level} if level else {}),
        "socket": "/dev/log",
    }


def test_a_message_is_told_as_far_as_there_is_room(messages: Bench) -> None:
    """In one piece, and in a thousand, of which 255 are looked at; one that can't be read is a question mark."""
    code = """
to_log.send(b"x" * 8191)
to_log.send(b"y" * 8192)
to_log.sendmsg([b"z" * 8] * 1000)
array = messages(pieces(b"before ") + struct.pack("=QQ", 1, 5) + pieces(b" after"))
libc.sendmsg(to_log.fileno(), array, 0)
"""
    found = [(event.return_value, event.data["message"]) for event in told(messages, code)]
    assert found == [
        (8191, "x" * 8191),
        (8192, "y" * 8191),
        (8000, "z" * 8 * 255),
        (-errno.EFAULT, "before ? after"),
    ]


def test_a_message_that_is_not_taken_is_told_with_the_reason(messages: Bench) -> None:
    code = """
to_log.setblocking(False)
for _ in range(10000):
    try:
        to_log.send(b"more")
    except BlockingIOError:
        break
"""
    *sent, refused = told(messages, code)
    assert sent
    assert (refused.return_value, refused.data["message"]) == (-errno.EAGAIN, "more")


def test_bytes_that_are_no_text_arrive(messages: Bench) -> None:
    [event] = told(messages, "to_log.send(b'a\\0b\\n\\xff\\x1b')")
    assert event.data["message"] == "a b\n\udcff\x1b"


def test_what_goes_elsewhere_is_not_told(messages: Bench) -> None:
    """Other sockets, names that are nearly the log's, files, pipes, bad descriptors; the log's own answers."""
    code = """
os.makedirs("/dev/deeper/dev")
for name in ("/dev/logs", "/dev/xlog", "/dev/deeper/log", "\\0/dev/log", "\\0hidden/dev/log"):
    kept.append(listening(name))
    sending(name).send(b"to " + name.encode())
    socket.socket(socket.AF_UNIX, DATAGRAM).sendto(b"past", name)
left, right = socket.socketpair(socket.AF_UNIX, DATAGRAM)
left.send(b"to a pair")
log.sendto(b"from the log", "/dev/logs")
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    socket.socket(family, DATAGRAM).sendto(b"to the internet", (address, 514))
name = b"/dev/log"
unbound = socket.socket(socket.AF_UNIX, DATAGRAM)
address = struct.pack("=H", socket.AF_UNIX) + name
results = [
    libc.sendto(unbound.fileno(), b"short", 5, 0, address, 2 + len(name) - 1),
    libc.sendto(unbound.fileno(), b"none", 4, 0, None, 0),
    libc.sendto(unbound.fileno(), b"no address", 10, 0, ctypes.c_void_p(1), 10),
    libc.sendto(999, b"no descriptor", 13, 0, None, 0),
    libc.write(999, b"no descriptor", 13),
    libc.sendmsg(to_log.fileno(), ctypes.c_void_p(1), 0),
    libc.write(os.open("/dev/log", os.O_PATH), b"no descriptor", 13),
]
assert results == [-1] * len(results), results
file = os.open("/dev/file", os.O_CREAT | os.O_RDWR)
reader, writer = os.pipe()
for descriptor in (file, writer):
    os.write(descriptor, b"/dev/log")
    os.writev(descriptor, [b"/dev/log"])
assert libc.sendto(to_log.fileno(), b"the log", 7, 0, address, 0) == 7
"""
    assert [event.data["message"] for event in told(messages, code)] == ["the log"]


def test_rules_on_the_message_and_its_priority_are_judged_in_the_kernel(messages: Bench) -> None:
    wanted = All(
        (
            model.Test("message", "contains", ("Invalid user", "preauth")),
            model.Test("facility", "is", ("auth", "authpriv")),
        )
    )
    assert messages.judge_by([wanted]).inexact == {}
    code = """
for message in (b"<38>Invalid user x", b"<86>closed [preauth]", b"<14>Invalid user y", b"<38>Accepted", b"preauth"):
    to_log.send(message)
"""
    assert [event.data["message"] for event in told(messages, code)] == ["Invalid user x", "closed [preauth]"]
