"""Who did it is told right where numbers are used again, threads come by the thousand, and namespaces are nested."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bpfd.kernel.program import Build
from bpfd.rules.model import All
from bpfd.rules.model import Test as Clause
from bpfd.tracers.process import ProcessTracer
from tests.kernel.conftest import Bench
from tests.own_pid_max import own_pid_max
from tests.tracers.tracing import tracing

THREADS = 2000
CYCLE, ROUNDS = 330, 10
"""The largest number in a namespace, of which the first 300 are given once only (RESERVED_PIDS, kernel/pid.c)."""


@pytest.fixture(scope="module")
def lives(build: Build) -> Iterator[Bench]:
    with tracing(ProcessTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(lives: Bench, execs: Bench, opens: Bench) -> None:
    for bench in (lives, execs, opens):
        bench.judge_by([All()])


def python(code: str, *arguments: str, inside: tuple[str, ...] = ()) -> tuple[int, Any]:
    """Run code by the program `inside`; its pid, and the JSON that it printed."""
    words = [*inside, sys.executable, "-Ic", code, *arguments]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    return process.pid, json.loads(said)


@own_pid_max
def test_where_numbers_wrap_each_process_has_its_own_in_its_namespace(lives: Bench, execs: Bench, folder: Path) -> None:
    code = """
import json, os, sys
open("/proc/sys/kernel/pid_max", "w").write(sys.argv[1])
told = []
for number in range(int(sys.argv[2])):
    child = os.posix_spawn("/bin/true", ["true", f"{sys.argv[3]}-{number}"], {})
    os.waitpid(child, 0)
    told.append(child)
print(json.dumps(told))
"""
    mark, count = folder.name, ROUNDS * (CYCLE - 300)
    alone = ("unshare", "--pid", "--fork", "--mount-proc")
    _, numbers = python(code, str(CYCLE), str(300 + count), mark, inside=alone)
    assert max(numbers) < CYCLE
    assert len(set(numbers)) < 330, "the numbers did not wrap"
    told = {event.data["argv"]: event for event, _ in execs.events() if f" {mark}-" in event.data["argv"]}
    assert {argv: event.ns_pid for argv, event in told.items()} == {
        f"true {mark}-{number}": pid for number, pid in enumerate(numbers)
    }
    steps: dict[int, list[str]] = {}
    parents = {event.ppid for event in told.values()}
    mine = {event.pid: event.ns_pid for event in told.values()}
    assert len(parents) == 1
    assert len(mine) == len(numbers)
    for event, _ in lives.events():
        if event.data["action"] == "fork" and event.pid in parents:
            steps.setdefault(int(event.data["child"]), []).append("fork")
        elif event.pid in mine:
            assert event.ns_pid == mine[event.pid]
            steps.setdefault(event.pid, []).append(event.data["action"])
    assert {pid: step for pid, step in steps.items() if pid in mine} == {pid: ["fork", "exec", "exit"] for pid in mine}


def test_a_number_that_is_used_again_at_once_is_told_with_who_has_it_now(execs: Bench, folder: Path) -> None:
    code = """
import ctypes, json, os, struct, sys
clone3, libc, number = 435, ctypes.CDLL(None, use_errno=True), ctypes.c_int(0)
used = []
for user in range(1000, 1040):
    # struct clone_args: no flags, SIGCHLD, and from the second time on the number of the one before
    chosen = (ctypes.addressof(number), 1) if number.value else (0, 0)
    arguments = struct.pack("=11Q", 0, 0, 0, 0, 17, 0, 0, 0, *chosen, 0)
    child = libc.syscall(clone3, arguments, len(arguments))
    if not child:
        os.setuid(user)
        os.execv("/bin/true", ["true", f"{sys.argv[1]}-{user}"])
    assert child > 0, os.strerror(ctypes.get_errno())
    os.waitpid(child, 0)
    number.value = child
    used.append(child)
print(json.dumps(used))
"""
    parent, used = python(code, folder.name)
    assert len(set(used)) == 1
    told = [event for event, _ in execs.events() if f" {folder.name}-" in event.data["argv"]]
    assert [(event.pid, event.uid, event.data["argv"]) for event in told] == [
        (used[0], user, f"true {folder.name}-{user}") for user in range(1000, 1040)
    ]
    assert {event.ppid for event in told} == {parent}
    assert len({event.start for event in told}) == len(told), "what tells them apart"


def test_of_thousands_of_threads_each_is_told_by_its_own_number(opens: Bench, lives: Bench, folder: Path) -> None:
    code = """
import json, os, sys, threading
threading.stack_size(1 << 16)
count = int(sys.argv[1])
together = threading.Barrier(count)
def work():
    together.wait()
    try:
        os.open(f"missing-{threading.get_native_id()}", os.O_RDONLY)
    except FileNotFoundError:
        pass
threads = [threading.Thread(target=work) for _ in range(count)]
for thread in threads:
    thread.start()
print(json.dumps([thread.native_id for thread in threads]))
for thread in threads:
    thread.join()
"""
    opens.judge_by([Clause("filename", "prefix", ("missing-",))])  # others may open more than the ring has room for
    pid, threads = python(code, str(THREADS))
    told = [event for event, _ in opens.events() if event.pid == pid]
    assert sorted(event.tid for event in told) == sorted(threads)
    assert all(event.data["filename"] == f"missing-{event.tid}" for event in told)
    lived = [event.data["action"] for event, _ in lives.events() if event.pid == pid]
    assert lived.count("exit") == 1, "threads are no processes"


def test_a_program_that_one_of_many_threads_starts_is_the_whole_process(
    execs: Bench, lives: Bench, folder: Path
) -> None:
    code = """
import os, sys, threading
threading.stack_size(1 << 16)
for _ in range(int(sys.argv[1])):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
go = lambda: os.execv("/bin/echo", ["echo", str(threading.get_native_id())])
threading.Thread(target=go).start()
threading.Event().wait()
"""
    pid, thread = python(code, str(THREADS // 4))
    assert thread != pid
    [_, event] = [event for event, _ in execs.events() if event.pid == pid]
    assert (event.tid, event.command, event.data["argv"]) == (pid, "echo", f"echo {thread}")
    lived = [event.data["action"] for event, _ in lives.events() if event.pid == pid]
    assert lived == ["exec", "exec", "exit"]


def test_in_nested_namespaces_the_number_is_the_machines_and_the_innermost(execs: Bench, folder: Path) -> None:
    """`pid` counts as the daemon does; `nsPid` is what the process itself calls its own number."""
    mark = str(600 + os.getpid())
    code = (
        f"import os, subprocess, sys\nfor _ in range(3): subprocess.run(['true'])\nsubprocess.run(['sleep', '{mark}'])"
    )
    nested = ("unshare", "--pid", "--fork", "--kill-child") * 3
    with subprocess.Popen([*nested, sys.executable, "-Ic", code]) as process:
        try:
            event = execs.wait_for(lambda event: event.data["argv"] == f"sleep {mark}")
            status = Path(f"/proc/{event.pid}/status").read_text()
            os.kill(event.pid, 9)
            assert process.wait(10) == 0
        finally:
            process.kill()
    [levels] = re.findall(r"^NSpid:\s+(.*)$", status, re.M)
    numbers = [int(number) for number in levels.split()]
    assert len(numbers) == 4
    assert numbers[-1] > 3
    assert (event.pid, event.ns_pid) == (numbers[0], numbers[-1])
