"""A process and all that descend from it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from bpfd.errors import TargetGoneError
from bpfd.process import Stat, identified, open_pidfd, read_stat, refuse_own, send

_PASSES = 20


def signal_tree(
    pid: int,
    start_ns: int,
    event_time_ns: int,
    number: signal.Signals,
    inode: int = 0,
    spares: Callable[[int], bool] = lambda pid: False,
) -> int:
    """Send signal `number` to the process that acted and to its descendants; how many got it.

    Arguments, errors and thread as of `bpfd.process.signal_process`. A descendant for whose id `spares` is true is left
    alone, with all that descends from it. SIGKILL and SIGSTOP stop everything first, so
    that nothing forks away meanwhile. A descendant whose parents have ended belongs to init and is not found.
    """
    with identified(pid, start_ns, event_time_ns, inode) as pidfd:
        members = {pid: read_stat(pid).start_tick}
        stops = number in {signal.SIGKILL, signal.SIGSTOP}
        if stops:
            send(pidfd, pid, signal.SIGSTOP)
        for _ in range(_PASSES):
            new = {child: tick for child, tick in _descendants(set(members), spares).items() if child not in members}
            members |= new
            if not new or not stops:
                break
            for child, tick in new.items():
                _send_to(child, tick, signal.SIGSTOP)
        reached = [_send_to(child, tick, number) for child, tick in members.items() if child != pid]
        send(pidfd, pid, number)
    return 1 + sum(reached)


def _descendants(roots: set[int], spares: Callable[[int], bool]) -> dict[int, int]:
    """The start ticks of all processes that descend from `roots`, by their ids; without those that are spared."""
    children: dict[int, list[tuple[int, Stat]]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = read_stat(int(entry))
            except TargetGoneError:
                continue
            children.setdefault(stat.ppid, []).append((int(entry), stat))
    found: dict[int, int] = {}
    waiting = list(roots)
    while waiting:
        for child, stat in children.get(waiting.pop(), ()):
            if child not in found and not spares(child):
                found[child] = stat.start_tick
                waiting.append(child)
    return found


def _send_to(pid: int, start_tick: int, number: signal.Signals) -> bool:
    """Send to the process with this id and start, unless it is gone; whether it was there."""
    try:
        refuse_own(pid)
        pidfd = open_pidfd(pid)
        try:
            if read_stat(pid).start_tick != start_tick:
                return False
            send(pidfd, pid, number)
            return True
        finally:
            os.close(pidfd)
    except TargetGoneError:
        return False
