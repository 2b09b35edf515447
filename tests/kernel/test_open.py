"""Files that are opened, whichever way, are told with the path of the file really opened."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfd.event import Event
from bpfd.rules.model import All
from tests.kernel.conftest import Bench

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the system calls are x86-64's")
SYS_OPEN, SYS_CREAT, SYS_OPENAT2 = 2, 85, 437
AT_FDCWD = -100
libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(autouse=True)
def everything(opens: Bench) -> None:
    opens.judge_by([All()])


def of(name: str | bytes) -> Callable[[Event], bool]:
    text = os.fsdecode(name) if isinstance(name, bytes) else name
    return lambda event: event.pid == os.getpid() and event.data["filename"] == text


def opened(opens: Bench, name: str | bytes, flags: int = os.O_RDONLY, **options: int) -> Event:
    os.close(os.open(name, flags, **options))
    return opens.wait_for(of(name))


def test_the_path_is_that_of_the_file_whichever_way_it_is_reached(opens: Bench, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "file").write_text("")
    (folder / "link").symlink_to("file")
    (folder / "dir-link").symlink_to("sub")
    for name in (
        "file",
        "./file",
        "sub/../file",
        "link",
        "dir-link/../file",
        f"/proc/self/root{folder}/file",
        f"//{folder}//file",
    ):
        assert opened(opens, name).data["path"] == str(folder / "file"), name


def test_a_name_relative_to_a_directory_descriptor_is_made_whole(opens: Bench, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "inner").write_text("")
    directory = os.open("sub", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert opened(opens, "inner", dir_fd=directory).data["path"] == f"{folder}/sub/inner"
        with pytest.raises(FileNotFoundError):
            os.open("../missing", os.O_RDONLY, dir_fd=directory)
        assert opens.wait_for(of("../missing")).data["path"] == f"{folder}/missing"
    finally:
        os.close(directory)


def test_a_failed_open_has_the_path_that_was_meant_and_the_error(opens: Bench, folder: Path) -> None:
    for name, path in (
        ("missing", f"{folder}/missing"),
        ("./a/../b", f"{folder}/b"),
        ("/no/such//file", "/no/such/file"),
    ):
        with pytest.raises(FileNotFoundError):
            os.open(name, os.O_RDONLY)
        event = opens.wait_for(of(name))
        assert (event.return_value, event.data["path"]) == (-errno.ENOENT, path)


@pytest.mark.parametrize(
    ("call", "flags", "mode"),
    [
        (lambda name: libc.syscall(SYS_OPEN, name, os.O_RDWR | os.O_CREAT, 0o640), "O_RDWR|O_CREAT", "0640"),
        (lambda name: libc.syscall(SYS_CREAT, name, 0o600), "O_WRONLY|O_CREAT|O_TRUNC", "0600"),
        (
            lambda name: libc.syscall(SYS_OPENAT2, AT_FDCWD, name, how(os.O_CREAT | os.O_EXCL, 0o644), 24),
            "O_RDONLY|O_CREAT|O_EXCL",
            "0644",
        ),
        (
            lambda name: os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            "O_WRONLY|O_APPEND|O_CLOEXEC|O_CREAT",
            "0600",
        ),
    ],
    ids=["open", "creat", "openat2", "openat"],
)
def test_each_of_the_calls_is_told_with_its_flags_and_mode(
    opens: Bench, folder: Path, call: Callable[[bytes], int], flags: str, mode: str
) -> None:
    descriptor = call(b"made")
    assert descriptor >= 0
    os.close(descriptor)
    event = opens.wait_for(of("made"))
    assert (event.return_value, event.data["flags"], event.data["mode"]) == (descriptor, flags, mode)
    assert event.data["path"] == f"{folder}/made"


def how(flags: int, mode: int) -> ctypes.Array[ctypes.c_uint64]:
    """struct open_how of openat2(2)."""
    return (ctypes.c_uint64 * 3)(flags, mode, 0)


def test_a_mode_is_told_only_where_a_file_may_be_made(opens: Bench) -> None:
    os.close(os.open("/etc/hostname", os.O_RDONLY, 0o777))
    assert opens.wait_for(of("/etc/hostname")).data["mode"] == "0000"


def test_a_bind_mount_has_its_path_and_its_origin(opens: Bench, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "file").write_text("")
    subprocess.run(["mount", "--bind", str(source), str(target)], check=True)
    try:
        event = opened(opens, f"{target}/file")
    finally:
        subprocess.run(["umount", str(target)], check=True)
    assert event.data["path"] == f"{target}/file"
    assert event.data["origin"] == f"{source}/file"
    assert "origin" not in opened(opens, f"{source}/file").data


def test_a_chroot_does_not_hide_where_the_file_is(opens: Bench, tmp_path: Path) -> None:
    (tmp_path / "inside").write_text("")
    code = f"import os; os.chroot('{tmp_path}'); os.open('/inside', os.O_RDONLY)"
    process = subprocess.Popen(["python3", "-c", code])
    process.wait()
    event = opens.wait_for(lambda event: event.pid == process.pid and event.data["filename"] == "/inside")
    assert event.data["path"] == f"{tmp_path}/inside"


def test_another_mount_is_crossed(opens: Bench) -> None:
    assert opened(opens, "/proc/self/status").data["path"] == f"/proc/{os.getpid()}/status"


def test_a_file_without_a_name_is_told_by_its_directory(opens: Bench, folder: Path) -> None:
    event = opened(opens, str(folder), os.O_TMPFILE | os.O_RDWR)
    assert event.data["flags"].startswith("O_RDWR|O_TMPFILE")
    assert event.data["path"].startswith(f"{folder}/")


def test_a_path_deeper_than_is_walked_keeps_its_end_and_says_that_it_is_cut(opens: Bench, folder: Path) -> None:
    before = os.open(".", os.O_RDONLY)
    try:
        for number in range(80):
            os.mkdir(f"d{number}")
            os.chdir(f"d{number}")
        Path("leaf").write_text("")
        event = opened(opens, "leaf")
        path = event.data["path"]
        assert path.startswith(".../d")
        assert path.endswith("/d78/d79/leaf")
    finally:
        os.fchdir(before)
        os.close(before)


@pytest.mark.parametrize("name", [b"n" * 255, b"\xff\xfe", b"line\nbreak", "é".encode()])
def test_long_and_hostile_names_are_whole(opens: Bench, folder: Path, name: bytes) -> None:
    event = opened(opens, name, os.O_CREAT | os.O_RDONLY)
    assert os.fsencode(event.data["path"]) == bytes(folder) + b"/" + name


def test_a_name_that_cannot_be_read_is_a_question_mark(opens: Bench) -> None:
    assert libc.syscall(SYS_OPEN, ctypes.c_void_p(1), os.O_RDONLY, 0) == -1
    event = opens.wait_for(lambda event: event.pid == os.getpid() and event.return_value == -errno.EFAULT)
    assert event.data["filename"] == "?"


def test_a_name_of_four_kilobytes_is_whole(opens: Bench, folder: Path) -> None:
    name = "./" * 2000 + "missing"
    with pytest.raises(FileNotFoundError):
        os.open(name, os.O_RDONLY)
    event = opens.wait_for(of(name))
    assert event.data["path"] == f"{folder}/missing"
