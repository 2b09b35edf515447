"""Files that are opened by 32-bit calls are told, those of 32-bit programs and those of others."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.event import Event
from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.open32 import Open32Tracer
from tests.kernel.conftest import Bench
from tests.tracers.tracing import tracing

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="32-bit programs are x86's here")
PROGRAM = """
static int call(int number, long a, long b, long c, long d) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
  return result;
}
static struct { unsigned long long flags, mode, resolve; } how = {0102, 0640, 0};
void _start(void) {
  call(5, (long)"place/file", 0, 0, 0);               /* open */
  call(8, (long)"made", 0600, 0, 0);                  /* creat */
  call(295, -100, (long)"./place/file", 01102, 0604); /* openat */
  call(437, -100, (long)"new", (long)&how, 24);       /* openat2 */
  call(342, -1, (long)&how, 0, 0);                    /* open_by_handle_at */
  call(5, (long)"missing", 1, 0, 0);
  call(20, 5, 295, 437, 0);                           /* getpid opens nothing */
  call(1, 0, 0, 0, 0);
}
"""


def made(folder: Path, bits: int) -> Path:
    """A program that opens files by 32-bit calls: `place/file` must be there. It needs no library."""
    source, program = folder / "opener.c", folder / f"opener{bits}"
    source.write_text(PROGRAM)
    words = [
        "gcc",
        f"-m{bits}",
        "-O1",
        "-static",
        "-nostdlib",
        "-no-pie",
        "-fno-stack-protector",
        "-o",
        program,
        source,
    ]
    subprocess.run(words, check=True)
    return program


@pytest.fixture(scope="module")
def opens(build: Build) -> Iterator[Bench]:
    with tracing(Open32Tracer, build) as bench:
        yield bench


def run(opens: Bench, program: Path) -> list[Event]:
    """What is told of the program, in order."""
    opens.events()
    process = subprocess.Popen([program])
    assert process.wait() == 0
    return [event for event, _ in opens.events() if event.pid == process.pid]


@pytest.mark.parametrize("bits", [32, 64])
def test_opens_by_32_bit_calls_are_told_whatever_the_program_is(opens: Bench, folder: Path, bits: int) -> None:
    (folder / "place").mkdir()
    (folder / "place" / "file").write_text("")
    opens.judge_by([All()])
    told = run(opens, made(folder, bits))
    assert [(event.data["via"], event.data["filename"], event.data["flags"], event.data["mode"]) for event in told] == [
        ("open", "place/file", "O_RDONLY", "0000"),
        ("creat", "made", "O_WRONLY|O_CREAT|O_TRUNC", "0600"),
        ("openat", "./place/file", "O_RDWR|O_CREAT|O_TRUNC", "0604"),
        ("openat2", "new", "O_RDWR|O_CREAT", "0640"),
        ("open_by_handle_at", "", "O_RDONLY", "0000"),
        ("open", "missing", "O_WRONLY", "0000"),
    ]
    paths = [f"{folder}/{name}" for name in ("place/file", "made", "place/file", "new")]
    assert [event.data["path"] for event in told] == [*paths, "", f"{folder}/missing"]
    assert [event.return_value < 0 for event in told] == [False] * 4 + [True] * 2
    assert (told[4].return_value, told[5].return_value) == (-errno.EBADF, -errno.ENOENT)


def test_a_rule_on_them_is_judged_by_the_kernel(opens: Bench, folder: Path) -> None:
    (folder / "place").mkdir()
    (folder / "place" / "file").write_text("")
    rule = All((model.Test("path", "is", (f"{folder}/place/file",)), model.Test("writes", "is", ("true",))))
    assert not opens.judge_by([rule]).inexact
    assert [event.data["via"] for event in run(opens, made(folder, 32))] == ["openat"]


def test_what_64_bit_calls_open_is_not_told(opens: Bench, folder: Path) -> None:
    opens.judge_by([All()])
    os.close(os.open("made", os.O_CREAT))
    assert [event for event, _ in opens.events() if event.pid == os.getpid()] == []
