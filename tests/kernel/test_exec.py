"""Programs that are started, whichever way, are told with what they were asked for."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfd.event import Event
from bpfd.kernel.record import WALK
from bpfd.rules import model
from bpfd.rules.model import All, Any
from tests.kernel.conftest import Bench


@pytest.fixture(autouse=True)
def quiet(execs: Bench) -> None:
    execs.events()


def of(pid: int, result: int = 0) -> Callable[[Event], bool]:
    return lambda event: (event.pid, event.return_value) == (pid, result)


def python(code: str, **options: object) -> int:
    """Run Python code in a process of its own; its pid."""
    process = subprocess.Popen([sys.executable, "-c", code], **options)  # type: ignore[call-overload]
    process.wait()
    return int(process.pid)


def started(execs: Bench, words: list[str], **options: object) -> Event:
    process = subprocess.Popen(words, **options)  # type: ignore[call-overload]
    process.wait()
    return execs.wait_for(of(process.pid))


def test_a_program_is_told_with_its_arguments_directory_and_parent(execs: Bench, folder: Path) -> None:
    event = started(execs, ["/bin/true", "one", "two words", ""])
    assert event.command == "true"
    assert event.data["filename"] == "/bin/true"
    assert event.data["argv"] == "/bin/true one two words "
    assert event.data["cwd"] == str(folder)
    assert event.data["path"] == os.path.realpath("/bin/true")
    assert event.data["parent"] == Path("/proc/self/comm").read_text().strip()
    assert (event.ppid, event.uid, event.tid) == (os.getpid(), 0, event.pid)


@pytest.mark.parametrize(
    ("name", "mode", "code"),
    [("nothing", None, errno.ENOENT), ("plain", 0o644, errno.EACCES), ("no-format", 0o755, errno.ENOEXEC)],
)
def test_a_program_that_does_not_start_is_told_with_the_reason(
    execs: Bench, folder: Path, name: str, mode: int | None, code: int
) -> None:
    if mode is not None:
        (folder / name).write_text("no program\n")
        (folder / name).chmod(mode)
    pid = python(f"import os\ntry: os.execv('./{name}', ['a', 'b c'])\nexcept OSError: pass")
    event = execs.wait_for(of(pid, -code))
    assert event.data["filename"] == f"./{name}"
    assert event.data["argv"] == "a b c"
    assert "path" not in event.data
    assert event.command.startswith("python")


def test_a_program_in_memory_is_told_by_the_name_of_its_memory(execs: Bench) -> None:
    code = (
        "import os; m = os.memfd_create('evil'); os.write(m, open('/bin/true', 'rb').read()); os.execve(m, ['x'], {})"
    )
    pid = python(code)
    event = execs.wait_for(lambda event: event.pid == pid and event.data.get("argv") == "x")
    assert event.data["path"] == "/memfd:evil"
    assert event.data["filename"].startswith("/dev/fd/")


def test_a_program_started_by_a_thread_is_told_as_the_process(execs: Bench) -> None:
    code = "import os, threading; threading.Thread(target=os.execv, args=('/bin/true', ['true', 'thread'])).start()"
    pid = python(code)
    event = execs.wait_for(lambda event: event.data.get("argv") == "true thread")
    assert (event.pid, event.tid) == (pid, pid)


def test_a_script_is_told_with_the_interpreter_that_runs(execs: Bench, folder: Path) -> None:
    (folder / "script").write_text("#!/bin/sh\nexit 0\n")
    (folder / "script").chmod(0o755)
    event = started(execs, ["./script", "word"])
    assert event.command == "script"
    assert event.data["filename"] == "./script"
    assert event.data["path"] == os.path.realpath("/bin/sh")
    assert event.data["argv"] == "/bin/sh ./script word"


def test_a_script_is_told_with_its_interpreter_as_it_names_it_and_a_program_with_none(
    execs: Bench, folder: Path
) -> None:
    (folder / "shell").symlink_to("/bin/sh")
    (folder / "inner").write_text(f"#!{folder}/shell\nexit 0\n")
    (folder / "outer").write_text("#!./inner -e\n")
    for name in ("inner", "outer"):
        (folder / name).chmod(0o755)
        event = started(execs, [f"./{name}"])
        assert event.data["interpreter"] == f"{folder}/shell"
        assert event.data["path"] == os.path.realpath("/bin/sh")
    assert "interpreter" not in started(execs, ["/bin/sh", "./inner"]).data
    pid = python("import os\ntry: os.execv('./none', ['x'])\nexcept OSError: pass")
    assert "interpreter" not in execs.wait_for(of(pid, -errno.ENOENT)).data


def copy_that_goes(place: Path, when: str) -> int:
    """Run a copy of a program that is removed `when` (before it starts, or after); its pid."""
    copy = place / "program"
    shutil.copy("/bin/true", copy)
    remove = f"os.unlink('{copy}'); "
    return python(
        f"import os; d = os.open('{copy}', os.O_RDONLY); "
        + (remove if when == "before" else "")
        + "os.execve(d, ['gone'], {})"
    )


def test_a_program_in_memory_or_removed_is_fileless_and_another_is_not(execs: Bench, folder: Path) -> None:
    def of_gone(pid: int) -> Event:
        return execs.wait_for(lambda event: event.pid == pid and event.data.get("argv") in ("gone", "x"))

    memory = "import os; m = os.memfd_create('a'); os.write(m, open('/bin/true', 'rb').read()); os.execve(m, ['x'], {})"
    assert of_gone(python(memory)).data["fileless"] == "true"
    assert of_gone(copy_that_goes(folder, "before")).data["fileless"] == "true"
    assert "fileless" not in of_gone(copy_that_goes(folder, "after")).data
    shared = Path(f"/dev/shm/bpfd-{os.getpid()}")
    shutil.copy("/bin/true", shared)
    try:
        assert "fileless" not in started(execs, [str(shared)]).data
    finally:
        shared.unlink()
    os.link("program", "another-name")
    assert "fileless" not in of_gone(copy_that_goes(folder, "before")).data, "it has another name"


def test_a_rule_on_fileless_programs_is_decided_by_the_kernel(execs: Bench, folder: Path) -> None:
    plan = execs.judge_by([model.Test("fileless", "is", ("true",))])
    try:
        assert not plan.inexact
        started_here = [copy_that_goes(folder, when) for when in ("after", "before")]
        assert [event.pid for event, _ in execs.events() if event.pid in started_here] == started_here[1:]
    finally:
        execs.judge_by([Any((All(), model.Test("ancestors", "exists")))])  # as before: everything, with ancestors


def test_the_ancestors_are_told_up_to_pid_1(execs: Bench) -> None:
    with subprocess.Popen(["/bin/sh", "-c", "/bin/true & echo $!; wait"], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
    event = execs.wait_for(lambda event: event.pid == pid and event.command == "true")
    expected, number = ["sh"], os.getpid()
    while number and len(expected) < 16:
        expected.append(Path(f"/proc/{number}/comm").read_text().rstrip("\n"))
        number = int(Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2].split()[1])
    assert number == 0, "the test has more ancestors than are told"
    assert event.data["ancestors"] == " ".join(expected)
    pid = python("import os\ntry: os.execv('/nothing', ['x'])\nexcept OSError: pass")
    assert execs.wait_for(of(pid, -errno.ENOENT)).data["ancestors"] == " ".join(expected[1:])


def test_a_hundred_arguments_and_four_kibibytes_are_whole(execs: Bench) -> None:
    words = ["/bin/true", *(f"{number:040d}" for number in range(110))]
    event = started(execs, words)
    assert event.data["argv"] == " ".join(words)
    assert "argv_truncated" not in event.data


@pytest.mark.parametrize("fails", [False, True])
def test_arguments_that_are_too_long_are_marked_as_cut(execs: Bench, fails: bool) -> None:
    words = ["/bin/true", *("x" * 100 for _ in range(200))]
    if fails:
        pid = python(f"import os\ntry: os.execv('/nothing', {words!r})\nexcept OSError: pass")
        event = execs.wait_for(of(pid, -errno.ENOENT))
    else:
        event = started(execs, words)
    assert event.data["argv_truncated"] == "true"
    assert event.data["argv"].endswith("…")
    assert " ".join(words).startswith(event.data["argv"][:-1])
    assert len(event.data["argv"]) > 8000


def test_hostile_bytes_in_arguments_arrive(execs: Bench) -> None:
    event = started(execs, ["/bin/true", "a\nb\x1b[31m", os.fsdecode(b"\xff\xfe")])
    assert event.data["argv"] == "/bin/true a\nb\x1b[31m \udcff\udcfe"


def test_the_user_is_the_one_who_called(execs: Bench) -> None:
    event = started(execs, ["/bin/true"], user=65534, group=65534)
    assert (event.uid, event.gid) == (65534, 65534)


def test_a_directory_that_was_removed_still_has_its_name(execs: Bench, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    pid = python(f"import os; os.chdir('{gone}'); os.rmdir('{gone}'); os.execv('/bin/true', ['true'])")
    event = execs.wait_for(lambda event: event.pid == pid and event.command == "true")
    assert event.data["cwd"] == str(gone)


def test_every_one_of_many_failed_calls_is_told(execs: Bench) -> None:
    pid = python(
        "import os\nfor number in range(100):\n  try: os.execv(f'/nothing-{number}', ['x'])\n  except OSError: pass"
    )
    names = [event.data["filename"] for event, _ in execs.events() if event.pid == pid and event.return_value < 0]
    assert names[-100:] == [f"/nothing-{number}" for number in range(100)]


def test_one_argument_that_is_too_long_is_marked_as_cut(execs: Bench) -> None:
    for length, cut in ((8191, False), (8192, True), (30_000, True)):
        pid = python(f"import os\ntry: os.execv('/nothing', ['x' * {length}])\nexcept OSError: pass")
        argv = execs.wait_for(of(pid, -errno.ENOENT)).data["argv"]
        assert argv == ("x" * 8191 + "…" if cut else "x" * length)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 300, 512, 600])
def test_empty_arguments_are_counted_up_to_more_than_the_kernel_judges(execs: Bench, count: int) -> None:
    pid = python(f"import os\ntry: os.execv('/nothing', ['x', *[''] * {count}])\nexcept OSError: pass")
    data = execs.wait_for(of(pid, -errno.ENOENT)).data
    marked = "argv_truncated" in data
    assert data["argv"].startswith("x" + " " * min(count, WALK))
    assert marked == (count >= WALK)
    assert not marked or len(data["argv"]) > WALK


def test_an_argument_that_cannot_be_read_is_a_question_mark(execs: Bench) -> None:
    code = """
import ctypes
words = (ctypes.c_char_p * 4)(b'one', None, b'three', None)
ctypes.cast(words, ctypes.POINTER(ctypes.c_void_p))[1] = 1
ctypes.CDLL(None).execve(b'/bin/true', words, None)
"""
    pid = python(code)
    assert execs.wait_for(of(pid, -errno.EFAULT)).data["argv"] == "one ? three"


def test_a_call_without_arguments_or_name_is_told(execs: Bench) -> None:
    pid = python("import ctypes; ctypes.CDLL(None).execve(ctypes.c_void_p(1), None, None)")
    data = execs.wait_for(of(pid, -errno.EFAULT)).data
    assert (data["filename"], data["argv"]) == ("?", "")


def test_a_descriptor_that_is_no_program_is_told_with_the_reason(execs: Bench, folder: Path) -> None:
    (folder / "data").write_text("no program")
    (folder / "data").chmod(0o755)
    code = "import os; d = os.open('data', 0)\ntry: os.execve(d, ['by descriptor'], {})\nexcept OSError: pass"
    pid = python(code)
    event = execs.wait_for(of(pid, -errno.ENOEXEC))
    assert event.data["argv"] == "by descriptor"
    assert event.data["cwd"] == str(folder)


def test_a_thread_whose_call_fails_is_told_as_the_thread(execs: Bench) -> None:
    code = """
import os, threading
def call():
    print(threading.get_native_id(), flush=True)
    try: os.execv('/nothing', ['x'])
    except OSError: pass
thread = threading.Thread(target=call)
thread.start()
thread.join()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        tid = int(process.stdout.readline())
    event = execs.wait_for(of(process.pid, -errno.ENOENT))
    assert (event.pid, event.tid) == (process.pid, tid)
    assert tid != process.pid


def test_hostile_bytes_arrive_from_a_call_that_fails_too(execs: Bench) -> None:
    pid = python(
        "import os\ntry: os.execv(b'/no\\n\\xff', [b'a\\n\\x1b[31m', b'', b'\\xff\\xfe'])\nexcept OSError: pass"
    )
    data = execs.wait_for(of(pid, -errno.ENOENT)).data
    assert data["filename"] == "/no\n\udcff"
    assert data["argv"] == "a\n\x1b[31m  \udcff\udcfe"


def test_a_deep_working_directory_keeps_its_end_and_says_that_it_is_cut(execs: Bench, folder: Path) -> None:
    code = """
import os
for number in range(80):
    os.mkdir(f'd{number}')
    os.chdir(f'd{number}')
os.execv('/bin/true', ['deep'])
"""
    pid = python(code)
    cwd = execs.wait_for(lambda event: event.pid == pid and event.command == "true").data["cwd"]
    assert cwd.startswith(".../d")
    assert cwd.endswith("/d78/d79")


def test_the_parent_is_the_one_at_that_moment(execs: Bench) -> None:
    """A shell that stays, named after its script's file, and a child of its own."""
    with subprocess.Popen(["/bin/sh", "-c", "/bin/true & echo $!; wait"], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
    event = execs.wait_for(lambda event: event.pid == pid and event.command == "true")
    assert (event.ppid, event.parent, event.data["parent"]) == (shell.pid, "sh", "sh")


def test_parents_and_ancestors_are_named_after_the_process_whatever_its_thread_is_called(execs: Bench) -> None:
    """A worker of a server starts a program; the worker's thread has a name of its own."""
    code = """
import ctypes, os, threading
become = lambda name: ctypes.CDLL(None).prctl(15, name, 0, 0, 0)

def work():
    become(b"worker")
    os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", "/bin/true; exit"], {}), 0)

become(b"server")
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    pid = python(code)
    events = [event for event, _ in execs.events()]
    [shell] = [event for event in events if event.ppid == pid]
    [program] = [event for event in events if event.ppid == shell.pid]
    assert (shell.parent, shell.data["parent"], shell.ancestors.split()[0]) == ("server",) * 3
    assert program.ancestors.split()[:2] == ["sh", "server"]


def test_it_is_told_how_long_the_parent_had_run(execs: Bench) -> None:
    """It began before its child, and after this test."""
    began = time.monotonic_ns()
    shell = subprocess.Popen(["sh", "-c", "/bin/true; exit"])
    shell.wait()
    took = time.monotonic_ns() - began
    event = execs.wait_for(lambda event: event.ppid == shell.pid)
    assert event.duration < int(event.data["parent_duration"]) < took
