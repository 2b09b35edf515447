"""Kernel modules that are loaded and removed are told; where the kernel can't load any, that somebody tried."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.event import Event
from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.module import ModuleTracer, flags_text
from tests.kernel.conftest import Bench
from tests.tracers.tracing import python, tracing

CALLS = "import ctypes, os; call = ctypes.CDLL(None).syscall\n"
REFUSED = {-errno.ENOSYS, -errno.ENOEXEC, -errno.EPERM, -errno.ENOENT, -errno.EBADF, -errno.EFAULT}
"""What a kernel says of nonsense: without modules ENOSYS, to all."""


@pytest.fixture(scope="module")
def modules(build: Build) -> Iterator[Bench]:
    with tracing(ModuleTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(modules: Bench) -> None:
    modules.judge_by([All()])


def told(modules: Bench, code: str) -> list[Event]:
    pid = python(CALLS + code)
    return [event for event, _ in modules.events() if event.pid == pid]


def test_a_module_from_a_file_is_told_with_its_path_and_parameters(modules: Bench, folder: Path) -> None:
    (folder / "evil.ko").write_bytes(b"no module")
    [event] = told(modules, "call(313, os.open('./evil.ko', 0), b'debug=1 hide=42', 2)")
    assert event.return_value in REFUSED
    assert event.data == {
        "action": "finit_module",
        "path": f"{folder}/evil.ko",
        "parameters": "debug=1 hide=42",
        "flags": "MODULE_INIT_IGNORE_VERMAGIC",
    }


def test_a_module_from_memory_is_told_by_its_size_or_the_memorys_name(modules: Bench) -> None:
    code = "call(175, b'x' * 512, 512, b'quiet'); call(313, os.memfd_create('rootkit'), b'', 0)"
    image, memory = told(modules, code)
    assert {image.return_value, memory.return_value} <= REFUSED
    assert image.data == {"action": "init_module", "size": "512", "parameters": "quiet"}
    assert memory.data == {"action": "finit_module", "path": "/memfd:rootkit"}


def test_a_module_that_is_to_go_is_told_by_its_name(modules: Bench) -> None:
    [event] = told(modules, f"call(176, b'no_such_module', {os.O_NONBLOCK | os.O_TRUNC})")
    assert event.return_value in REFUSED
    assert event.data == {"action": "delete_module", "name": "no_such_module", "flags": "O_NONBLOCK|O_TRUNC"}


def test_nonsense_is_told_as_far_as_it_goes(modules: Bench) -> None:
    file, name = told(modules, "call(313, 9999, ctypes.c_void_p(1), 0); call(176, ctypes.c_void_p(1), 0)")
    assert file.data == {"action": "finit_module", "parameters": "?"}
    assert name.data == {"action": "delete_module", "name": "?"}


def test_other_calls_are_not_told_or_counted(modules: Bench) -> None:
    before = modules.program.seen
    assert told(modules, "open('/etc/hostname').close(); os.getpid()") == []
    assert modules.program.seen - before < 5


def test_a_rule_on_the_path_is_judged_in_the_kernel(modules: Bench, folder: Path) -> None:
    for name in ("good.ko", "evil.ko"):
        (folder / name).write_bytes(b"no module")
    plan = modules.judge_by([All((model.Test("path", "suffix", ("/evil.ko",)),))])
    assert not plan.inexact
    found = told(modules, "for name in ('good.ko', 'evil.ko'): call(313, os.open(name, 0), b'', 0)")
    assert [event.data["path"] for event in found] == [f"{folder}/evil.ko"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1 << 32 | 5, "MODULE_INIT_IGNORE_MODVERSIONS|MODULE_INIT_COMPRESSED_FILE"),
        (2 << 32 | os.O_NONBLOCK, "O_NONBLOCK"),
        (1 << 32 | 0x40, "0x40"),
    ],
)
def test_flags_have_the_names_of_their_call(number: int, text: str) -> None:
    assert flags_text(number) == text
