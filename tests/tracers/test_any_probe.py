"""Any trace event and system call, chosen anew in each run: what bpfd says of it is what the kernel's tracing says."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest

from bpfd.event import Event
from bpfd.kernel.formats import FormatField, parse
from bpfd.kernel.program import Build
from bpfd.pipeline import Clock
from bpfd.plugin import BPFTracer, Field, Named
from bpfd.plugins import load_plugins
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers import syscall, syscall_numbers, tracepoint
from tests.kernel.conftest import Bench
from tests.tracers.own_tracing import OwnTracing, own_tracing

CHOSEN = 20
SLACK_US = 50_000
"""How far apart the two may note the same occurrence: an interrupt, or the host's other guests, may come between."""
MOST_COMPARED = 1000
"""Of an event that comes a hundred thousand times, so many are taken at random."""
CATALOGUE = load_plugins().catalogue


# Trace events

WORK = """
import os, socket, subprocess, tempfile, threading, time
subprocess.run(["true"])
with tempfile.NamedTemporaryFile() as file:
    file.write(bytes(70000)); file.flush(); os.fsync(file.fileno()); os.rename(file.name, file.name + "x")
    os.rename(file.name + "x", file.name)
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname()); other, _ = listener.accept()
client.sendall(b"x" * 3000); other.recv(3000); client.close(); other.close(); listener.close()
one, two = socket.socketpair(); one.send(b"x"); two.recv(1)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.sendto(b"x", ("127.0.0.1", 9))
thread = threading.Thread(target=time.sleep, args=(0.005,)); thread.start(); thread.join()
memory = bytearray(4 << 20); os.kill(os.getpid(), 0); os.sched_yield(); os.nice(0)
"""


def work() -> int:
    """The pid of the process that did it."""
    with subprocess.Popen([sys.executable, "-S", "-c", WORK]) as process:
        assert process.wait() == 0
    return process.pid


def firing(tracing: OwnTracing) -> set[str]:
    """The trace events that come in the process that does the work."""
    (tracing.place / "events/enable").write_text("1")
    (tracing.place / "trace").write_text("")
    pid = work()
    tracing.disable()
    known = defaultdict(list)
    for name in tracepoint.available():
        category, _, event = name.partition(":")
        known[event].append(category)
    came = {found[1] for line in tracing.lines() if (found := re.search(rf"-{pid}\s.*\d\.\d{{6}}: (\w+): ", line))}
    # System calls have a test of their own; an event whose name is in two categories can't be told apart in the trace.
    categories = {event: known[event][0] for event in came if len(known[event]) == 1}
    return {f"{category}:{event}" for event, category in categories.items() if category not in ("syscalls", "ftrace")}


@pytest.fixture(scope="module")
def chosen_events() -> list[str]:
    with own_tracing(f"bpfd-choice-{os.getpid()}", fields=True) as tracing:
        often = set.intersection(*(firing(tracing) for _ in range(4)))  # not what others did just then
    assert len(often) > 3 * CHOSEN
    return random.sample(sorted(often), CHOSEN)


def test_any_twenty_trace_events_say_what_the_kernels_own_tracing_says(build: Build, chosen_events: list[str]) -> None:
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda name: compare_event(name, build), chosen_events))
    assert not [f"{name}: {problem}" for name, problem in zip(chosen_events, outcomes, strict=True) if problem]


def test_a_trace_event_that_the_kernel_lets_nobody_sample_can_be_traced(build: Build) -> None:
    tracer = CATALOGUE["tracepoint:irq_vectors:irq_work_exit"]
    assert issubclass(tracer, BPFTracer)
    Bench(tracer, build).close()


def compare_event(name: str, build: Build) -> str:
    """What differs; nothing if all is well."""
    category, _, event = name.partition(":")
    tracer = CATALOGUE[f"tracepoint:{name}"]
    assert issubclass(tracer, BPFTracer)
    described = parse((tracepoint.probes.tracefs() / "events" / category / event / "format").read_text())
    bench = Bench(tracer, build)
    try:
        with own_tracing(f"bpfd-{event}-{os.getpid()}", fields=True) as tracing:
            tracing.enable(name)
            deadline = time.monotonic() + 20
            events: list[Event] = []
            while not any(one.tid for one in events) and time.monotonic() < deadline:
                bench.judge_by([All()])
                work()
                bench.rest()  # some come faster than they are read
                events = [one for one, _ in bench.events()]
            tracing.disable()
            return compare(events, tracing.lines(), tracing.overrun(), event, described, tracer.fields)
    finally:
        bench.close()


def compare(
    events: list[Event],
    lines: list[str],
    overrun: int,
    event: str,
    described: tuple[FormatField, ...],
    fields: tuple[Field, ...],
) -> str:
    if not events:
        return "it did not come"
    form = re.compile(
        rf"-(\d+)\s+\[\d+\]\s+\S+\s+(\d+)\.(\d{{6}}): {event}: "
        + " ".join(rf"{one.name}=(?P<{one.name}>.*?)" for one in described)
        + "$",
        re.DOTALL,
    )
    said: dict[int, list[tuple[int, dict[str, str]]]] = defaultdict(list)
    for line in lines:
        found = form.search(line)
        if found:
            said[int(found[1])].append((int(found[2]) * 10**6 + int(found[3]), found.groupdict()))
    if not said:
        return f"its lines are not understood: {lines[:1]}"
    oldest = min(when for listed in said.values() for when, _ in listed)
    for listed in said.values():
        listed.sort(key=noted_at)
    offset = Clock()()
    by_name = {field.name: field for field in fields}
    compared = 0
    for one in random.sample(events, len(events)):
        when = (one.time - offset) // 1000
        if (overrun and when < oldest + SLACK_US) or not one.tid:
            continue
        if compared == MOST_COMPARED:
            break
        listed = said[one.tid]
        first = bisect_left(listed, when - SLACK_US, key=noted_at)
        beyond = bisect_right(listed, when + SLACK_US, key=noted_at)
        near = [values for _, values in listed[first:beyond]]
        if not any(all(same(one.data, field, values[field.name], by_name) for field in described) for values in near):
            return f"{one.tid} {dict(one.data)} is not among {near[:3]}"
        compared += 1
    return "" if compared else "all of it was overrun"


def noted_at(line: tuple[int, dict[str, str]]) -> int:
    return line[0]


def same(data: object, one: FormatField, said: str, fields: dict[str, Field]) -> bool:
    """Does the text of an event's field mean what the kernel printed?"""
    assert isinstance(data, dict)
    name = tracepoint.field_name(one.name)
    if name not in fields:
        return True
    mine: str = data[name]
    number = re.match(r"0x([0-9a-f]+)|\((\d+)\)", said)
    if one.shape in ("text", "dynamic") and one.type in ("char", "const char"):
        return mine.rstrip() == said.rstrip() or len(mine) >= tracepoint.TEXT_BYTES - 1
    if one.shape == "number" and number:
        printed = int(number[1], 16) if number[1] else int(number[2])
        mask = (1 << 8 * one.size) - 1
        return value_of(mine, fields[name]) & mask == printed & mask
    if one.shape == "pointer" and number and mine.startswith("0x"):
        return int(mine, 16) == int(number[1] or number[2], 16 if number[1] else 10)
    return True  # what the kernel's tracing does not print: arrays, and texts behind pointers


def value_of(text: str, field: Field) -> int:
    """The number behind a field's text."""
    if field.type == "bool":
        return int(text == "true")
    if isinstance(field.show, Named):
        for number, shown in field.show.names.items():
            if shown == text:
                return number
    if field.doc.startswith("dev_t"):
        major, minor = text.split(",")
        return int(major) << 20 | int(minor)
    return int(text)


# System calls

DANGEROUS = frozenset(
    (
        "exit exit_group fork vfork clone clone3 reboot kexec_load kexec_file_load pause sync vhangup brk mmap mremap "
        "munmap sigaltstack rt_sigreturn rt_sigsuspend restart_syscall iopl ioperm arch_prctl set_tid_address "
        "set_robust_list rseq seccomp prctl unshare personality umask sethostname setdomainname settimeofday "
        "clock_settime clock_adjtime adjtimex uretprobe uprobe msgget semget shmget mq_open select pselect6 poll ppoll "
        "alarm shmat shmdt modify_ldt mlockall execve execveat swapon swapoff syslog "
    ).split()
)
"""Calls that change the machine, wait for ever, or end the caller, whatever they are given."""
KERNELS_NAME = {
    "newstat": "stat", "newfstat": "fstat", "newlstat": "lstat", "newuname": "uname", "umount": "umount2",
    "sendfile64": "sendfile",
}  # fmt: skip
TEXT = "/nonexistent-bpfd/x"
BUFFER = b"said by the test"
ADDRESS = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 4711, socket.inet_aton("192.0.2.7"))
ADDRESS_TEXT = "192.0.2.7:4711"
NO_FD, NO_PID, ODD = 0x7FFFFFF, 0x3FFFFFFF, 0x7F7F7F7F
SHORT_S = 3


@pytest.fixture(scope="module")
def chosen_calls() -> list[str]:
    numbers = {name: number for number, name in syscall_numbers.call_names().items() if number < syscall_numbers.COMPAT}
    calls = [name.removeprefix("syscall:") for name in syscall.Syscalls.names()]
    possible = [name for name in calls if name not in DANGEROUS and KERNELS_NAME.get(name, name) in numbers]
    assert len(possible) > 10 * CHOSEN
    return random.sample(possible, CHOSEN)


def test_any_twenty_system_calls_say_what_the_kernels_own_tracing_says(build: Build, chosen_calls: list[str]) -> None:
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda name: compare_call(name, build), chosen_calls))
    assert not [f"{name}: {problem}" for name, problem in zip(chosen_calls, outcomes, strict=True) if problem]


def compare_call(call: str, build: Build) -> str:
    """What differs; nothing if all is well."""
    tracer = CATALOGUE[f"syscall:{call}"]
    assert issubclass(tracer, BPFTracer)
    folder = tracepoint.probes.tracefs() / "events/syscalls" / f"sys_enter_{call}"
    described = [one for one in parse((folder / "format").read_text()) if one.name != "__syscall_nr"]
    numbers = {name: number for number, name in syscall_numbers.call_names().items() if number < syscall_numbers.COMPAT}
    bench = Bench(tracer, build)
    try:
        with own_tracing(f"bpfd-{call}-{os.getpid()}", fields=False) as tracing:
            caller = ready_to_call(numbers[KERNELS_NAME.get(call, call)], call, described)
            try:
                tracing.enable(f"syscalls:sys_enter_{call}", f"syscalls:sys_exit_{call}")
                bench.judge_by([model.Test("pid", "is", (str(caller.pid),))])
                caller.send_signal(signal.SIGCONT)
                caller.wait()
            finally:
                caller.kill()
                caller.wait()
            tracing.disable()
            events = [one for one, _ in bench.events()]
            lines = [line for line in tracing.lines() if f"-{caller.pid} " in line]
            return compare_calls(call, events, lines, described, tracer.fields)
    finally:
        bench.close()


CALLER = """
import ctypes, os, signal, sys
buffers = {name: ctypes.create_string_buffer(bytes.fromhex(content), 4096) for name, content in
           zip(("text", "buffer", "address", "length"), sys.argv[1:5])}
given = [ctypes.addressof(buffers[one]) if one in buffers else int(one) for one in sys.argv[6:]]
libc = ctypes.CDLL(None)
os.kill(os.getpid(), signal.SIGSTOP)
signal.alarm(int(sys.argv[5]))  # from now on: it may have stood still for long
libc.syscall(*map(ctypes.c_long, given))
os._exit(0)
"""
"""Started anew, and not forked: it has one thread, and no locks of the tests' threads."""


def ready_to_call(number: int, call: str, described: list[FormatField]) -> subprocess.Popen[bytes]:
    """A process that has stopped, and next calls it with arguments that do no harm."""
    contents = [one.hex() for one in (TEXT.encode(), BUFFER, ADDRESS, struct.pack("=i", len(ADDRESS)))]
    given = [harmless(call, one) for one in described]
    child = subprocess.Popen([sys.executable, "-S", "-c", CALLER, *contents, str(SHORT_S), str(number), *given])
    os.waitpid(child.pid, os.WUNTRACED)
    return child


def harmless(call: str, one: FormatField) -> str:
    """An argument: a number, or which of the caller's buffers."""
    place = (call, one.name)
    if place in syscall.ADDRESS_LENGTH:
        return "address"
    if place in syscall.LENGTH_OF:
        return "buffer"
    if one.name in ("usockaddr_len", "upeer_addrlen", "addr_len") and one.type.endswith("*"):
        return "length"
    if one.name in ("addrlen", "addr_len"):
        return str(len(ADDRESS))
    if one.name in ("count", "len", "msg_len"):
        return str(len(BUFFER))
    if one.type.replace("const ", "").replace(" ", "") == "char*" and one.name not in syscall.NO_TEXT:
        return "text"
    if "*" in one.type:
        return "0"
    if "fd" in one.name:
        return str(NO_FD)
    if "pid" in one.name or one.name in ("which", "who"):
        return str(NO_PID)
    return str(ODD)


def compare_calls(
    call: str, events: list[Event], lines: list[str], described: list[FormatField], fields: tuple[Field, ...]
) -> str:
    entered = [found[1] for line in lines if (found := re.search(rf": sys_{call}\((.*)\)$", line))]
    left = [int(found[1], 16) for line in lines if (found := re.search(rf": sys_{call} -> 0x([0-9a-f]+)$", line))]
    if not events or not entered:
        return f"it did not come: {events} {lines[:3]}"
    by_name = {field.name: field for field in fields}
    event = events[-1]  # Python makes such calls of its own before
    if left and event.return_value % 2**64 != left[-1]:
        return f"the result is {event.return_value}, not {left[-1]:#x}"
    said = dict(re.findall(r"(\w+): (?:0x)?([0-9a-f]+)", entered[-1]))
    for one in described:
        field = by_name[tracepoint.field_name(one.name)]
        mine, printed = event.data[field.name], int(said[one.name], 16)
        if mine != shown(call, one, field, printed, event.return_value):
            return f"{one.name}: {mine!r} is not what {printed:#x} means"
    address = "".join(event.data[one.name] for one in described if (call, one.name) in syscall.ADDRESS_LENGTH)
    if ":".join(event.data[name] for name in ("address", "port") if name in event.data) != address:
        return f"the address is {event.data}"
    return ""


def shown(call: str, one: FormatField, field: Field, printed: int, result: int) -> str:
    """What is to be shown of an argument that the kernel's tracing printed, and that the test made."""
    if (call, one.name) in syscall.ADDRESS_LENGTH:
        by = syscall.ADDRESS_LENGTH[call, one.name]
        return "" if by.startswith("*") and result < 0 else ADDRESS_TEXT
    if (call, one.name) == ("getcwd", "buf"):
        return os.getcwd() + "\0"
    if (call, one.name) in syscall.LENGTH_OF:
        by = syscall.LENGTH_OF[call, one.name]
        length = len(BUFFER) if by != syscall.RESULT else max(result, 0)
        return BUFFER[:length].decode()
    if field.is_string:
        return TEXT
    c_type = {"int": (32, True), "s64": (64, True)}.get(one.type)
    bits, signed = c_type or WIDTHS.get(syscall.c_type_of(one.type), (64, False))
    value = printed & ((1 << bits) - 1)
    if signed and value >> (bits - 1):
        value -= 1 << bits
    return field.show(value) if field.show else str(value)


WIDTHS = {"s32": (32, True), "u32": (32, False), "u16": (16, False), "s64": (64, True), "u64": (64, False)}
