"""The lives of processes are told: how they begin, what they run, how they end."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.kernel.program import Build
from bpfd.rules import model, predicate
from bpfd.rules.model import All, Not
from bpfd.tracers.process import SIGNALS, ProcessTracer
from tests.kernel.conftest import Bench
from tests.tracers.tracing import by, python, tracing


@pytest.fixture(scope="module")
def lives(build: Build) -> Iterator[Bench]:
    with tracing(ProcessTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(lives: Bench) -> None:
    lives.judge_by([All()])


def test_one_life_is_told_from_its_fork_over_its_program_to_its_end(lives: Bench) -> None:
    begun = time.monotonic_ns()
    process = subprocess.Popen(["/bin/sh", "-c", "sleep 0.1; exit 3"])
    process.wait()
    lasted = time.monotonic_ns() - begun
    told = [event for event, _ in lives.events()]
    [fork] = [event for event in told if event.data.get("child") == str(process.pid)]
    assert (fork.pid, fork.data["action"]) == (os.getpid(), "fork")
    assert fork.data.keys() == {"action", "child"}
    started, *_, ended = [event for event in told if event.pid == process.pid]
    assert started.data == {"action": "exec", "filename": "/bin/sh"}
    assert ended.data.keys() == {"action", "exit_code", "duration"}
    assert (ended.data["action"], ended.data["exit_code"], ended.command) == ("exit", "3", "sh")
    assert 100_000_000 < int(ended.data["duration"]) < lasted
    assert 0 <= ended.duration - int(ended.data["duration"]) < 50_000_000


def test_an_end_in_peace_has_the_code_0(lives: Bench) -> None:
    pid = python("pass")
    assert lives.wait_for(by(pid, action="exit")).data["exit_code"] == "0"


def test_a_rule_on_exit_codes_says_of_forks_in_the_kernel_what_it_says_in_python(lives: Bench) -> None:
    """A fork has none: that is not 0, and nothing for the kernel to act on."""
    for rule in (model.Test("exit_code", "is", ("0",)), Not(model.Test("exit_code", "is", ("0",)))):
        wants = predicate.compile(rule, ProcessTracer.fields)
        assert 0 in lives.judge_by([rule]).inexact
        pid = python("pass")
        python("raise SystemExit(3)")
        ended = lives.wait_for(by(pid, action="exit"))
        assert wants(ended) == isinstance(rule, model.Test)
        lives.judge_by([rule])
        process = subprocess.Popen(["true"])
        process.wait()
        forks = [event for event, _ in lives.events() if event.data.get("child") == str(process.pid)]
        assert [wants(event) for event in forks] == [isinstance(rule, Not)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGRTMIN + 3])
def test_the_signal_that_ended_a_process_is_named(lives: Bench, number: int) -> None:
    process = subprocess.Popen(["sleep", "60"])
    lives.wait_for(by(process.pid, action="exec", filename="/usr/bin/sleep"))
    process.send_signal(number)
    process.wait()
    data = lives.wait_for(by(process.pid, action="exit")).data
    assert data["signal"] == SIGNALS[number]
    assert data["exit_code"] == "0"
    assert "core_dumped" not in data


def test_a_core_that_was_written_is_told(lives: Bench, folder: Path) -> None:
    code = "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, ({0}, {0})); os.abort()"
    pid = python(code.format(resource.RLIM_INFINITY))
    data = lives.wait_for(by(pid, action="exit")).data
    assert (data["signal"], data["core_dumped"]) == ("SIGABRT", "true")
    pid = python(code.format(0))
    data = lives.wait_for(by(pid, action="exit")).data
    assert data["signal"] == "SIGABRT"
    assert "core_dumped" not in data


def test_threads_are_no_processes(lives: Bench) -> None:
    threads = [threading.Thread(target=time.sleep, args=(0,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event.data["action"] for event, _ in lives.events() if event.pid == os.getpid()] == []


@pytest.mark.parametrize(
    ("end", "lasts_s", "name"),
    [
        ("os._exit(5)", 60, None),
        ("ctypes.CDLL(None).syscall(60, 7)", 0.05, None),  # this thread alone: the others go on
        ("os.kill(os.getpid(), 9)", 60, "SIGKILL"),
    ],
    ids=["exit_group", "exit", "killed"],
)
def test_a_process_of_many_threads_ends_once_with_what_its_parent_is_told(
    lives: Bench, end: str, lasts_s: float, name: str | None
) -> None:
    program = f"""
import ctypes, os, threading, time
for _ in range(8):
    threading.Thread(target=time.sleep, args=({lasts_s},)).start()
{end}
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    status = process.wait()
    told = [event.data for event, _ in lives.events() if event.pid == process.pid]
    assert [data["action"] for data in told] == ["exec", "exit"]
    assert told[1].get("signal") == name
    assert told[1]["exit_code"] == str(max(status, 0))


def test_a_program_that_cannot_be_started_is_no_exec(lives: Bench) -> None:
    pid = python("import os\ntry: os.execv('/nothing', ['x'])\nexcept OSError: pass")
    lives_of = [event.data["action"] for event, _ in lives.events() if event.pid == pid]
    assert lives_of == ["exec", "exit"]


def test_every_one_of_many_processes_is_told(lives: Bench) -> None:
    code = """
import os
for number in range(300):
    if not os.fork():
        os._exit(number % 256)
    os.wait()
"""
    pid = python(code)
    told = [event for event, _ in lives.events() if pid in (event.ppid, event.pid)]
    children = [event.data["child"] for event in told if event.data["action"] == "fork"]
    codes = [event.data["exit_code"] for event in told if event.ppid == pid and event.data["action"] == "exit"]
    assert len(set(children)) == 300
    assert codes == [str(number % 256) for number in range(300)]


def test_a_rule_on_action_and_signal_is_judged_in_the_kernel(lives: Bench) -> None:
    rule = All((model.Test("action", "is", ("exit",)), model.Test("signal", "is", ("SIGUSR1",))))
    plan = lives.judge_by([rule])
    assert not plan.inexact
    python("import os; os.kill(os.getpid(), 10 + 2)")
    pid = python("import os; os.kill(os.getpid(), 10)")
    told = [(event.pid, event.data["signal"]) for event, _ in lives.events()]
    assert told == [(pid, "SIGUSR1")]
