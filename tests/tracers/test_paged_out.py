"""What lies in memory that is not there when it is looked at is told as "?": never as something else.

A program maps a file that has its texts and touches none of its pages. Calls that fail before the kernel has read them
leave the pages where they are, on disk; a page that was read can be thrown out again at any time.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bpfd.kernel.program import Build
from bpfd.plugin import BPFTracer
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.bpf import BpfTracer
from bpfd.tracers.exec import ExecTracer
from bpfd.tracers.mkdir import MkdirTracer
from bpfd.tracers.module import ModuleTracer
from bpfd.tracers.mount import MountTracer
from bpfd.tracers.open import OpenTracer
from bpfd.tracers.rename import RenameTracer
from bpfd.tracers.syscall import Syscalls
from bpfd.tracers.unlink import UnlinkTracer
from tests.tracers.tracing import python, tracing

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the system calls are x86-64's")

PAGES = """
import ctypes, os, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.syscall.restype = ctypes.c_long
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
def call(number, *arguments):
    return libc.syscall(number, *(ctypes.c_long(one) for one in arguments))
files = iter(range(100))
def page(text):
    "Where a text lies that nobody has looked at."
    path = f"text{next(files)}"
    with open(path, "wb") as file:
        file.write(text.ljust(4096, b"\\0"))
    with open(path, "rb") as file:
        return libc.mmap(None, 4096, 1, 2, file.fileno(), 0)  # PROT_READ, MAP_PRIVATE
def drop(where):
    libc.madvise(where, 4096, 4)  # MADV_DONTNEED
name = page(b"hidden")
"""
UNKNOWN = 0xFFFF
"""Flags that no call knows: it fails before it reads the name."""
AT_FDCWD = -100
TOO_LONG = 8192
"""Structures of more than a page are refused unread."""

Deed = tuple[Callable[[], type[BPFTracer]], str, Mapping[str, str], frozenset[str]]


def syscall(name: str) -> Callable[[], type[BPFTracer]]:
    def find() -> type[BPFTracer]:
        found = Syscalls.find(f"syscall:{name}")
        assert found is not None
        return found

    return find


DEEDS: dict[str, Deed] = {
    "open": (lambda: OpenTracer, f"call(257, {AT_FDCWD}, name, 0o20000000, 0)", {"filename": "?"}, frozenset()),
    "unlink": (lambda: UnlinkTracer, f"call(263, {AT_FDCWD}, name, {UNKNOWN})", {"filename": "?"}, frozenset()),
    "mount": (
        lambda: MountTracer,
        "call(165, name, page(b'also'), 1, 0, page(b'more'))",
        {"source": "?", "target": "?", "fstype": "?"},
        frozenset(),
    ),
    "mount_setattr": (
        lambda: MountTracer,
        f"call(442, {AT_FDCWD}, name, 0, page(b'attributes'), {TOO_LONG})",
        {"target": "?"},
        frozenset(("attributes_set", "attributes_cleared")),
    ),
    "module": (lambda: ModuleTracer, f"call(313, 999, name, {UNKNOWN})", {"parameters": "?"}, frozenset()),
    "bpf": (lambda: BpfTracer, f"call(321, 0, name, {TOO_LONG})", {}, frozenset(("map_type", "name", "id"))),
    "exec": (
        lambda: ExecTracer,
        "words = (ctypes.c_long * 4)(*(page(b'hidden') for _ in range(3)), 0); "
        "call(59, page(b'/no/such/program'), ctypes.addressof(words), 0)",
        {"filename": "/no/such/program", "argv": "? ? ?"},
        frozenset(),
    ),
    "syscall:write": (syscall("write"), "call(1, 999, name, 6)", {"buf": "?"}, frozenset()),
    "syscall:connect": (
        syscall("connect"),
        "call(42, 999, name, 16)",
        {"uservaddr": "?"},
        frozenset(("address", "port")),
    ),
    "syscall:chdir": (
        syscall("chdir"),
        "text = page(b'/no/such'); assert call(80, text) < 0",
        {"filename": "/no/such"},
        frozenset(),
    ),
}
"""By what it is called: a tracer, a deed that leaves its texts on disk, and what must, and must not, be told."""


@pytest.mark.parametrize("name", DEEDS)
def test_a_text_that_is_not_in_memory_is_a_question_mark(build: Build, folder: Path, name: str) -> None:
    tracer, deed, told, silent = DEEDS[name]
    with tracing(tracer(), build) as bench:
        bench.judge_by([All()])
        pid = python(f"{PAGES}{deed}", stdout=None)
        events = [event for event, _ in bench.events() if event.pid == pid and event.return_value < 0]
    found = [event for event in events if told.items() <= event.data.items()]
    assert found, [event.data for event in events]
    assert not [event.data for event in found if not silent.isdisjoint(event.data)]


def test_a_name_that_reaches_into_a_page_that_is_not_there_is_a_question_mark(build: Build, folder: Path) -> None:
    code = f"""
with open("texts", "wb") as file:
    file.write(b"n" * 8191 + b"\\0")
with open("texts", "rb") as file:
    both = libc.mmap(None, 8192, 1, 2, file.fileno(), 0)
first = ctypes.string_at(both + 4096 - 20, 10)
drop(both + 4096)
call(263, {AT_FDCWD}, both + 4096 - 20, {UNKNOWN})
"""
    with tracing(UnlinkTracer, build) as bench:
        bench.judge_by([All()])
        pid = python(PAGES + code)
        assert [event.data["filename"] for event, _ in bench.events() if event.pid == pid] == ["?"]


RACE = """
libc.prctl(15, b"paged-out")  # PR_SET_NAME
going = True
def throw():
    while going:
        drop(name)
        drop(other)
other = page(b"secret")
thread = threading.Thread(target=throw)
thread.start()
for _ in range(int(sys.argv[1])):
    {deed}
going = False
thread.join()
"""
CALLS = 3000


@pytest.mark.parametrize(
    ("tracer", "deed", "names"),
    [
        (MkdirTracer, f"call(258, {AT_FDCWD}, name, 0o700)", {"filename": "hidden"}),
        (
            RenameTracer,
            f"call(316, {AT_FDCWD}, name, {AT_FDCWD}, other, 1)",
            {"filename": "hidden", "new_filename": "secret"},
        ),
        (UnlinkTracer, f"call(263, {AT_FDCWD}, name, 0)", {"filename": "hidden"}),
        (OpenTracer, f"call(257, {AT_FDCWD}, name, 0, 0)", {"filename": "hidden"}),
    ],
    ids=["mkdir", "rename", "unlink", "open"],
)
def test_a_page_that_is_thrown_out_during_the_call_makes_a_question_mark_or_the_name(
    build: Build, folder: Path, tracer: type[BPFTracer], deed: str, names: Mapping[str, str]
) -> None:
    with tracing(tracer, build) as bench:
        bench.judge_by([model.Test("command", "is", ("paged-out",))])
        words = f"import sys; sys.argv[1:] = ['{CALLS}']\n"
        pid = python(words + PAGES + RACE.format(deed=deed))
        events = [event for event, _ in bench.events() if event.pid == pid]
        assert bench.program.lost == 0
    about = [event for event in events if event.data["filename"] in (names["filename"], "?")]
    assert len(about) == CALLS, {event.data["filename"] for event in events}
    for field, name in names.items():
        assert {event.data[field] for event in about} <= {name, "?"}
