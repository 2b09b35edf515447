"""A signal reaches the process that acted, or nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.errors import RefusedError, TargetGoneError
from bpfd.process import TICK_NS, ancestors, read_stat, signal_process
from tests.own_pid_max import own_pid_max


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def start_ns(pid: int) -> int:
    return read_stat(pid).start_tick * TICK_NS


def test_the_process_that_acted_is_hit(sleeper: subprocess.Popen[bytes]) -> None:
    signal_process(sleeper.pid, start_ns(sleeper.pid), time.time_ns(), signal.SIGKILL)
    assert sleeper.wait(5) == -signal.SIGKILL


def test_without_a_start_time_a_process_older_than_the_event_is_hit(sleeper: subprocess.Popen[bytes]) -> None:
    signal_process(sleeper.pid, 0, time.time_ns(), signal.SIGINT)
    assert sleeper.wait(5) == -signal.SIGINT


def test_a_process_that_started_after_the_event_is_a_stranger(sleeper: subprocess.Popen[bytes]) -> None:
    with pytest.raises(TargetGoneError, match="another process's by now"):
        signal_process(sleeper.pid, 0, time.time_ns() - 60_000_000_000, signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_process_with_another_start_time_is_a_stranger(sleeper: subprocess.Popen[bytes]) -> None:
    with pytest.raises(TargetGoneError):
        signal_process(sleeper.pid, start_ns(sleeper.pid) + TICK_NS, time.time_ns(), signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_process_that_has_ended_is_gone_also_as_a_zombie(sleeper: subprocess.Popen[bytes]) -> None:
    started = start_ns(sleeper.pid)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(TargetGoneError, match="it has ended"):
        signal_process(sleeper.pid, started, time.time_ns(), signal.SIGKILL)
    sleeper.wait()
    with pytest.raises(TargetGoneError, match="it has ended"):
        signal_process(sleeper.pid, started, time.time_ns(), signal.SIGKILL)


@pytest.mark.parametrize("pid", [0, 1, os.getpid(), os.getppid()], ids=["none", "init", "itself", "parent"])
def test_protected_processes_are_refused(pid: int) -> None:
    with pytest.raises(RefusedError):
        signal_process(pid, 0, time.time_ns(), signal.SIGCONT)


def test_kernel_threads_are_refused() -> None:
    kthreadd = 2  # its number on every machine (rest_init, init/main.c)
    assert read_stat(kthreadd).is_kernel_thread
    with pytest.raises(RefusedError, match="kernel thread"):
        signal_process(kthreadd, start_ns(kthreadd), time.time_ns(), signal.SIGCONT)


def test_a_thread_is_not_taken_for_a_process() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        with pytest.raises(TargetGoneError):
            signal_process(thread.native_id, 0, time.time_ns(), signal.SIGCONT)
    finally:
        done.set()
        thread.join()


def test_a_name_with_parentheses_does_not_shift_the_fields(tmp_path: Path) -> None:
    program = tmp_path / "x) R 1 (y"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as process:
        try:
            deadline = time.monotonic() + 20
            while Path(f"/proc/{process.pid}/comm").read_text() != "x) R 1 (y\n":
                assert time.monotonic() < deadline
                time.sleep(0.001)
            assert read_stat(process.pid).ppid == os.getpid()
        finally:
            process.kill()


def test_the_ancestors_lead_to_init_or_out_of_sight() -> None:
    found = ancestors(os.getpid())
    assert os.getppid() in found
    assert os.getpid() not in found


REUSE = """
import os, signal, sys, time
from pathlib import Path
from bpfd.errors import TargetGoneError
from bpfd.process import TICK_NS, read_stat, signal_process

def spawn(until):
    pid = os.fork()
    if pid == 0:
        os.read(until, 1)
        os._exit(0)
    return pid

Path("/proc/sys/kernel/pid_max").write_text("301")  # the least: 300 are for the machine's first processes, one is left
nothing = os.open("/dev/null", os.O_RDONLY)
for _ in range(400):
    os.waitpid(spawn(nothing), 0)
reader, writer = os.pipe()
reused = 0
for _ in range(1000):
    guilty = spawn(reader)
    event = (guilty, read_stat(guilty).start_tick * TICK_NS, time.time_ns())
    pidfd = os.pidfd_open(guilty)
    inode = os.fstat(pidfd).st_ino
    os.close(pidfd)
    os.write(writer, b"x")
    os.waitpid(guilty, 0)
    stranger = spawn(reader)
    reused += stranger == guilty
    try:
        signal_process(*event, signal.SIGKILL, inode)
        sys.exit("somebody was hit")
    except TargetGoneError:
        pass
    os.write(writer, b"x")
    if os.waitstatus_to_exitcode(os.waitpid(stranger, 0)[1]):
        sys.exit("a stranger was hit")
sys.exit(0 if reused > 900 else f"only {reused} pids were reused")
"""


@own_pid_max
def test_a_thousand_pids_that_are_reused_at_once_lead_to_no_stranger() -> None:
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", REUSE]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")
