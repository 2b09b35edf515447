"""Processes that look into others are told with whom they looked into."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.ptrace import NAMES, PtraceTracer
from tests.kernel.conftest import Bench
from tests.tracers.tracing import by, python, tracing

PTRACE = "import ctypes, os, sys; libc = ctypes.CDLL(None); ptrace = lambda r, p: libc.ptrace(r, p, None, None)\n"


@pytest.fixture(scope="module")
def looks(build: Build) -> Iterator[Bench]:
    with tracing(PtraceTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(looks: Bench) -> None:
    looks.judge_by([All()])


@pytest.fixture
def target() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process
        finally:
            process.kill()


def test_attaching_and_leaving_are_told_with_the_target(looks: Bench, target: subprocess.Popen[bytes]) -> None:
    pid = python(PTRACE + f"ptrace(16, {target.pid}); os.waitpid({target.pid}, 0x40000000); ptrace(17, {target.pid})")
    told = [event for event, _ in looks.events() if event.pid == pid]
    whom = {"target": str(target.pid), "target_tid": str(target.pid), "target_command": "sleep"}
    assert [event.data for event in told] == [
        {"request": "PTRACE_ATTACH", **whom},
        {"request": "PTRACE_DETACH", **whom},
    ]
    assert [event.return_value for event in told] == [0, 0]


def test_a_process_that_asks_to_be_traced_has_no_target(looks: Bench) -> None:
    pid = python(PTRACE + "ptrace(0, 0)")
    event = looks.wait_for(by(pid))
    assert (event.return_value, event.data) == (0, {"request": "PTRACE_TRACEME"})


def test_a_look_that_is_refused_is_told_with_whom_it_was_for(looks: Bench, target: subprocess.Popen[bytes]) -> None:
    pid = python(PTRACE + f"os.setuid(65534); ptrace(0x4206, {target.pid})")
    event = looks.wait_for(by(pid))
    assert event.return_value == -errno.EPERM
    assert event.data == {
        "request": "PTRACE_SEIZE",
        "target": str(target.pid),
        "target_tid": str(target.pid),
        "target_command": "sleep",
    }


def test_a_target_that_is_not_there_and_a_request_without_a_name_are_numbers(looks: Bench) -> None:
    pid = python(PTRACE + "ptrace(4711, 4194303)")
    event = looks.wait_for(by(pid))
    assert event.return_value == -errno.ESRCH
    assert event.data == {"request": "4711", "target": "4194303", "target_tid": "4194303"}


def test_a_thread_is_told_with_its_process(looks: Bench) -> None:
    code = """
import threading, time
thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
thread.start()
open(f"/proc/self/task/{thread.native_id}/comm", "w").write("worker")
print(thread.native_id, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            tid = int(process.stdout.readline())
            pid = python(PTRACE + f"ptrace(0x4206, {tid})")
        finally:
            process.kill()
    data = looks.wait_for(by(pid)).data
    assert (data["target"], data["target_tid"], data["target_command"]) == (str(process.pid), str(tid), "worker")


def test_a_target_inside_a_pid_namespace_is_told_by_its_number_outside(looks: Bench) -> None:
    code = "child = os.fork() or libc.pause()\nptrace(0x4206, child)\nprint(child)\nos.kill(child, 9)"
    words = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", PTRACE + code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    event = looks.wait_for(lambda event: event.data["request"] == "PTRACE_SEIZE")
    assert int(done.stdout) == 2
    assert int(event.data["target"]) > event.pid
    assert event.data["target_command"] == event.command


@pytest.mark.parametrize("count", [3, 70, 300])
def test_a_target_is_found_wherever_it_stands_among_many(looks: Bench, count: int) -> None:
    with contextlib.ExitStack() as ended:
        for _ in range(count):
            process = subprocess.Popen(["sleep", "60"])
            ended.callback(process.wait)
            ended.callback(process.kill)
        pid = python(PTRACE + f"ptrace(0x4206, {process.pid})")
    assert looks.wait_for(by(pid)).data["target_command"] == "sleep"


def test_a_rule_on_the_request_and_the_target_is_judged_in_the_kernel(
    looks: Bench, target: subprocess.Popen[bytes]
) -> None:
    request = model.Test("request", "is", ("PTRACE_ATTACH", "PTRACE_SEIZE"))
    plan = looks.judge_by([All((request, model.Test("target_command", "is", ("sleep",))))])
    assert not plan.inexact
    pid = python(PTRACE + f"ptrace(0x4206, os.getppid()); ptrace(0x4206, {target.pid}); ptrace(0x4207, {target.pid})")
    assert [event.data["request"] for event, _ in looks.events() if event.pid == pid] == ["PTRACE_SEIZE"]
    assert os.getpid() != target.pid


def test_no_two_requests_have_one_name() -> None:
    assert len(set(NAMES.values())) == len(NAMES)
