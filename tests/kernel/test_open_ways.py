"""Files that are opened by other ways than the usual calls are told as those are."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.event import Event
from bpfd.rules import model
from bpfd.rules.model import All, Not
from tests.kernel.conftest import Bench
from tests.tracers.ring import SQPOLL, Ring

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the system calls are x86-64's")
AT_FDCWD = -100
SYS_OPEN, SYS_CREAT, SYS_OPENAT2 = 2, 85, 437
NOP, OPENAT, STATX, OPENAT2 = 0, 18, 21, 28
CQE_SKIP_SUCCESS = 1 << 6
RESULTS = 16
"""How many results a ring of 8 requests has room for."""
MOST_NAMES = 1024
"""Room of the map asked_of in open.c."""
libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(autouse=True)
def everything(opens: Bench) -> None:
    opens.judge_by([All()])


@pytest.fixture(params=[0, SQPOLL], ids=["by call", "polled"])
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    with Ring(request.param) as made:
        yield made


def told(opens: Bench, *names: str) -> list[Event]:
    """The tests' own opens of these names."""
    return [event for event, _ in opens.events() if event.pid == os.getpid() and event.data["filename"] in names]


def how(flags: int, mode: int) -> ctypes.Array[ctypes.c_uint64]:
    """struct open_how of openat2(2)."""
    return (ctypes.c_uint64 * 3)(flags, mode, 0)


def handle_of(path: Path) -> ctypes.Array[ctypes.c_char]:
    """What name_to_handle_at(2) calls the file."""
    handle = ctypes.create_string_buffer(8 + 128)
    struct.pack_into("=Ii", handle, 0, 128, 0)
    assert libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), handle, ctypes.byref(ctypes.c_int()), 0) == 0
    return handle


def test_every_call_is_named_and_judged_by_its_name(opens: Bench, folder: Path) -> None:
    asked, handle = how(os.O_RDONLY, 0), ctypes.create_string_buffer(8)

    def call_all() -> list[str]:
        opens.events()
        os.close(os.open("made", os.O_CREAT))
        os.close(libc.syscall(SYS_OPENAT2, AT_FDCWD, b"made", asked, 24))
        os.close(libc.syscall(SYS_OPEN, b"made", os.O_RDONLY, 0))
        os.close(libc.syscall(SYS_CREAT, b"made", 0o600))
        libc.open_by_handle_at(-1, handle, os.O_RDONLY)
        with Ring() as ring:
            os.close(ring.do(OPENAT, AT_FDCWD, b"made"))
        return [event.data["via"] for event in told(opens, "made", "")]

    ways = ["openat", "openat2", "open", "creat", "open_by_handle_at", "io_uring"]
    assert call_all() == ways
    for way in ways:
        rule = model.Test("via", "is", (way,))
        assert not opens.judge_by([rule]).inexact
        assert call_all() == [way]
        opens.judge_by([Not(rule)])
        assert call_all() == [other for other in ways if other != way]


def test_a_file_is_known_by_its_number_and_device_whatever_it_is_called(opens: Bench, folder: Path) -> None:
    (folder / "file").write_text("")
    (folder / "other").write_text("")
    os.link("file", "link")
    status = (folder / "file").stat()
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    rule = All((model.Test("inode", "is", (str(status.st_ino),)), model.Test("device", "is", (device,))))
    assert not opens.judge_by([rule]).inexact
    for name in ("file", "link", "other", "/dev/null"):
        os.close(os.open(name, os.O_RDONLY))
    assert [(event.data["filename"], event.data["inode"], event.data["device"]) for event, _ in opens.events()] == [
        ("file", str(status.st_ino), device),
        ("link", str(status.st_ino), device),
    ]


@pytest.mark.parametrize("device", ["8", "8:", ":1", "8:01", "x:y", "8:1:1", "99999999999:0", "-1:0", "8:1048576"])
def test_what_is_no_device_is_none_to_the_kernel_either(opens: Bench, device: str) -> None:
    assert not opens.judge_by([model.Test("device", "is", (device,))]).inexact
    os.close(os.open("/dev/null", os.O_RDONLY))
    assert opens.events() == []


def test_a_failed_open_has_no_number_and_no_device(opens: Bench, folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        os.open("missing", os.O_RDONLY)
    [event] = told(opens, "missing")
    assert event.data.keys().isdisjoint({"inode", "device", "file_type"})


def test_a_file_opened_by_its_handle_is_told_with_its_path(opens: Bench, folder: Path) -> None:
    (folder / "secret").write_text("")
    handle = handle_of(folder / "secret")
    opens.judge_by([model.Test("path", "is", (f"{folder}/secret",))])
    mount = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        descriptor = libc.open_by_handle_at(mount, handle, os.O_RDWR | os.O_CLOEXEC)
        os.close(descriptor)
    finally:
        os.close(mount)
    [event] = told(opens, "")
    wanted = {"path": f"{folder}/secret", "flags": "O_RDWR|O_CLOEXEC", "writes": "true", "file_type": "regular"}
    assert wanted.items() <= event.data.items()
    assert event.return_value == descriptor


def test_a_handle_that_leads_nowhere_is_told_with_the_reason_and_no_path(opens: Bench, folder: Path) -> None:
    handle = handle_of(folder)
    assert libc.open_by_handle_at(-1, handle, os.O_RDONLY) == -1
    [event] = told(opens, "")
    assert (event.return_value, event.data["path"]) == (-errno.EBADF, "")


def test_an_open_by_io_uring_is_told_with_the_file_really_opened(opens: Bench, ring: Ring, folder: Path) -> None:
    (folder / "secret").write_text("")
    (folder / "harmless").symlink_to("secret")
    status = (folder / "secret").stat()
    opens.judge_by([model.Test("path", "is", (f"{folder}/secret",))])
    descriptor = ring.do(OPENAT, AT_FDCWD, b"./harmless", operation_flags=os.O_RDWR | os.O_CLOEXEC)
    os.close(descriptor)
    assert ring.do(STATX, AT_FDCWD, b"secret", 0x7FF, bytes(256)) == 0  # opens nothing
    [event] = told(opens, "./harmless", "secret")
    assert event.return_value == descriptor
    assert event.data == {
        "filename": "./harmless",
        "path": f"{folder}/secret",
        "flags": "O_RDWR|O_CLOEXEC",
        "reads": "true",
        "writes": "true",
        "file_type": "regular",
        "inode": str(status.st_ino),
        "device": f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}",
        "via": "io_uring",
        "mode": "0000",
    }


def test_an_open_by_io_uring_that_fails_or_makes_a_file_is_told(opens: Bench, ring: Ring, folder: Path) -> None:
    (folder / "sub").mkdir()
    directory = os.open("sub", os.O_RDONLY | os.O_DIRECTORY)
    asked = bytes(how(os.O_WRONLY | os.O_EXCL | os.O_CREAT, 0o640))
    try:
        os.close(ring.do(OPENAT2, directory, b"made", len(asked), asked))
        assert ring.do(OPENAT2, directory, b"../sub/./made", len(asked), asked) == -errno.EEXIST
    finally:
        os.close(directory)
    made, failed = told(opens, "made", "../sub/./made")
    assert (made.data["path"], made.data["mode"]) == (f"{folder}/sub/made", "0640")
    assert made.data["flags"] == failed.data["flags"] == "O_WRONLY|O_CREAT|O_EXCL"
    assert (failed.return_value, failed.data["path"]) == (-errno.EEXIST, f"{folder}/sub/made")


def test_an_open_by_io_uring_whose_result_finds_no_room_is_told_all_the_same(opens: Bench, folder: Path) -> None:
    (folder / "secret").write_text("")
    (folder / "harmless").symlink_to("secret")
    with Ring() as ring:
        for number in range(RESULTS):
            ring.submit(NOP, tag=number)
        ring.submit(OPENAT, AT_FDCWD, b"harmless", tag=4711)
        event = opens.wait_for(lambda event: event.data["filename"] == "harmless")
        os.close(event.return_value)
    assert event.data["path"] == f"{folder}/secret"


def test_a_silent_open_by_io_uring_is_told_when_it_is_asked_for(opens: Bench, folder: Path) -> None:
    (folder / "secret").write_text("")
    with Ring() as ring:
        ring.submit(OPENAT, AT_FDCWD, b"./secret", flags=CQE_SKIP_SUCCESS)
        [event] = told(opens, "./secret")
        assert (event.return_value, event.data["path"]) == (0, f"{folder}/secret")
        [opened] = [one for one in os.listdir("/proc/self/fd") if _leads_to(one) == f"{folder}/secret"]
        os.close(int(opened))


def _leads_to(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def test_a_file_opened_into_the_rings_own_table_is_told_by_its_name(opens: Bench, folder: Path) -> None:
    (folder / "secret").write_text("")
    with Ring() as ring:
        ring.register_files(4)
        assert ring.do(OPENAT, AT_FDCWD, b"./secret", slot=2) == 0
        [event] = told(opens, "./secret")
    assert (event.return_value, event.data["path"]) == (0, f"{folder}/secret")
    assert "inode" not in event.data


def test_of_very_many_opens_that_wait_at_once_some_are_told_without_their_names_and_counted(
    opens: Bench, folder: Path
) -> None:
    """Opens of a pipe wait until somebody is at its other end; names have room for 1,024."""
    os.mkfifo("pipe")
    opens.judge_by([model.Test("via", "is", ("io_uring",))])
    before = opens.program.own_count(0)
    with Ring(results=2048) as ring:
        for number in range(MOST_NAMES + 6):
            # With O_CREAT the kernel does not try it at once
            ring.submit(OPENAT, AT_FDCWD, b"pipe", operation_flags=os.O_RDONLY | os.O_CREAT, tag=number)
        other_end = os.open("pipe", os.O_RDWR)
        for _ in range(MOST_NAMES + 6):
            os.close(ring.take())
        os.close(other_end)
    told = [event for event, _ in opens.events() if event.pid == os.getpid()]
    assert len(told) == MOST_NAMES + 6
    assert sum(event.data["filename"] == "?" for event in told) == opens.program.own_count(0) - before == 6
    assert {event.data["path"] for event in told} == {f"{folder}/pipe"}
