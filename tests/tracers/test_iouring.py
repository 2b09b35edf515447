"""What is done through io_uring is told, past the system calls that others watch."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.event import Event
from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.iouring import IouringTracer, operations
from bpfd.tracers.unlink import UnlinkTracer
from tests.kernel.conftest import Bench
from tests.tracers.ring import SQPOLL, Ring
from tests.tracers.tracing import tracing

AT_FDCWD, AT_REMOVEDIR = -100, 0x200
NOP, OPENAT, STATX, READ, WRITE, OPENAT2 = 0, 18, 21, 22, 23, 28
RENAMEAT, UNLINKAT, MKDIRAT, SYMLINKAT, LINKAT = 35, 36, 37, 38, 39
FIXED_FILE = 1
libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(scope="module")
def rings(build: Build) -> Iterator[Bench]:
    with tracing(IouringTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(rings: Bench) -> None:
    rings.judge_by([All()])


@pytest.fixture
def ring() -> Iterator[Ring]:
    with Ring() as made:
        yield made


def told(rings: Bench) -> list[Event]:
    """The tests' own requests."""
    return [event for event, _ in rings.events() if event.pid == os.getpid() and event.data["action"] != "create"]


def submitted(rings: Bench) -> Event:
    """The only request, in its submission."""
    [event] = [event for event in told(rings) if event.data["action"] == "submit"]
    return event


def test_an_open_is_told_when_it_is_asked_for_and_with_its_result(rings: Bench, ring: Ring, folder: Path) -> None:
    (folder / "file").write_text("")
    rings.events()
    descriptor = ring.do(OPENAT, AT_FDCWD, b"./file", operation_flags=os.O_RDWR | os.O_CLOEXEC, tag=4711)
    os.close(descriptor)
    asked, done = told(rings)
    assert asked.data == {
        "action": "submit",
        "operation": "OPENAT",
        "filename": "./file",
        "path": f"{folder}/file",
        "flags": "O_RDWR|O_CLOEXEC|0x8000",  # O_LARGEFILE, which the kernel adds
        "request": "4711",
    }
    assert done.data == {"action": "complete", "operation": "OPENAT", "request": "4711"}
    assert (done.return_value, asked.tid) == (descriptor, os.getpid())


def test_the_tracer_of_system_calls_does_not_see_it_but_this_one_does(
    rings: Bench, ring: Ring, build: Build, folder: Path
) -> None:
    (folder / "secret").mkdir()
    with tracing(UnlinkTracer, build) as unlinks:
        unlinks.judge_by([All()])
        assert ring.do(UNLINKAT, AT_FDCWD, b"secret", operation_flags=AT_REMOVEDIR) == 0
        assert not [event for event, _ in unlinks.events() if event.data["filename"] == "secret"]
    assert submitted(rings).data["filename"] == "secret"


def test_an_open_that_fails_is_told_with_the_reason(rings: Bench, ring: Ring, folder: Path) -> None:
    how = struct.pack("=QQQ", os.O_WRONLY | os.O_EXCL, 0, 0)
    assert ring.do(OPENAT2, AT_FDCWD, b"no/../such", len(how), how) == -errno.ENOENT
    asked, done = told(rings)
    assert (asked.data["path"], done.return_value) == (f"{folder}/such", -errno.ENOENT)
    assert asked.data["flags"].startswith("O_WRONLY|O_EXCL")


@pytest.mark.parametrize(
    ("operation", "name", "options"),
    [
        (UNLINKAT, "UNLINKAT", {}),
        (MKDIRAT, "MKDIRAT", {"length": 0o700}),
        (STATX, "STATX", {"length": 0x7FF, "offset": bytes(256)}),
    ],
)
def test_operations_on_a_name_are_told_with_its_path(
    rings: Bench, ring: Ring, folder: Path, operation: int, name: str, options: dict[str, int | bytes]
) -> None:
    (folder / "sub").mkdir()
    if operation != MKDIRAT:
        (folder / "sub" / "thing").write_text("")
    directory = os.open("sub", os.O_RDONLY | os.O_DIRECTORY)
    try:
        rings.events()
        assert ring.do(operation, directory, b"thing", **options) == 0  # type: ignore[arg-type]
    finally:
        os.close(directory)
    data = submitted(rings).data
    assert (data["operation"], data["filename"], data["path"]) == (name, "thing", f"{folder}/sub/thing")
    assert "flags" not in data


@pytest.mark.parametrize(("operation", "name"), [(RENAMEAT, "RENAMEAT"), (LINKAT, "LINKAT")])
def test_operations_on_two_names_are_told_with_both_paths(
    rings: Bench, ring: Ring, folder: Path, operation: int, name: str
) -> None:
    (folder / "old").write_text("")
    assert ring.do(operation, AT_FDCWD, b"old", AT_FDCWD & 0xFFFFFFFF, b"./new") == 0
    data = submitted(rings).data
    assert (data["operation"], data["filename"], data["new_filename"]) == (name, "old", "./new")
    assert (data["path"], data["new_path"]) == (f"{folder}/old", f"{folder}/new")


def test_a_link_is_told_with_what_it_says_and_where_it_is(rings: Bench, ring: Ring, folder: Path) -> None:
    assert ring.do(SYMLINKAT, AT_FDCWD, b"../target", offset=b"link") == 0
    data = submitted(rings).data
    assert (data["filename"], data["new_filename"], data["new_path"]) == ("../target", "link", f"{folder}/link")
    assert "path" not in data


def test_operations_on_a_descriptor_are_told_with_its_file(rings: Bench, ring: Ring, folder: Path) -> None:
    with (folder / "file").open("w+b") as file:
        assert ring.do(WRITE, file.fileno(), b"text", 4) == 4
        data = submitted(rings).data
        assert (data["operation"], data["path"]) == ("WRITE", f"{folder}/file")
        assert "filename" not in data
        assert ring.do(READ, 9999, b"text", 4) == -errno.EBADF
        assert "path" not in submitted(rings).data
        assert ring.do(READ, file.fileno(), b"text", 4, flags=FIXED_FILE) == -errno.EBADF
        assert "path" not in submitted(rings).data


def test_a_ring_that_is_made_is_told_with_its_size_and_ways(rings: Bench) -> None:
    with Ring(SQPOLL) as ring:
        [made] = [event for event, _ in rings.events() if event.pid == os.getpid()]
        assert made.data == {"action": "create", "entries": "8", "setup_flags": "IORING_SETUP_SQPOLL"}
        assert made.return_value == ring.fd


def test_a_request_that_the_kernel_polls_for_is_told_as_the_programs(rings: Bench, folder: Path) -> None:
    (folder / "file").write_text("")
    with Ring(SQPOLL) as ring:
        rings.events()
        os.close(ring.do(OPENAT, AT_FDCWD, b"file"))
    event = submitted(rings)
    assert (event.data["polled"], event.data["path"]) == ("true", f"{folder}/file")
    assert event.command.startswith("iou-sqp-")
    assert event.tid != os.getpid()


def test_an_operation_without_a_file_has_no_path(rings: Bench, ring: Ring) -> None:
    assert ring.do(NOP) == 0
    assert submitted(rings).data == {"action": "submit", "operation": "NOP"}


def test_an_operation_that_there_is_not_is_refused_before_it_is_submitted(rings: Bench, ring: Ring) -> None:
    assert ring.do(200) == -errno.EINVAL
    assert [event.data["action"] for event in told(rings)] == ["complete"]


def test_a_rule_on_opens_of_a_path_is_judged_in_the_kernel(rings: Bench, ring: Ring, folder: Path) -> None:
    for name in ("near", "wanted"):
        (folder / name).write_text("")
    rule = All((model.Test("operation", "prefix", ("OPENAT",)), model.Test("path", "is", (f"{folder}/wanted",))))
    plan = rings.judge_by([rule])
    assert not plan.inexact
    for name in (b"near", b"wanted"):
        os.close(ring.do(OPENAT, AT_FDCWD, name))
    assert ring.do(STATX, AT_FDCWD, b"wanted", 0x7FF, bytes(256)) == 0
    assert [event.data["operation"] for event in told(rings)] == ["OPENAT"]


def test_every_operation_of_this_kernel_has_a_name() -> None:
    names = operations()
    assert (names[0], names[OPENAT], names[OPENAT2]) == ("NOP", "OPENAT", "OPENAT2")
    assert sorted(names) == list(range(len(names)))
    data = {"action": "submit", "operation": "28", "flags": "O_RDONLY"}
    IouringTracer.settle(data, 0)
    assert data == {"action": "submit", "operation": "OPENAT2", "flags": "O_RDONLY"}
