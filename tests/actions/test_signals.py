"""kill and interrupt reach the process that acted."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from bpfd.actions.interrupt import Interrupt
from bpfd.actions.kill import Kill
from bpfd.errors import RefusedError, TargetGoneError
from bpfd.event import Event
from bpfd.plugin import Action
from bpfd.process import TICK_NS, read_stat


def event_of(pid: int) -> Event:
    return Event(time.time_ns(), "t", pid, pid, 1, 0, 0, "sleep", 0, start=read_stat(pid).start_tick * TICK_NS)


@pytest.mark.parametrize(("action", "number"), [(Kill, signal.SIGKILL), (Interrupt, signal.SIGINT)])
def test_the_process_that_acted_gets_the_signal(action: type[Action], number: signal.Signals) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            action({}).act(event_of(process.pid))
            assert process.wait(5) == -number
        finally:
            process.kill()


def test_a_process_with_another_number_in_pidfs_is_a_stranger() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            pidfd = os.pidfd_open(process.pid)
            inode = os.fstat(pidfd).st_ino
            os.close(pidfd)
            for tree in (False, True):
                with pytest.raises(TargetGoneError):
                    Kill({"tree": tree}).act(event_of(process.pid)._replace(inode=inode + 1))
            assert process.poll() is None
            Kill({}).act(event_of(process.pid)._replace(inode=inode))
            assert process.wait(5) == -signal.SIGKILL
        finally:
            process.kill()


def test_a_process_that_has_ended_is_gone() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        event = event_of(process.pid)
        process.kill()
    with pytest.raises(TargetGoneError):
        Kill({}).act(event)


def test_the_daemon_does_not_kill_itself() -> None:
    with pytest.raises(RefusedError):
        Kill({}).act(event_of(os.getpid()))
