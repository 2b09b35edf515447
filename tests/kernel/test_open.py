"""Files that are opened, whichever way, are told with the path of the file really opened."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bpfd.event import Event
from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules.model import All, Not
from bpfd.tracers.open import OpenTracer, flags_text
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


@pytest.mark.parametrize(
    ("flags", "allowed"),
    [
        (os.O_RDONLY, "reads"),
        (os.O_RDONLY | os.O_APPEND | os.O_CLOEXEC, "reads"),
        (os.O_WRONLY, "writes"),
        (os.O_RDWR, "reads writes"),
        (os.O_ACCMODE, "writes"),  # open(2): it asks for both permissions, and gives neither
        (os.O_RDONLY | os.O_CREAT, "reads writes creates"),
        (os.O_WRONLY | os.O_CREAT, "writes creates"),
        (os.O_RDONLY | os.O_TRUNC, "reads writes"),
        (os.O_PATH, ""),
        (os.O_PATH | os.O_RDWR | os.O_CREAT | os.O_TRUNC, ""),  # open(2): with O_PATH they are ignored
    ],
)
def test_what_the_flags_let_the_file_be_is_said_and_judged_by_the_kernel(
    opens: Bench, folder: Path, flags: int, allowed: str
) -> None:
    (folder / "file").write_text("")
    asked = how(flags, 0)

    def told(name: bytes, field: str) -> list[str]:
        made = [
            libc.syscall(SYS_OPEN, name, flags, 0),
            libc.openat(AT_FDCWD, name, flags, 0),
            # openat2(2) takes no flags that make no sense
            -1 if flags & os.O_PATH else libc.syscall(SYS_OPENAT2, AT_FDCWD, name, asked, 24),
        ]
        for descriptor in made:
            if descriptor >= 0:
                os.close(descriptor)
        return [event.data.get(field, "false") for event, _ in opens.events() if of(name)(event)]

    for field in ("reads", "writes", "creates"):
        right = "true" if field in allowed.split() else "false"
        rule = model.Test(field, "is", (right,))
        for name in (b"file", b"nothing/at-all"):
            assert not opens.judge_by([rule]).inexact
            assert told(name, field) == [right] * (2 if flags & os.O_PATH else 3)
            opens.judge_by([Not(rule)])
            assert told(name, field) == []


def test_what_the_opened_file_is_is_said_and_judged_by_the_kernel(opens: Bench, folder: Path) -> None:
    (folder / "file").write_text("")
    (folder / "link").symlink_to("file")
    os.mkfifo("pipe")
    os.mknod("disk", 0o600 | stat.S_IFBLK, os.makedev(7, 200))
    door = socket.socket(socket.AF_UNIX)
    door.bind("door")
    door.close()
    types = {
        "file": ("regular", 0),
        ".": ("directory", 0),
        "/dev/null": ("character", 0),
        "pipe": ("fifo", os.O_NONBLOCK),
        "disk": ("block", os.O_PATH),
        "door": ("socket", os.O_PATH),
        "link": ("symlink", os.O_PATH | os.O_NOFOLLOW),
    }

    def told() -> list[tuple[str, str]]:
        opens.events()
        for name, (_, flags) in types.items():
            os.close(os.open(name, flags))
        with pytest.raises(FileNotFoundError):
            os.open("missing", os.O_RDONLY)
        names = {*types, "missing"}
        mine = [event.data for event, _ in opens.events() if event.pid == os.getpid()]
        return [(data["filename"], data.get("file_type", "")) for data in mine if data["filename"] in names]

    everything = [*((name, kind) for name, (kind, _) in types.items()), ("missing", "")]
    assert told() == everything
    for _, kind in everything[:-1]:
        rule = model.Test("file_type", "is", (kind,))
        plan = opens.judge_by([rule])
        assert not plan.inexact
        assert told() == [one for one in everything if one[1] == kind]
        opens.judge_by([Not(rule)])
        assert told() == [one for one in everything if one[1] != kind]


def test_a_link_that_is_followed_is_what_it_leads_to(opens: Bench, folder: Path) -> None:
    (folder / "link").symlink_to("/dev/zero")
    assert opened(opens, "link").data["file_type"] == "character"


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
    with bound(source, target):
        event = opened(opens, f"{target}/file")
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


def test_a_failed_open_inside_a_chroot_has_the_path_outside_of_it(opens: Bench, tmp_path: Path) -> None:
    code = f"import os; os.chroot('{tmp_path}')\ntry: os.open('/missing', os.O_RDONLY)\nexcept OSError: pass"
    process = subprocess.Popen(["python3", "-c", code])
    process.wait()
    event = opens.wait_for(lambda event: event.pid == process.pid and event.data["filename"] == "/missing")
    assert event.data["path"] == f"{tmp_path}/missing"


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


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("nothing/", "{folder}/nothing"),
        ("nothing/.", "{folder}/nothing"),
        ("", "{folder}"),
        ("//no//such/", "/no/such"),
        ("///no", "/no"),
        ("/..", "/"),
    ],
)
def test_a_failed_name_is_made_whole_and_plain_and_rules_go_by_that(
    opens: Bench, folder: Path, name: str, path: str
) -> None:
    path = path.format(folder=folder)
    opens.judge_by([model.Test("path", "is", (path,))])
    with pytest.raises(OSError, match=r"\[Errno"):
        os.open(name, os.O_WRONLY | os.O_DIRECTORY)
    assert opens.wait_for(of(name)).data["path"] == path


def test_a_name_relative_to_no_directory_says_so(opens: Bench) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.open("./name", os.O_RDONLY, dir_fd=9999)
    event = opens.wait_for(of("./name"))
    assert (event.return_value, event.data["path"]) == (-errno.EBADF, "?/name")


@pytest.mark.parametrize("length", [4000, 4093, 4094, 4095, 4096, 5000])
def test_the_longest_names_have_a_path_whole_up_to_what_is_kept(opens: Bench, folder: Path, length: int) -> None:
    name = ("a/" * length)[: length - 1] + "b"
    for start, whole in (("", f"{folder}/"), ("/", "")):
        asked = (start + name)[:length]
        with pytest.raises(OSError, match=r"\[Errno"):
            os.open(asked, os.O_RDONLY)
        kept = asked[:4095]
        assert opens.wait_for(of(kept)).data["path"] == (whole + kept).removesuffix("/")


def test_a_file_in_memory_is_told_by_the_name_of_its_memory(opens: Bench) -> None:
    memory = os.memfd_create("hidden")
    try:
        event = opened(opens, f"/proc/self/fd/{memory}", os.O_RDWR)
    finally:
        os.close(memory)
    assert event.data["path"] == "/memfd:hidden"
    assert "origin" not in event.data


def test_a_pipe_or_a_namespace_is_told_by_its_kind_and_not_as_the_root(opens: Bench) -> None:
    reader, writer = os.pipe()
    try:
        assert opened(opens, f"/proc/self/fd/{reader}").data["path"] == "/pipefs"
    finally:
        os.close(reader)
        os.close(writer)
    assert opened(opens, "/proc/self/ns/net").data["path"] == "/nsfs"
    assert opened(opens, "/").data["path"] == "/"


def test_a_file_that_was_removed_still_has_its_path(opens: Bench, folder: Path) -> None:
    (folder / "gone").write_text("")
    kept = os.open("gone", os.O_RDONLY)
    try:
        (folder / "gone").unlink()
        assert opened(opens, f"/proc/self/fd/{kept}").data["path"] == f"{folder}/gone"
    finally:
        os.close(kept)


def test_a_single_file_that_is_mounted_elsewhere_has_its_path_and_its_origin(opens: Bench, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("")
    (tmp_path / "target").write_text("")
    with bound(tmp_path / "source", tmp_path / "target"):
        opens.events()
        event = opened(opens, f"{tmp_path}/target")
    assert event.data["path"] == f"{tmp_path}/target"
    assert event.data["origin"] == f"{tmp_path}/source"


def test_a_rule_on_the_path_finds_the_file_by_its_origin_and_not_keeps_it_out_by_either(
    opens: Bench, tmp_path: Path
) -> None:
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "file").write_text("")
    with bound(tmp_path / "source", tmp_path / "target"):
        for path in ("source/file", "target/file"):
            rule = model.Test("path", "is", (f"{tmp_path}/{path}",))
            opens.judge_by([rule])
            event = opened(opens, f"{tmp_path}/target/file")
            opens.judge_by([All((Not(rule), model.Test("filename", "prefix", (str(tmp_path),))))])
            os.close(os.open(f"{tmp_path}/target/file", os.O_RDONLY))
            os.close(os.open(f"{tmp_path}/source", os.O_RDONLY))
            [other] = [event.data["filename"] for event, _ in opens.events() if event.pid == os.getpid()]
            assert (event.data["filename"], other) == (f"{tmp_path}/target/file", f"{tmp_path}/source")


def test_a_mount_inside_a_chroot_is_crossed_up_to_the_real_root(opens: Bench, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "mnt").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "inside").write_text("")
    with bound(tmp_path / "data", root / "mnt"):
        code = f"import os; os.chroot('{root}'); os.chdir('/mnt'); os.open('inside', os.O_RDONLY)"
        process = subprocess.Popen(["python3", "-c", code])
        process.wait()
    event = opens.wait_for(lambda event: event.pid == process.pid and event.data["filename"] == "inside")
    assert event.data["path"] == f"{root}/mnt/inside"
    assert event.data["origin"] == f"{tmp_path}/data/inside"


def test_a_failed_openat2_is_told_with_what_was_asked(opens: Bench, folder: Path) -> None:
    asked = how(os.O_RDWR | os.O_EXCL, 0)
    assert libc.syscall(SYS_OPENAT2, AT_FDCWD, b"missing", asked, 24) == -1
    event = opens.wait_for(of("missing"))
    assert (event.return_value, event.data["path"]) == (-errno.ENOENT, f"{folder}/missing")
    assert event.data["flags"] == "O_RDWR|O_EXCL"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (0, "O_RDONLY"),
        (os.O_WRONLY | os.O_SYNC, "O_WRONLY|O_SYNC"),
        (os.O_WRONLY | os.O_DSYNC, "O_WRONLY|O_DSYNC"),
        (os.O_RDWR | os.O_TMPFILE, "O_RDWR|O_TMPFILE"),
        (os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, "O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_PATH"),
        (3, "O_ACCMODE"),
        (1 << 31, "O_RDONLY|0x80000000"),
    ],
)
def test_flags_are_written_as_a_program_would(flags: int, text: str) -> None:
    assert flags_text(flags) == text


@contextlib.contextmanager
def bound(source: Path, target: Path) -> Iterator[None]:
    """`source` mounted at `target` meanwhile."""
    subprocess.run(["mount", "--bind", str(source), str(target)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_events_of_the_moment_in_which_the_program_is_loaded_are_whole(build: Build, folder: Path) -> None:
    """The probes are attached before all that they call is in place."""
    (folder / "file").write_text("")
    code = "import os\nwhile True: os.close(os.open('file', os.O_RDONLY | os.O_CLOEXEC))"
    busy = subprocess.Popen([sys.executable, "-c", code], cwd=folder)
    try:
        bench = Bench(OpenTracer, build)
        time.sleep(0.1)
    finally:
        busy.kill()  # before the ring is read: it would never be empty
        busy.wait()
    events = [event for event, _, _ in bench.records() if event.pid == busy.pid]
    bench.close()
    opened = [event for event in events if event.data["filename"] == "file"]
    assert len(opened) > 100
    assert {(event.data["path"], event.data["flags"]) for event in opened} == {
        (str(folder / "file"), "O_RDONLY|O_CLOEXEC")
    }
