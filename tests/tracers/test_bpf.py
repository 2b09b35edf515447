"""What is done with BPF is told, but for what this daemon does."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bpfd.event import Event
from bpfd.kernel.btf import enum_names
from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.bpf import BpfTracer
from bpfd.tracers.mkdir import MkdirTracer
from tests.kernel.conftest import Bench
from tests.tracers.tracing import python, tracing

CALLS = """
import ctypes, os, struct
libc = ctypes.CDLL(None)
def bpf(command, form, *values, size=None):
    given = struct.pack('=' + form, *values)
    return libc.syscall(321, command, given, len(given) if size is None else size)
def text(value):
    kept.append(ctypes.create_string_buffer(value))
    return ctypes.addressof(kept[-1])
kept = []
def make_map(kind=2, name=b'figures'):
    return bpf(0, 'IIIIIII16s', kind, 4, 8, 16, 0, 0, 0, name)
NOTHING = struct.pack('=BBhi', 0xb7, 0, 0, 0) + struct.pack('=BBhi', 0x95, 0, 0, 0)  # r0 = 0; exit
def load(kind=1, name=b'nothing', expected=0):
    return bpf(5, 'IIQQIIQII16sII', kind, 2, text(NOTHING), text(b'GPL'), 0, 0, 0, 0, 0, name, 0, expected)
"""


@pytest.fixture(scope="module")
def calls(build: Build) -> Iterator[Bench]:
    with tracing(BpfTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(calls: Bench) -> None:
    calls.judge_by([All()])


def told(calls: Bench, code: str) -> list[Event]:
    pid = python(CALLS + code)
    return [event for event, _ in calls.events() if event.pid == pid]


def test_a_map_that_is_made_read_changed_and_frozen_is_told_by_its_name(calls: Bench) -> None:
    code = """
made = make_map()
key, value = text(b'\\0' * 4), text(b'1' * 8)
for command in (2, 1, 4, 3): bpf(command, 'IIQQQ', made, 0, key, value, 0)
bpf(22, 'I', made)
"""
    about = {"name": "figures", "map_type": "BPF_MAP_TYPE_ARRAY"}
    made, *others = told(calls, code)
    assert made.return_value >= 0
    assert made.data == {"operation": "BPF_MAP_CREATE", **about}
    assert [event.data for event in others] == [
        {"operation": f"BPF_MAP_{name}", **about}
        for name in ("UPDATE_ELEM", "LOOKUP_ELEM", "GET_NEXT_KEY", "DELETE_ELEM", "FREEZE")
    ]
    assert [event.return_value for event in others] == [0, 0, 0, -errno.EINVAL, 0]  # arrays' elements stay


def test_a_map_that_is_changed_in_bulk_is_told_by_its_name(calls: Bench) -> None:
    code = "made = make_map(); bpf(26, 'QQQQIIQQ', 0, 0, text(bytes(4)), text(bytes(8)), 1, made, 0, 0)"
    [_, bulk] = told(calls, code)
    assert bulk.return_value == 0
    assert bulk.data == {"operation": "BPF_MAP_UPDATE_BATCH", "name": "figures", "map_type": "BPF_MAP_TYPE_ARRAY"}


def test_a_program_that_is_loaded_and_run_is_told_with_its_kind_and_length(calls: Bench) -> None:
    [loaded, run] = told(calls, "bpf(10, 'IIIIQQ', load(), 0, 14, 0, text(bytes(14)), 0)")
    assert loaded.return_value >= 0
    about = {"name": "nothing", "program_type": "BPF_PROG_TYPE_SOCKET_FILTER"}
    assert loaded.data == {"operation": "BPF_PROG_LOAD", "instructions": "2", **about}
    assert (run.return_value, run.data) == (0, {"operation": "BPF_PROG_TEST_RUN", **about})


def test_a_program_is_told_with_where_it_is_attached(calls: Bench) -> None:
    code = "bpf(28, 'IIII', load(8, b'gate', 0), 9999, 0, 0); bpf(8, 'IIII', 9999, load(8, b'door', 1), 1, 0)"
    loaded, linked, other, attached = told(calls, code)
    assert linked.data == {
        "operation": "BPF_LINK_CREATE",
        "name": "gate",
        "program_type": "BPF_PROG_TYPE_CGROUP_SKB",
        "attach_type": "BPF_CGROUP_INET_INGRESS",
    }
    assert linked.return_value == -errno.EBADF
    assert "attach_type" not in loaded.data
    assert other.data["attach_type"] == attached.data["attach_type"] == "BPF_CGROUP_INET_EGRESS"
    assert (attached.data["operation"], attached.data["name"]) == ("BPF_PROG_ATTACH", "door")


def test_a_program_on_a_raw_tracepoint_is_told_with_the_tracepoint(calls: Bench) -> None:
    [loaded, opened] = told(calls, "bpf(17, 'QI', text(b'sched_switch'), load(17, b'watch'))")
    assert (loaded.return_value >= 0, opened.return_value >= 0) == (True, True)
    assert opened.data == {
        "operation": "BPF_RAW_TRACEPOINT_OPEN",
        "name": "watch",
        "program_type": "BPF_PROG_TYPE_RAW_TRACEPOINT",
        "target": "sched_switch",
    }


def test_what_is_pinned_and_taken_up_again_is_told_with_the_file(calls: Bench, folder: Path) -> None:
    code = "bpf(6, 'QII', text(b'here/pin'), make_map(), 0); bpf(7, 'QII', text(b'here/pin'), 0, 0)"
    _, pinned, taken = told(calls, code)
    about = {"name": "figures", "map_type": "BPF_MAP_TYPE_ARRAY"}
    assert pinned.data == {"operation": "BPF_OBJ_PIN", "filename": "here/pin", **about}
    assert taken.data == {"operation": "BPF_OBJ_GET", "filename": "here/pin"}
    assert [pinned.return_value, taken.return_value] == [-errno.ENOENT] * 2


def test_who_looks_through_the_programs_of_the_machine_is_told_with_the_id(calls: Bench) -> None:
    [walked, taken] = told(calls, "bpf(11, 'III', 7, 0, 0); bpf(13, 'III', 4000000000, 0, 0)")
    assert walked.data == {"operation": "BPF_PROG_GET_NEXT_ID", "id": "7"}
    assert taken.data == {"operation": "BPF_PROG_GET_FD_BY_ID", "id": "4000000000"}
    assert (walked.return_value, taken.return_value) == (0, -errno.ENOENT)


def test_calls_that_fail_are_told_with_the_reason(calls: Bench, folder: Path) -> None:
    code = """
bpf(0, 'IIII', 99, 4, 8, 16)
bpf(4711, 'I', 0)
libc.syscall(321, 5, None, 48)
bpf(1, 'IIQQQ', os.open('/etc/hostname', 0), 0, 0, 0, 0)
for name in ('bpf-map', 'bpf-prog'):
    bpf(1, 'IIQQQ', os.open(name, os.O_CREAT), 0, 0, 0, 0)
os.setuid(65534); load(2)
"""
    kind, command, nothing, no_map, called_map, called_program, user = told(calls, code)
    assert (kind.data["map_type"], kind.return_value) == ("99", -errno.EINVAL)
    assert (command.data, command.return_value) == ({"operation": "4711"}, -errno.EINVAL)
    assert (nothing.data["operation"], nothing.return_value) == ("BPF_PROG_LOAD", -errno.EFAULT)
    assert (no_map.data, no_map.return_value) == ({"operation": "BPF_MAP_LOOKUP_ELEM"}, -errno.EINVAL)
    assert called_map.data == called_program.data == no_map.data  # a file may be called as the kernel calls maps
    assert (user.data["program_type"], user.return_value, user.uid) == ("BPF_PROG_TYPE_KPROBE", -errno.EPERM, 65534)


def test_what_the_daemon_and_its_loader_do_is_left_out(build: Build) -> None:
    own = replace(build, self_pid=os.getpid())
    with tracing(BpfTracer, own) as calls:
        calls.judge_by([All()])
        with tracing(MkdirTracer, own) as other:
            other.judge_by([All()])
        python(CALLS + "make_map()")
        between = python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CALLS + 'make_map()'!r}])")
        told = [event for event, _ in calls.events()]
    assert not [event for event in told if os.getpid() in (event.pid, event.ppid)]
    assert [event.data["name"] for event in told if event.ppid == between] == ["figures"]


def test_a_rule_on_programs_of_a_kind_is_judged_in_the_kernel(calls: Bench) -> None:
    kind = model.Test("program_type", "is", ("BPF_PROG_TYPE_RAW_TRACEPOINT",))
    plan = calls.judge_by([All((kind, model.Test("operation", "is", ("BPF_PROG_LOAD",))))])
    assert not plan.inexact
    assert [event.data["name"] for event in told(calls, "make_map(); load(); load(17, b'raw')")] == ["raw"]


def test_every_command_of_this_kernel_has_a_name_and_late_ones_are_named_too() -> None:
    data = {"operation": "5", "program_type": "17", "map_type": "1"}
    BpfTracer.settle(data, 0)
    assert list(data.values()) == ["BPF_PROG_LOAD", "BPF_PROG_TYPE_RAW_TRACEPOINT", "BPF_MAP_TYPE_HASH"]
    assert max(map(len, enum_names("bpf_map_type").values())) < 48
