"""The identity of a process: a signal reaches the one that acted, or nobody.

A pid is given to the next process once its owner is gone. Three facts together make up for it: a pidfd never changes
its process, `/proc/PID/stat` tells when the process behind a pid started (proc_pid_stat(5), field 22), and the event
tells when the one that acted did.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bpfd.errors import ActionError, RefusedError, TargetGoneError

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
"""What /proc counts a process's start in: 10 ms on every architecture that matters."""

_PF_KTHREAD = 0x00200000  # include/linux/sched.h


class Stat(NamedTuple):
    """What is used of /proc/PID/stat."""

    state: str
    ppid: int
    flags: int
    threads: int
    start_tick: int
    """When it started, in ticks of the boot clock."""

    @property
    def is_dead(self) -> bool:
        """True for a zombie. A leader that ended before its threads looks like one and is not."""
        return self.state in "ZX" and self.threads <= 1

    @property
    def is_kernel_thread(self) -> bool:
        return bool(self.flags & _PF_KTHREAD)


def read_stat(pid: int) -> Stat:
    """Read /proc/PID/stat. Raises `TargetGoneError` if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        raise TargetGoneError(f"process {pid}: it has ended") from None
    # The name stands in parentheses and may hold anything, parentheses included: look for the last one.
    words = text[text.rindex(b")") + 2 :].split()
    return Stat(words[0].decode(), int(words[1]), int(words[6]), int(words[17]), int(words[19]))


def signal_process(pid: int, start_ns: int, event_time_ns: int, number: signal.Signals, inode: int = 0) -> None:
    """Send signal `number` to the process that acted, never to a stranger that was given its pid.

    `start_ns` is when the process started, in nanoseconds of the boot clock; 0 if the event does not tell. Then a
    process that started after `event_time_ns` (wall clock) is taken for a stranger. `inode` is the process's number in
    pidfs (Linux 6.9: "pidfs: new pseudo filesystem for pidfds"), never given twice; 0 if the event does not tell. With
    it the answer is exact; without, a pid that changes hands within one tick (10 ms) is not noticed. Any thread; does
    not wait.

    Raises `TargetGoneError` (ended, or the pid is somebody else's by now) and `RefusedError` (a process that is
    never hit: pid 1, a kernel thread, this daemon or an ancestor of it).
    """
    with identified(pid, start_ns, event_time_ns, inode) as pidfd:
        send(pidfd, pid, number)


@contextmanager
def identified(pid: int, start_ns: int, event_time_ns: int, inode: int = 0) -> Iterator[int]:
    """Hold a pidfd of the process that acted, with the same arguments and errors as `signal_process`; closes it."""
    if pid <= 0:
        raise RefusedError("process 0: the event names no process")
    refuse_own(pid)
    pidfd = open_pidfd(pid)
    try:
        # In this order nothing is left to chance: if the pid changes hands after the open, the process behind the
        # pidfd has ended, and a signal to it is refused by the kernel whatever was read from /proc.
        stat = read_stat(pid)
        if stat.is_kernel_thread:
            raise RefusedError(f"process {pid}: a kernel thread is never signalled")
        if stat.is_dead:
            raise TargetGoneError(f"process {pid}: it has ended")
        same = os.fstat(pidfd).st_ino == inode if inode else _is_the_one(stat.start_tick, start_ns, event_time_ns)
        if not same:
            raise TargetGoneError(f"process {pid}: it has ended, and its pid is another process's by now")
        yield pidfd
    finally:
        os.close(pidfd)


def open_pidfd(pid: int) -> int:
    """A descriptor of process `pid`, which the caller closes. Raises `TargetGoneError`."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise TargetGoneError(f"process {pid}: it has ended") from None
    except OSError as error:
        # EINVAL: the id is a thread's, so no process has it any more.
        raise TargetGoneError(f"process {pid}: cannot be held: {error.strerror}") from None


def send(pidfd: int, pid: int, number: signal.Signals) -> None:
    """Send signal `number` to the process held by `pidfd`; `pid` is for messages. Raises as `signal_process`."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise TargetGoneError(f"process {pid}: it has ended") from None
    except OSError as error:
        raise ActionError(f"process {pid}: {number.name} cannot be sent: {error.strerror}") from None


def refuse_own(pid: int) -> None:
    """Raise `RefusedError` if `pid` is pid 1, this process or an ancestor of it."""
    if pid == 1:
        raise RefusedError("process 1: init is never signalled")
    if pid == os.getpid():
        raise RefusedError(f"process {pid}: the daemon itself is never signalled")
    if pid in ancestors(os.getpid()):
        raise RefusedError(f"process {pid}: an ancestor of the daemon is never signalled")


def ancestors(pid: int) -> set[int]:
    """The parent of `pid`, its parent, and so on up to pid 1, or to one whose parent (0) no /proc of ours shows."""
    found: set[int] = set()
    try:
        while (pid := read_stat(pid).ppid) > 0 and pid not in found:
            found.add(pid)
    except TargetGoneError:
        pass  # a parent ended while we looked: those above it are init or nobody
    return found


def _is_the_one(start_tick: int, start_ns: int, event_time_ns: int) -> bool:
    if start_ns:
        return start_tick == (start_ns + time_namespace_offset_ns()) // TICK_NS
    now_boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    event_boot_ns = event_time_ns - (time.time_ns() - now_boot_ns)
    return start_tick * TICK_NS <= event_boot_ns


def time_namespace_offset_ns() -> int:
    """What /proc adds to boot times that the kernel keeps, if this process runs in a time namespace; else 0."""
    try:
        offsets = Path("/proc/self/timens_offsets").read_text()
    except OSError:  # a kernel without time namespaces
        return 0
    for name, seconds, nanoseconds in (row.split() for row in offsets.splitlines()):
        if name == "boottime":
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return 0
