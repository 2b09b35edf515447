"""Namespaces that are entered or left are told."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.setns import SetnsTracer
from tests.kernel.conftest import Bench
from tests.tracers.tracing import by, python, tracing

libc = ctypes.CDLL(None, use_errno=True)
NAMESPACES = ("mnt", "net", "uts", "ipc", "pid", "cgroup")
SETNS = "import ctypes, os; libc = ctypes.CDLL(None)\n"


@pytest.fixture(scope="module")
def spaces(build: Build) -> Iterator[Bench]:
    with tracing(SetnsTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(spaces: Bench) -> None:
    spaces.judge_by([All()])


@pytest.mark.parametrize("kind", NAMESPACES)
def test_entering_a_namespace_is_told_with_its_kind_and_number(spaces: Bench, kind: str) -> None:
    pid = python(SETNS + f"libc.setns(os.open('/proc/self/ns/{kind}', 0), 0)")
    event = spaces.wait_for(by(pid, call="setns"))
    number = Path(f"/proc/self/ns/{kind}").stat().st_ino
    assert event.return_value == 0
    assert event.data == {"call": "setns", "type": kind, "inode": str(number)}


def test_entering_all_namespaces_of_a_process_is_told_with_whose_they_are(spaces: Bench) -> None:
    with subprocess.Popen(["sleep", "60"]) as target:
        try:
            pid = python(SETNS + f"libc.setns(os.pidfd_open({target.pid}), 0x20000 | 0x40000000)")
        finally:
            target.kill()
    event = spaces.wait_for(by(pid, call="setns"))
    assert event.return_value == 0
    assert event.data == {
        "call": "setns",
        "target": str(target.pid),
        "target_command": "sleep",
        "flags": "CLONE_NEWNS|CLONE_NEWNET",
    }


def test_nsenter_is_seen(spaces: Bench) -> None:
    process = subprocess.Popen(["nsenter", "--target", str(os.getpid()), "--net", "true"])
    process.wait()
    event = spaces.wait_for(by(process.pid, type="net"))
    assert (event.return_value, event.command) == (0, "nsenter")
    assert event.data["flags"] == "CLONE_NEWNET"


def test_leaving_namespaces_is_told_with_which(spaces: Bench) -> None:
    process = subprocess.Popen(["unshare", "--mount", "--uts", "--pid", "--fork", "true"])
    process.wait()
    event = spaces.wait_for(by(process.pid, call="unshare"))
    assert event.return_value == 0
    assert event.data == {"call": "unshare", "flags": "CLONE_NEWNS|CLONE_NEWUTS|CLONE_NEWPID"}


@pytest.mark.parametrize(
    ("deed", "code", "data"),
    [
        ("libc.setns(9999, 0)", errno.EBADF, {"call": "setns"}),
        ("libc.setns(os.open('/etc/hostname', 0), 0)", errno.EINVAL, {"call": "setns"}),
        (
            "libc.setns(os.open('/proc/self/ns/net', 0), 0x4000000)",
            errno.EINVAL,
            {"call": "setns", "type": "net", "inode": "{net}", "flags": "CLONE_NEWUTS"},
        ),
        ("libc.unshare(0x1)", errno.EINVAL, {"call": "unshare", "flags": "0x1"}),
        (
            "os.setuid(65534); libc.unshare(0x20000)",
            errno.EPERM,
            {"call": "unshare", "flags": "CLONE_NEWNS"},
        ),
    ],
)
def test_a_call_that_fails_is_told_with_the_reason(spaces: Bench, deed: str, code: int, data: dict[str, str]) -> None:
    pid = python(SETNS + deed)
    event = spaces.wait_for(by(pid))
    net = Path("/proc/self/ns/net").stat().st_ino
    assert event.return_value == -code
    assert event.data == {key: value.format(net=net) for key, value in data.items()}


def test_a_rule_on_the_kind_and_the_call_is_judged_in_the_kernel(spaces: Bench) -> None:
    plan = spaces.judge_by([All((model.Test("type", "is", ("mnt",)), model.Test("call", "is", ("setns",))))])
    assert not plan.inexact
    enter = "for kind in ('net', 'mnt', 'uts'): libc.setns(os.open(f'/proc/self/ns/{kind}', 0), 0)\n"
    pid = python(SETNS + enter + "libc.unshare(0x20000)")
    assert [event.data["type"] for event, _ in spaces.events() if event.pid == pid] == ["mnt"]
