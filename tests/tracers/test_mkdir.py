"""Directories that are made are told with their path and permissions."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bpfd.kernel.program import Build
from bpfd.tracers.mkdir import MkdirTracer
from tests.kernel.conftest import Bench
from tests.tracers.tracing import by, tracing

SYS_MKDIR, SYS_MKDIRAT = 83, 258
AT_FDCWD = -100
libc = ctypes.CDLL(None, use_errno=True)
call = libc.syscall


@pytest.fixture(scope="module")
def mkdirs(build: Build) -> Iterator[Bench]:
    with tracing(MkdirTracer, build) as bench:
        yield bench


@pytest.mark.parametrize(
    "make",
    [lambda name: call(SYS_MKDIR, name, 0o41750), lambda name: call(SYS_MKDIRAT, AT_FDCWD, name, 0o41750)],
    ids=["mkdir", "mkdirat"],
)
def test_each_of_the_calls_is_told_with_the_permissions_that_count(
    mkdirs: Bench, folder: Path, make: Callable[[bytes], int]
) -> None:
    assert make(b"./new/") == 0
    event = mkdirs.wait_for(by(os.getpid(), filename="./new/"))
    assert (event.return_value, event.data["path"], event.data["mode"]) == (0, f"{folder}/new", "1750")
    assert (folder / "new").stat().st_mode & 0o7777 == 0o1750 & ~_umask()


def test_a_name_relative_to_a_directory_descriptor_is_made_whole(mkdirs: Bench, folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir("/")
        os.mkdir("inner", 0o700, dir_fd=directory)
    finally:
        os.close(directory)
    event = mkdirs.wait_for(by(os.getpid(), filename="inner"))
    assert (event.data["path"], event.data["mode"]) == (f"{folder}/inner", "0700")


@pytest.mark.parametrize(("name", "code"), [("there", errno.EEXIST), ("no/such", errno.ENOENT)])
def test_a_directory_that_cannot_be_made_is_told_with_the_reason(
    mkdirs: Bench, folder: Path, name: str, code: int
) -> None:
    (folder / "there").write_text("")
    with pytest.raises(OSError, match=f"Errno {code}"):
        os.mkdir(name)
    event = mkdirs.wait_for(by(os.getpid(), filename=name))
    assert (event.return_value, event.data["path"]) == (-code, f"{folder}/{name}")


def test_a_file_that_is_made_is_none(mkdirs: Bench, folder: Path) -> None:
    mkdirs.events()
    (folder / "file").write_text("")
    os.mkfifo("fifo")
    os.mkdir("directory")
    assert [event.data["filename"] for event, _ in mkdirs.events() if event.pid == os.getpid()] == ["directory"]


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
