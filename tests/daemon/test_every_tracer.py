"""With a rule for every named tracer the daemon works; a tracer that nobody asks for is not in the kernel."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from bpfd.kernel.maps import bpf
from tests.bench.start_cost import named
from tests.daemon.running import RunningDaemon, until

pytestmark = pytest.mark.serial

NEVER = 'tracer = "{}"\n[filterEvents.command]\nis = ["nothing-so-named"]\n'
PROG_GET_NEXT_ID, MAP_GET_NEXT_ID = 11, 12
LOAD_S = 150.0
"""How long it may take to compile them all, where nothing is kept of them."""


class Held(NamedTuple):
    """What a process has of the kernel's BPF."""

    programs: frozenset[int]
    maps: frozenset[int]
    attachments: Counter[str]


def held(pid: int) -> Held:
    """By the descriptors of a process: nothing else keeps what the daemon loads."""
    programs, maps = set(), set()
    attachments: Counter[str] = Counter()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            kind = os.readlink(descriptor)
            said = (descriptor.parent.parent / "fdinfo" / descriptor.name).read_text()
        except FileNotFoundError:
            continue  # it was closed meanwhile
        words = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
        if kind == "anon_inode:bpf-prog":
            programs.add(int(words["prog_id"]))
        elif kind == "anon_inode:bpf-map":
            maps.add(int(words["map_id"]))
        elif "perf_event" in kind or "bpf" in kind:
            attachments[kind + words.get("tp_name", "")] += 1
    return Held(frozenset(programs), frozenset(maps), attachments)


class _NextId(ctypes.Structure):
    """For BPF_PROG_GET_NEXT_ID and BPF_MAP_GET_NEXT_ID (include/uapi/linux/bpf.h)."""

    _fields_ = [("start", ctypes.c_uint32), ("next", ctypes.c_uint32), ("flags", ctypes.c_uint32)]


def in_kernel(command: int, among: frozenset[int]) -> set[int]:
    """Those programs or maps that the kernel has.

    bpftool would open them to look: the kernel keeps a prog array for ever that is let go while it is being emptied
    (prog_array_map_clear in kernel/bpf/arraymap.c: the second schedule_work does nothing, its reference stays).
    """
    found = set()
    for number in among:
        asked = _NextId(number - 1)
        with contextlib.suppress(FileNotFoundError):
            bpf(command, asked)
            if asked.next == number:
                found.add(number)
    return found


def running(daemon: RunningDaemon) -> set[str]:
    return {one["name"] for one in daemon.json("status")["tracers"] if one["state"] == "running"}


def test_every_tracer_runs_where_a_rule_asks_for_it_and_has_nothing_in_the_kernel_where_none_does(
    daemon: RunningDaemon,
) -> None:
    """Neither before its first rule comes nor after its last one is gone."""
    daemon.write_rule("never-open", NEVER.format("open"))
    daemon.start()
    alone = held(daemon.pid)
    assert alone.programs
    assert running(daemon) == {"open"}
    names = set(named())
    assert len(names) >= 20
    paths = [daemon.write_rule(f"never-{name}", NEVER.format(name)) for name in sorted(names - {"open"})]
    until(lambda: running(daemon) == names, lambda: (running(daemon), daemon.log), LOAD_S)
    assert not [rule for rule in daemon.json("ls") if rule["problem"]]
    everything = held(daemon.pid)
    assert len(everything.programs - alone.programs) > len(names)
    for path in paths:
        path.unlink()
    until(lambda: running(daemon) == {"open"}, lambda: (running(daemon), daemon.log), LOAD_S)
    until(lambda: held(daemon.pid) == alone, lambda: (held(daemon.pid), alone))
    programs, maps = everything.programs - alone.programs, everything.maps - alone.maps
    until(lambda: not in_kernel(PROG_GET_NEXT_ID, programs), lambda: in_kernel(PROG_GET_NEXT_ID, programs))
    until(lambda: not in_kernel(MAP_GET_NEXT_ID, maps), lambda: in_kernel(MAP_GET_NEXT_ID, maps))


def test_with_a_rule_for_every_tracer_the_daemon_starts_and_answers(daemon: RunningDaemon) -> None:
    names = set(named())
    for name in names:
        daemon.write_rule(f"never-{name}", NEVER.format(name))
    daemon.launch()
    until(lambda: "bpfd: ready" in daemon.log, lambda: daemon.log, LOAD_S)
    assert running(daemon) == names
    assert {rule["name"] for rule in daemon.json("ls")} == {f"never-{name}" for name in names}
    assert not [rule for rule in daemon.json("ls") if rule["problem"]]
