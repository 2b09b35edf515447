"""A signal to a process and all that descend from it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bpfd.errors import RefusedError, TargetGoneError
from bpfd.process import TICK_NS, read_stat
from bpfd.tree import signal_tree


def state(pid: int) -> str:
    try:
        return read_stat(pid).state
    except TargetGoneError:
        return "gone"


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.005)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[tuple[int, list[int]]]:
    """A process, and its child and two grandchildren."""
    pids = tmp_path / "pids"
    inner = f"sleep 60 & echo $! >> {pids}; sleep 60 & echo $! >> {pids}; echo $$ >> {pids}; wait"
    with subprocess.Popen(["sh", "-c", f"sh -c '{inner}' & wait"], start_new_session=True) as root:
        try:
            eventually(lambda: pids.exists() and len(pids.read_text().split()) == 3)
            yield root.pid, [int(text) for text in pids.read_text().split()]
        finally:
            os.killpg(root.pid, signal.SIGKILL)


def send(pid: int, number: signal.Signals) -> int:
    return signal_tree(pid, read_stat(pid).start_tick * TICK_NS, time.time_ns(), number)


def test_kill_ends_all_of_them(family: tuple[int, list[int]]) -> None:
    root, members = family
    assert send(root, signal.SIGKILL) == 4
    eventually(lambda: all(state(pid) in {"gone", "Z"} for pid in [root, *members]))


def test_stop_and_continue_reach_all_of_them(family: tuple[int, list[int]]) -> None:
    root, members = family
    assert send(root, signal.SIGSTOP) == 4
    eventually(lambda: all(state(pid) == "T" for pid in [root, *members]))
    assert send(root, signal.SIGCONT) == 4
    eventually(lambda: all(state(pid) == "S" for pid in [root, *members]))


def test_a_process_that_forks_all_the_time_does_not_get_away(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    script = f"while :; do sleep 61.25 & echo $! >> {marks}; done"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as root:
        try:
            eventually(lambda: marks.exists() and len(marks.read_text().split()) > 20)
            send(root.pid, signal.SIGKILL)
            root.wait(5)
            eventually(lambda: all(state(int(pid)) in {"gone", "Z"} for pid in marks.read_text().split()))
        finally:
            try:
                os.killpg(root.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def test_the_tree_of_a_stranger_is_left_alone(family: tuple[int, list[int]]) -> None:
    root, members = family
    with pytest.raises(TargetGoneError):
        signal_tree(root, (read_stat(root).start_tick + 5) * TICK_NS, time.time_ns(), signal.SIGKILL)
    with pytest.raises(RefusedError):
        send(os.getppid(), signal.SIGKILL)
    assert not {state(pid) for pid in members} & {"gone", "Z", "T"}
