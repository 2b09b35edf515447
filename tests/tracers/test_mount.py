"""File systems that are mounted, changed and unmounted are told."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.event import Event
from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.mount import MountTracer, flags_text
from bpfd.tracing import probes_here
from tests.kernel.conftest import Bench
from tests.tracers.tracing import python, tracing

CALLS = """
import ctypes, os, struct
libc = ctypes.CDLL(None)
libc.unshare(0x20000)  # mounts of its own, which end with it
libc.mount(None, b'/', None, 0x40000 | 0x4000, None)
AT_FDCWD = -100
def attributes(turned_on=0, turned_off=0): return struct.pack('=QQQQ', turned_on, turned_off, 0, 0)
def tmpfs(attributes=0):
    planned = libc.syscall(430, b'tmpfs', 0)
    libc.syscall(431, planned, 1, b'source', b'scratch', 0)
    libc.syscall(431, planned, 6, None, None, 0)
    return libc.syscall(432, planned, 0, attributes)
"""
"""fsopen 430, fsconfig 431, fsmount 432, move_mount 429, open_tree 428, open_tree_attr 467, mount_setattr 442,
pivot_root 155."""


@pytest.fixture(scope="module")
def mounts(build: Build) -> Iterator[Bench]:
    with tracing(MountTracer, build) as bench:
        yield bench


@pytest.fixture(autouse=True)
def everything(mounts: Bench) -> None:
    mounts.judge_by([All()])


@pytest.fixture
def place(folder: Path) -> Path:
    """A directory to mount at, by its name relative to the working directory."""
    (folder / "place").mkdir()
    (folder / "source").mkdir()
    return folder


def told(mounts: Bench, code: str) -> list[Event]:
    """What a process did in a mount namespace of its own, which ends with it."""
    pid = python(CALLS + f"os.chdir({os.getcwd()!r})\n" + code)
    return [event for event, _ in mounts.events() if event.pid == pid][1:]  # without that of its own mounts


def test_a_file_system_that_is_mounted_and_unmounted_is_told(mounts: Bench, place: Path) -> None:
    code = "libc.mount(b'scratch', b'./place', b'tmpfs', 2 | 4, None); libc.umount2(b'place/../place', 2)"
    mounted, unmounted = told(mounts, code)
    assert (mounted.return_value, unmounted.return_value) == (0, 0)
    assert mounted.data == {
        "call": "mount",
        "source": "scratch",
        "target": "./place",
        "path": f"{place}/place",
        "fstype": "tmpfs",
        "flags": "MS_NOSUID|MS_NODEV",
    }
    assert unmounted.data == {
        "call": "umount",
        "target": "place/../place",
        "path": f"{place}/place",
        "flags": "MNT_DETACH",
    }


def test_a_bind_mount_is_told_with_both_paths(mounts: Bench, place: Path) -> None:
    bound, made_private = told(
        mounts,
        "libc.mount(b'place/../source', b'place', None, 0xC0ED0000 | 4096, None)\n"
        "libc.mount(None, b'place', None, 1 << 18, None)",
    )
    assert bound.data == {
        "call": "mount",
        "source": "place/../source",
        "source_path": f"{place}/source",
        "target": "place",
        "path": f"{place}/place",
        "flags": "MS_BIND",
    }
    assert made_private.data == {"call": "mount", "target": "place", "path": f"{place}/place", "flags": "MS_PRIVATE"}


def test_a_mount_that_is_made_in_steps_is_told_in_both(mounts: Bench, place: Path) -> None:
    made, moved = told(mounts, "libc.syscall(429, tmpfs(2 | 8), b'', AT_FDCWD, b'place', 4)")
    assert (made.return_value > 0, moved.return_value) == (True, 0)
    about = {"source": "scratch", "fstype": "tmpfs"}
    assert made.data == {"call": "fsmount", "attributes_set": "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NOEXEC", **about}
    assert moved.data == {
        "call": "move_mount",
        "target": "place",
        "path": f"{place}/place",
        "flags": "MOVE_MOUNT_F_EMPTY_PATH",
        **about,
    }


def test_a_tree_that_is_taken_and_put_elsewhere_is_told_with_where_it_is_from(mounts: Bench, place: Path) -> None:
    code = """
here = os.open('.', os.O_PATH)
tree = libc.syscall(428, here, b'source', 1 | 0o2000000)
libc.syscall(429, tree, b'', here, b'place', 4)
libc.syscall(429, AT_FDCWD, b'place', here, b'source', 0)
"""
    taken, put, again = told(mounts, code)
    assert [taken.return_value > 0, put.return_value, again.return_value] == [True, 0, 0]
    assert taken.data == {
        "call": "open_tree",
        "source": "source",
        "source_path": f"{place}/source",
        "flags": "OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC",
    }
    assert put.data["path"] == f"{place}/place"
    assert put.data["fstype"] == _fstype(place)
    assert again.data == {
        "call": "move_mount",
        "source": "place",
        "source_path": f"{place}/place",
        "target": "source",
        "path": f"{place}/source",
    }


def test_a_tree_that_is_taken_with_other_attributes_is_told_with_them(mounts: Bench, place: Path) -> None:
    code = """
here = os.open('.', os.O_PATH)
tree = libc.syscall(467, here, b'source', 1 | 0o2000000, attributes(1 | 8, 2), 32)
libc.syscall(467, AT_FDCWD, b'place', 1 | 0x8000, None, 0)
libc.syscall(467, tree, b'', 0x1000, attributes(8, 0), 31)
libc.syscall(467, AT_FDCWD, b'source', 1, ctypes.c_void_p(1), 32)
"""
    events = told(mounts, code)
    if "tracepoint:syscalls:sys_exit_open_tree_attr" not in probes_here(MountTracer)[0]:
        assert events == []  # Linux before 6.15 has no such call
        return
    taken, plain_one, too_short, unreadable = events
    assert [taken.return_value > 0, plain_one.return_value > 0] == [True, True]
    assert taken.data == {
        "call": "open_tree_attr",
        "source": "source",
        "source_path": f"{place}/source",
        "flags": "OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC",
        "attributes_set": "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOEXEC",
        "attributes_cleared": "MOUNT_ATTR_NOSUID",
    }
    assert plain_one.data == {
        "call": "open_tree_attr",
        "source": "place",
        "source_path": f"{place}/place",
        "flags": "OPEN_TREE_CLONE|AT_RECURSIVE",
    }
    assert (too_short.return_value, too_short.data["attributes_set"]) == (-errno.EINVAL, "MOUNT_ATTR_NOEXEC")
    assert (unreadable.return_value, unreadable.data["call"]) == (-errno.EFAULT, "open_tree_attr")


def test_a_mount_whose_ways_are_changed_is_told_with_what_is_turned_on_and_off(mounts: Bench, place: Path) -> None:
    code = """
libc.mount(b'scratch', b'place', b'tmpfs', 1, None)
libc.syscall(442, AT_FDCWD, b'place', 0x8000, attributes(8, 1), 32)
"""
    _, changed = told(mounts, code)
    assert changed.return_value == 0
    assert changed.data == {
        "call": "mount_setattr",
        "target": "place",
        "path": f"{place}/place",
        "flags": "AT_RECURSIVE",
        "attributes_set": "MOUNT_ATTR_NOEXEC",
        "attributes_cleared": "MOUNT_ATTR_RDONLY",
    }


def test_a_new_root_is_told(mounts: Bench, place: Path) -> None:
    code = """
libc.mount(b'scratch', b'place', b'tmpfs', 0, None)
os.mkdir('place/old')
libc.syscall(155, b'place', b'place/old')
"""
    _, pivoted = told(mounts, code)
    assert pivoted.return_value == 0
    assert {name: pivoted.data[name] for name in ("call", "source", "target")} == {
        "call": "pivot_root",
        "source": "place",
        "target": "place/old",
    }


def test_calls_that_fail_are_told_with_the_reason(mounts: Bench, place: Path) -> None:
    code = """
libc.mount(b'x', b'missing', b'tmpfs', 0, None)
libc.mount(b'x', b'place', b'nothing-such', 0, None)
libc.umount2(b'place', 0)
planned = libc.syscall(430, b'tmpfs', 0)
libc.syscall(432, planned, 0, 0)
libc.syscall(432, os.open('/etc/hostname', 0), 0, 0)
libc.syscall(432, os.open('[fscontext]', os.O_CREAT), 0, 0)
libc.syscall(429, 9999, b'', AT_FDCWD, b'place', 4)
libc.mount(b'x', ctypes.c_void_p(1), b'tmpfs', 0, None)
os.setuid(65534); libc.mount(b'x', b'/', b'tmpfs', 0, None)
"""
    missing, kind, none, planned, plain_file, called_so, no_file, unreadable, user = told(mounts, code)
    assert (missing.return_value, missing.data["path"]) == (-errno.ENOENT, f"{place}/missing")
    assert (kind.return_value, kind.data["fstype"]) == (-errno.ENODEV, "nothing-such")
    assert (none.return_value, none.data["call"]) == (-errno.EINVAL, "umount")
    assert (planned.return_value, planned.data) == (-errno.EINVAL, {"call": "fsmount", "fstype": "tmpfs"})
    assert (plain_file.return_value, plain_file.data) == (-errno.EINVAL, {"call": "fsmount"})
    assert (called_so.return_value, called_so.data) == (-errno.EINVAL, {"call": "fsmount"})
    assert (no_file.return_value, no_file.data["call"]) == (-errno.EBADF, "move_mount")
    assert "source" not in no_file.data
    assert (unreadable.return_value, unreadable.data["target"]) == (-errno.EFAULT, "?")
    assert (user.return_value, user.uid) == (-errno.EPERM, 65534)


def test_the_programs_mount_and_umount_are_seen(mounts: Bench, place: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "scratch", "place"], check=True)
    subprocess.run(["umount", "place"], check=True)
    found = [event.data for event, _ in mounts.events() if event.command in ("mount", "umount")]
    [gone] = [data for data in found if data["call"] == "umount"]
    assert gone["path"] == f"{place}/place"
    assert [data["fstype"] for data in found if data.get("path") == f"{place}/place" and "fstype" in data]


def test_a_rule_on_bind_mounts_of_a_path_is_judged_in_the_kernel(mounts: Bench, place: Path) -> None:
    (place / "near").mkdir()
    plan = mounts.judge_by([All((model.Test("source_path", "is", (f"{place}/source",)),))])
    assert not plan.inexact
    pid = python(CALLS + "for source in (b'near', b'source'): libc.mount(source, b'place', None, 4096, None)")
    assert [event.data["source"] for event, _ in mounts.events() if event.pid == pid] == ["source"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0x5000, "MS_BIND|MS_REC"),
        (1 << 32 | 0xA, "MNT_DETACH|UMOUNT_NOFOLLOW"),
        (2 << 32 | 0x200, "MOVE_MOUNT_BENEATH"),
        (0x200 | 1 << 30, "0x40000200"),
    ],
)
def test_flags_have_the_names_of_their_call(number: int, text: str) -> None:
    assert flags_text(number) == text


def _fstype(path: Path) -> str:
    words = ["findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
