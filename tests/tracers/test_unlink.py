"""Files and directories that are removed are told with their path."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.unlink import UnlinkTracer
from tests.kernel.conftest import Bench
from tests.tracers.tracing import by, python, tracing

SYS_RMDIR, SYS_UNLINK, SYS_UNLINKAT = 84, 87, 263
AT_FDCWD, AT_REMOVEDIR = -100, 0x200
libc = ctypes.CDLL(None, use_errno=True)
call = libc.syscall


@pytest.fixture(scope="module")
def unlinks(build: Build) -> Iterator[Bench]:
    with tracing(UnlinkTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(unlinks: Bench) -> None:
    unlinks.judge_by([All()])


@pytest.mark.parametrize(
    ("remove", "make", "flags"),
    [
        (lambda name: call(SYS_UNLINK, name), Path.touch, None),
        (lambda name: call(SYS_UNLINKAT, AT_FDCWD, name, 0), Path.touch, None),
        (lambda name: call(SYS_UNLINKAT, AT_FDCWD, name, AT_REMOVEDIR), Path.mkdir, "AT_REMOVEDIR"),
        (lambda name: call(SYS_RMDIR, name), Path.mkdir, "AT_REMOVEDIR"),
    ],
    ids=["unlink", "unlinkat", "unlinkat-removedir", "rmdir"],
)
def test_each_of_the_calls_is_told_with_what_was_removed(
    unlinks: Bench, folder: Path, remove: Callable[[bytes], int], make: Callable[[Path], None], flags: str | None
) -> None:
    make(folder / "gone")
    assert remove(b"././gone") == 0
    event = unlinks.wait_for(by(os.getpid(), filename="././gone"))
    assert (event.return_value, event.data["path"]) == (0, f"{folder}/gone")
    assert event.data.get("flags") == flags


def test_a_name_relative_to_a_directory_descriptor_is_made_whole(unlinks: Bench, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_text("")
    directory = os.open("sub", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.unlink("file", dir_fd=directory)
    finally:
        os.close(directory)
    assert unlinks.wait_for(by(os.getpid(), filename="file")).data["path"] == f"{folder}/sub/file"


@pytest.mark.parametrize(
    ("name", "code"),
    [("missing", errno.ENOENT), ("full", errno.EISDIR), ("file/inner", errno.ENOTDIR)],
)
def test_a_removal_that_fails_is_told_with_the_reason(unlinks: Bench, folder: Path, name: str, code: int) -> None:
    (folder / "full").mkdir()
    (folder / "file").write_text("")
    with pytest.raises(OSError, match=f"Errno {code}"):
        os.unlink(name)
    event = unlinks.wait_for(by(os.getpid(), filename=name))
    assert (event.return_value, event.data["path"]) == (-code, f"{folder}/{name}")


@pytest.mark.parametrize("directory", [-1, 1 << 20])
def test_a_name_that_starts_from_no_directory_is_not_taken_to_start_from_the_working_one(
    unlinks: Bench, folder: Path, directory: int
) -> None:
    assert call(SYS_UNLINKAT, directory, b"here", 0) == -1
    event = unlinks.wait_for(by(os.getpid(), filename="here"))
    assert (event.return_value, event.data["path"]) == (-errno.EBADF, "?/here")


def test_a_directory_that_is_not_empty_stays_and_is_told(unlinks: Bench, folder: Path) -> None:
    (folder / "full" / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match="not empty"):
        os.rmdir("full")
    event = unlinks.wait_for(by(os.getpid(), filename="full"))
    assert (event.return_value, event.data["flags"]) == (-errno.ENOTEMPTY, "AT_REMOVEDIR")


def test_inside_a_chroot_the_path_is_that_outside(unlinks: Bench, tmp_path: Path) -> None:
    (tmp_path / "inside").write_text("")
    pid = python(f"import os; os.chroot('{tmp_path}'); os.unlink('/inside')")
    event = unlinks.wait_for(by(pid, filename="/inside"))
    assert (event.return_value, event.data["path"]) == (0, f"{tmp_path}/inside")


def test_a_link_in_the_name_is_not_followed(unlinks: Bench, folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "real" / "file").write_text("")
    (folder / "link").symlink_to("real")
    os.unlink("link/file")
    assert unlinks.wait_for(by(os.getpid(), filename="link/file")).data["path"] == f"{folder}/link/file"


def test_what_is_overwritten_by_a_rename_or_made_is_not_told(unlinks: Bench, folder: Path) -> None:
    (folder / "a").write_text("")
    (folder / "b").write_text("")
    unlinks.events()
    os.rename("a", "b")
    os.truncate("b", 0)
    os.unlink("b")
    told = [event.data["filename"] for event, _ in unlinks.events() if event.pid == os.getpid()]
    assert told == ["b"]


def test_a_rule_on_the_path_goes_by_the_plain_path_however_it_is_written(unlinks: Bench, folder: Path) -> None:
    unlinks.judge_by([model.Test("path", "is", (f"{folder}/wanted",))])
    for name in ("near", "wanted"):
        (folder / name).write_text("")
        os.unlink(f"{folder}/./{name}")
    event = unlinks.wait_for(by(os.getpid(), filename=f"{folder}/./wanted"))
    assert event.data["path"] == f"{folder}/wanted"
