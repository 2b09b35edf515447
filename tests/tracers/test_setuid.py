"""Processes that change who they are are told with who they were."""

from __future__ import annotations

import contextlib
import errno
import struct
import subprocess
from collections.abc import Iterator

import pytest

from bpfd.event import Event
from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All, Not
from bpfd.tracers.setuid import SetuidTracer
from tests.daemon.running import until
from tests.kernel.conftest import Bench
from tests.tracers.tracing import by, python, tracing

LIBC = "import ctypes, os; libc = ctypes.CDLL(None); call = libc.syscall\n"
NUMBERS = {
    "setuid": 105,
    "setgid": 106,
    "setreuid": 113,
    "setregid": 114,
    "setresuid": 117,
    "setresgid": 119,
    "setfsuid": 122,
    "setfsgid": 123,
}
"""The calls on x86-64."""


@pytest.fixture(scope="module")
def changes(build: Build) -> Iterator[Bench]:
    with tracing(SetuidTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(changes: Bench) -> None:
    changes.judge_by([All()])


def ids(event: Event) -> tuple[list[int], list[int]]:
    """Before: real, effective; after: real, effective, saved, of files."""
    return (
        [int(event.data[f"old_{name}"]) for name in ("real", "effective")],
        [int(event.data[f"new_{name}"]) for name in ("real", "effective", "saved", "filesystem")],
    )


@pytest.mark.parametrize(
    ("call", "arguments", "target", "new"),
    [
        ("setuid", "1001", 1001, [1001, 1001, 1001, 1001]),
        ("setreuid", "1001, 1002", 1002, [1001, 1002, 1002, 1002]),
        ("setresuid", "1001, 1002, 1003", 1002, [1001, 1002, 1003, 1002]),
        ("setresuid", "-1, -1, 1003", 1003, [0, 0, 1003, 0]),
        ("setresuid", "-1, -1, -1", -1, [0, 0, 0, 0]),
        ("setreuid", "1001, -1", 1001, [1001, 0, 0, 0]),
        ("setgid", "1001", 1001, [1001, 1001, 1001, 1001]),
        ("setregid", "1001, 1002", 1002, [1001, 1002, 1002, 1002]),
        ("setresgid", "1001, 1002, 1003", 1002, [1001, 1002, 1003, 1002]),
    ],
)
def test_each_of_the_calls_is_told_with_who_it_was_and_is(
    changes: Bench, call: str, arguments: str, target: int, new: list[int]
) -> None:
    pid = python(LIBC + f"call({NUMBERS[call]}, {arguments})")
    event = changes.wait_for(by(pid))
    assert (event.data["call"], event.data["target"], event.return_value) == (call, str(target), 0)
    assert ids(event) == ([0, 0], new)
    own = event.gid if "gid" in call else event.uid
    assert own == new[0]


@pytest.mark.parametrize("call", ["setfsuid", "setfsgid"])
def test_who_opens_files_alone_is_told_and_the_call_returns_who_did(changes: Bench, call: str) -> None:
    pid = python(LIBC + f"call({NUMBERS[call]}, 1001); call({NUMBERS[call]}, 1002)")
    told = [event for event, _ in changes.events() if event.pid == pid]
    assert [(event.data["target"], event.return_value) for event in told] == [("1001", 0), ("1002", 1001)]
    assert ids(told[1]) == ([0, 0], [0, 0, 0, 1002])


@pytest.mark.parametrize("call", ["setuid", "setgid"])
def test_one_who_may_not_is_told_with_whom_he_wanted_to_be(changes: Bench, call: str) -> None:
    pid = python(LIBC + f"os.setgid(1000); os.setuid(1000); call({NUMBERS[call]}, 0)")
    event = changes.wait_for(by(pid, call=call, target="0"))
    assert (event.return_value, event.uid, event.gid) == (-errno.EPERM, 1000, 1000)
    assert ids(event) == ([1000, 1000], [1000] * 4)


def test_one_who_was_somebody_else_for_a_while_is_told_with_both(changes: Bench) -> None:
    pid = python(LIBC + f"os.setresuid(1000, 1001, 0); call({NUMBERS['setresuid']}, -1, 0, -1)")
    event = changes.wait_for(by(pid, target="0"))
    assert ids(event) == ([1000, 1001], [1000, 0, 0, 0])


def test_inside_a_user_namespace_ids_are_told_as_the_host_counts(changes: Bench) -> None:
    words = ["unshare", "--user", "--map-root-user", "/usr/bin/python3", "-c", LIBC + f"call({NUMBERS['setuid']}, 0)"]
    process = subprocess.Popen(words, user=1000, group=1000, cwd="/")
    assert process.wait() == 0
    event = changes.wait_for(by(process.pid, call="setuid", target="0"))
    assert (event.return_value, ids(event)) == (0, ([1000, 1000], [1000] * 4))


def test_every_one_of_many_is_told_with_its_own(changes: Bench) -> None:
    pid = python(LIBC + f"for number in range(1, 200): call({NUMBERS['setresuid']}, number, -1, -1)")
    told = [event for event, _ in changes.events() if event.pid == pid]
    assert [ids(event)[0][0] for event in told] == list(range(199))
    assert [ids(event)[1][0] for event in told] == list(range(1, 200))


def test_a_rule_on_one_who_becomes_root_is_judged_in_the_kernel(changes: Bench) -> None:
    root, was = model.Test("new_real", "is", ("0",)), model.Test("old_real", "is", ("0",))
    plan = changes.judge_by([All((root, Not(was), model.Test("call", "prefix", ("set",))))])
    assert not plan.inexact
    resuid = NUMBERS["setresuid"]
    code = f"call({resuid}, 0, 0, 0); call({resuid}, 1000, 0, 0); call({resuid}, 1001, 0, 0); call({resuid}, 0, 0, 0)"
    pid = python(LIBC + code)
    told = [(event.pid, ids(event)[0][0]) for event, _ in changes.events()]
    assert told == [(pid, 1001)]


def test_who_calls_while_too_many_calls_are_not_over_is_told_without_who_it_was_and_counted(changes: Bench) -> None:
    callers, before = changes.program.maps["callers"], changes.program.own_count(0)
    others = [struct.pack("=I", 1 << 24 | number) for number in range(callers.max_entries)]
    try:
        with contextlib.suppress(OSError):  # somebody else may be in a call
            for other in others:
                callers.write(other, bytes(8))
        pid = python(LIBC + f"call({NUMBERS['setuid']}, 1001)")
        assert ids(changes.wait_for(by(pid)))[0] == [-1, -1]
        assert changes.program.own_count(SetuidTracer.counts.index("untracked")) > before
    finally:
        for other in others:
            callers.delete(other)
    pid = python(LIBC + f"call({NUMBERS['setuid']}, 1001)")
    assert ids(changes.wait_for(by(pid)))[0] == [0, 0]


def test_nothing_is_kept_of_a_call_that_is_over_or_of_a_thread_that_ended_in_one(changes: Bench) -> None:
    callers = changes.program.maps["callers"]
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        key = struct.pack("=I", process.pid)
        callers.write(key, bytes(8))  # as if the end of its call had not been seen
        assert callers.read(key) is not None
    until(lambda: callers.read(key) is None, lambda: callers.read(key))
    key = struct.pack("=I", python(LIBC + f"call({NUMBERS['setuid']}, 1001)"))
    assert callers.read(key) is None
