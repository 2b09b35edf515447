"""32-bit programs: what tracers see of them, and which say that they do not."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd import tracers
from bpfd.kernel.program import Build
from bpfd.plugin import BPFTracer
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.mkdir import MkdirTracer
from bpfd.tracers.process import ProcessTracer
from bpfd.tracers.syscall import Syscalls
from bpfd.tracers.tcpconnect import TcpConnectTracer
from tests.kernel.conftest import Bench
from tests.tracers.tracing import tracing

needs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the program is one of 32-bit x86")
CLOSED = "1"
"""A port that nobody listens on."""


@pytest.fixture(scope="module")
def compat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of compat.c."""
    program = tmp_path_factory.mktemp("compat") / "compat"
    source = Path(__file__).with_name("compat.c")
    flags = ["-m32", "-O2", "-static", "-nostdlib", "-fno-pic", "-no-pie", "-fno-stack-protector"]
    subprocess.run(["gcc", *flags, "-o", program, source], check=True)
    return program


@pytest.fixture
def connects(build: Build) -> Iterator[Bench]:
    with tracing(TcpConnectTracer, build) as bench:
        bench.judge_by([All()])
        yield bench


@pytest.fixture
def lives(build: Build) -> Iterator[Bench]:
    with tracing(ProcessTracer, build) as bench:
        bench.judge_by([All()])
        yield bench


def run(program: Path, *words: str) -> int:
    process = subprocess.Popen([program, *words])
    process.wait(10)
    return process.pid


@needs_x86
def test_a_connection_of_a_32_bit_program_is_told_with_its_result(connects: Bench, compat: Path) -> None:
    pid = run(compat, "connect", CLOSED)
    [event] = [event for event, _ in connects.events() if event.pid == pid]
    assert (event.return_value, event.command) == (-errno.ECONNREFUSED, "compat")
    assert (event.data["daddr"], event.data["dport"]) == ("127.0.0.1", CLOSED)


@needs_x86
def test_the_life_of_a_32_bit_program_is_told_and_what_it_starts(lives: Bench, execs: Bench, compat: Path) -> None:
    execs.judge_by([All()])
    pid = run(compat, "lives", "/bin/true")
    told = [event for event, _ in lives.events()]
    [begun, forked, ended] = [event for event in told if event.pid == pid]
    assert [begun.data["action"], forked.data["action"], ended.data["action"]] == ["exec", "fork", "exit"]
    child = int(forked.data["child"])
    assert [event.data["action"] for event in told if event.pid == child] == ["exec", "exit"]
    started = {event.pid: event.data for event, _ in execs.events()}
    assert started[pid]["argv"] == f"{compat} lives /bin/true"
    assert (started[child]["filename"], started[child]["argv"]) == ("/bin/true", "/bin/true")


@needs_x86
def test_a_call_of_a_32_bit_program_is_told_among_all_calls(build: Build, compat: Path, folder: Path) -> None:
    """Its number is another than that of the same call of other programs."""
    every = Syscalls.find("syscall:*")
    assert every is not None
    with tracing(every, build) as bench, tracing(MkdirTracer, build) as directories:
        bench.judge_by([model.Test("command", "is", ("compat",))])
        directories.judge_by([All()])
        pid = run(compat, "mkdir", "made")
        os.rmdir("made")
        calls = [event for event, _ in bench.events() if event.pid == pid and "compat" in event.data]
        assert [event.data["syscall"] for event in calls] == ["execve", "mkdir"], "its own start is told when it is one"
        assert not [event for event, _ in directories.events() if event.pid == pid], "see the tracer's help"


BY_CALL = [
    one
    for one in tracers.bpfd_register_tracers()
    if issubclass(one, BPFTracer) and any(probe.startswith("tracepoint:syscalls:") for probe in one.probes)
]


@pytest.mark.parametrize("tracer", BY_CALL, ids=lambda tracer: tracer.name)
def test_a_tracer_of_system_calls_says_what_of_32_bit_programs_it_misses(tracer: type[BPFTracer]) -> None:
    assert "32-bit" in (tracer.__doc__ or "")
