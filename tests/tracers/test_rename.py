"""Files that are renamed or moved are told with both names."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.tracers.rename import RenameTracer
from tests.kernel.conftest import Bench
from tests.tracers.tracing import by, tracing

SYS_RENAME, SYS_RENAMEAT, SYS_RENAMEAT2 = 82, 264, 316
AT_FDCWD = -100
libc = ctypes.CDLL(None, use_errno=True)
call = libc.syscall


@pytest.fixture(scope="module")
def renames(build: Build) -> Iterator[Bench]:
    with tracing(RenameTracer, build) as bench:
        yield bench


@pytest.mark.parametrize(
    ("rename", "flags"),
    [
        (lambda old, new: call(SYS_RENAME, old, new), None),
        (lambda old, new: call(SYS_RENAMEAT, AT_FDCWD, old, AT_FDCWD, new), None),
        (lambda old, new: call(SYS_RENAMEAT2, AT_FDCWD, old, AT_FDCWD, new, 1), "RENAME_NOREPLACE"),
        (lambda old, new: os.rename(old, new) or 0, None),
    ],
    ids=["rename", "renameat", "renameat2", "libc"],
)
def test_each_of_the_calls_is_told_with_both_names_and_its_flags(
    renames: Bench, folder: Path, rename: Callable[[bytes, bytes], int], flags: str | None
) -> None:
    (folder / "sub").mkdir()
    (folder / "old").write_text("")
    assert rename(b"./old", bytes(folder) + b"/sub/../sub//new") == 0
    event = renames.wait_for(by(os.getpid(), filename="./old"))
    assert event.return_value == 0
    assert event.data.get("flags") == flags
    assert event.data["path"] == f"{folder}/old"
    assert event.data["new_filename"] == f"{folder}/sub/../sub//new"
    assert event.data["new_path"] == f"{folder}/sub/new"


def test_names_relative_to_directory_descriptors_are_made_whole(renames: Bench, folder: Path) -> None:
    for name in ("from", "to"):
        (folder / name).mkdir()
    (folder / "from" / "file").write_text("")
    before, after = (os.open(name, os.O_RDONLY | os.O_DIRECTORY) for name in ("from", "to"))
    try:
        os.rename("file", "moved", src_dir_fd=before, dst_dir_fd=after)
    finally:
        os.close(before)
        os.close(after)
    event = renames.wait_for(by(os.getpid(), filename="file"))
    assert (event.data["path"], event.data["new_path"]) == (f"{folder}/from/file", f"{folder}/to/moved")


def test_a_rename_that_fails_is_told_with_the_reason(renames: Bench, folder: Path) -> None:
    (folder / "there").write_text("")
    with pytest.raises(FileNotFoundError):
        os.rename("missing", "new")
    event = renames.wait_for(by(os.getpid(), filename="missing"))
    assert (event.return_value, event.data["new_path"]) == (-errno.ENOENT, f"{folder}/new")
    assert call(SYS_RENAMEAT2, AT_FDCWD, b"there", AT_FDCWD, b"there", 8 | 2) == -1
    event = renames.wait_for(by(os.getpid(), filename="there"))
    assert (event.return_value, event.data["flags"]) == (-errno.EINVAL, "RENAME_EXCHANGE|0x8")
    assert call(SYS_RENAMEAT, 9999, b"there", AT_FDCWD, b"new") == -1
    event = renames.wait_for(by(os.getpid(), filename="there"))
    assert (event.return_value, event.data["path"]) == (-errno.EBADF, "?/there")


def test_a_name_that_cannot_be_read_is_a_question_mark(renames: Bench, folder: Path) -> None:
    assert call(SYS_RENAME, b"old", ctypes.c_void_p(1)) == -1
    event = renames.wait_for(by(os.getpid(), filename="old"))
    assert (event.return_value, event.data["new_filename"]) == (-errno.EFAULT, "?")


def test_a_directory_that_moves_away_under_the_process_has_its_new_place(renames: Bench, folder: Path) -> None:
    (folder / "here").mkdir()
    code = "import os; os.chdir('here'); os.rename('../here', '../there'); os.rename('missing', 'x')"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    process.wait()
    event = renames.wait_for(by(process.pid, filename="missing"))
    assert event.data["path"] == f"{folder}/there/missing"


def test_a_rule_on_the_new_path_is_judged_in_the_kernel_and_others_stay_there(renames: Bench, folder: Path) -> None:
    for name in ("one", "two"):
        (folder / name).write_text("")
    plan = renames.judge_by([model.Test("new_path", "is", (f"{folder}/wanted",))])
    assert not plan.inexact
    os.rename("one", "near")
    os.rename("two", "wanted")
    told = [event.data["filename"] for event, _ in renames.events() if event.pid == os.getpid()]
    assert told == ["two"]
