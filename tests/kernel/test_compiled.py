"""What was compiled once is not compiled again, and nothing else is ever taken for it."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bpfd.errors import LoadError
from bpfd.kernel import child, compiled, install, loader, program
from bpfd.kernel.compiled import Compiled, Kept, MapSpec
from bpfd.kernel.program import Build, Program, Spec

PROBE = "TRACEPOINT_PROBE(syscalls, sys_enter_getpgid) {\n  bpfd_begin();\n  return 0;\n}\n"
SPEC = Spec("mine", Path(), (), ("tracepoint:syscalls:sys_enter_getpgid",), 65536)


READ_OF_EITHER, READ_USER = 4, 112
"""BPF_FUNC_probe_read and BPF_FUNC_probe_read_user (include/uapi/linux/bpf.h)."""
MAP = {"name": "m", "type": 2, "key_size": 4, "value_size": 4, "max_entries": 1, "flags": 0}


class Asked:
    """Counts what the loader's child is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jobs: list[Mapping[str, Any]] = []
        ask = child.ask

        def counted(name: str, job: Mapping[str, Any], given_up: Callable[[], bool]) -> tuple[Any, list[int]]:
            self.jobs.append(job)
            return ask(name, job, given_up)

        monkeypatch.setattr(child, "ask", counted)

    @property
    def compiled(self) -> list[bool]:
        return [job["compile"] for job in self.jobs]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


@pytest.fixture
def own(build: Build, tmp_path: Path) -> Build:
    """The same headers in a folder where nothing was compiled yet."""
    (tmp_path / build.headers.name).symlink_to(build.headers)
    return replace(build, headers=tmp_path / build.headers.name)


def written(tmp_path: Path, text: str = PROBE) -> Spec:
    path = tmp_path / "mine.c"
    path.write_text('#include "filter.h"\n' + text)
    return replace(SPEC, program=path)


def seen(running: Program) -> int:
    """What it saw of our calls; it is closed."""
    before = running.seen
    os.getpgid(0)
    after = running.seen
    running.close()
    return after - before


def kept(own: Build) -> list[Path]:
    return list((own.headers.parent / compiled.FOLDER).iterdir())


def test_a_program_is_compiled_once_and_works_each_time(tmp_path: Path, own: Build, asked: Asked) -> None:
    spec = written(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    assert [seen(program.load(spec, own)) for _ in range(3)] == [1, 1, 1]
    assert asked.compiled == [True]
    assert set(os.listdir("/proc/self/fd")) <= before
    (path,) = kept(own)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_the_process_whose_events_are_left_out_is_that_of_each_load(tmp_path: Path, own: Build, asked: Asked) -> None:
    spec = written(tmp_path)
    builds = [own, replace(own, self_pid=os.getpid()), replace(own, self_pid=1)]
    assert [seen(program.load(spec, one)) for one in builds] == [1, 0, 1]
    assert asked.compiled == [True]


@pytest.mark.parametrize("helpers", ["as made", "none", "not understood"])
def test_a_process_memory_is_read_the_same_way_whatever_is_known_of_the_kernels_symbols(
    helpers: str, tmp_path: Path, build: Build
) -> None:
    tree = tmp_path / "headers"
    shutil.copytree(build.headers, tree)
    if helpers == "none":
        (tree / loader.HELPERS).unlink()
    elif helpers == "not understood":
        (tree / loader.HELPERS).write_text("all of them\n")
    reads = "u64 word;\n  bpf_probe_read_user(&word, 8, (void *)args->pid);\n  return word;"
    spec = written(tmp_path, PROBE.replace("return 0;", reads))
    job = {**program._job(spec, replace(build, headers=tree), 0), "compile": True}
    answer, _ = child.ask("mine", job, lambda: False)
    code = compiled.from_answer(answer).functions["tracepoint__syscalls__sys_enter_getpgid"]
    called = {struct.unpack_from("=i", code, at + 4)[0] for at in range(0, len(code), 8) if code[at] == install.CALL}
    assert READ_USER in called
    assert READ_OF_EITHER not in called


def test_another_text_is_another_program(tmp_path: Path, own: Build, asked: Asked) -> None:
    program.load(written(tmp_path), own).close()
    twice = PROBE.replace("bpfd_begin();", "bpfd_begin();\n  bpfd_begin();")
    assert seen(program.load(written(tmp_path, twice), own)) == 2
    program.load(replace(written(tmp_path), ring_bytes=1 << 17), own).close()
    assert asked.compiled == [True] * 3


@pytest.mark.parametrize("harm", ["cut", "changed", "empty", "no program", "others may write"])
def test_a_kept_program_that_is_not_as_it_was_written_is_compiled_anew(
    harm: str, tmp_path: Path, own: Build, asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    spec = written(tmp_path)
    program.load(spec, own).close()
    (path,) = kept(own)
    good = path.read_bytes()
    if harm == "others may write":
        path.chmod(0o666)
    else:
        harmed = {"cut": good[:-9], "changed": good.replace(b"A", b"B", 1), "empty": b"", "no program": b"x\n[]"}
        path.write_bytes(harmed[harm])
    assert seen(program.load(spec, own)) == 1
    assert asked.compiled == [True, True]
    assert f"{path}: is not used: " in caplog.text
    assert path.read_bytes() == good


def test_where_nothing_can_be_kept_programs_are_compiled_each_time(
    tmp_path: Path, own: Build, asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    (own.headers.parent / compiled.FOLDER).write_text("in the way")
    assert [seen(program.load(written(tmp_path), own)) for _ in range(2)] == [1, 1]
    assert asked.compiled == [True, True]
    assert "compiled programs cannot be kept" in caplog.text


def test_what_only_bcc_can_load_is_left_to_it(tmp_path: Path, own: Build, asked: Asked) -> None:
    spec = written(tmp_path, "BPF_PERF_OUTPUT(other);\n" + PROBE)
    assert [seen(program.load(spec, own)) for _ in range(2)] == [1, 1]
    assert asked.compiled == [True, False, False]


def test_what_the_compiler_refuses_is_kept_from_nobody(tmp_path: Path, own: Build, asked: Asked) -> None:
    for _ in range(2):
        with pytest.raises(LoadError, match="undeclared identifier 'nonsense'"):
            program.load(written(tmp_path, PROBE.replace("return 0", "return nonsense")), own)
    assert asked.compiled == [True, True]


def test_only_so_many_programs_are_kept_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MOST_KEPT", 3)
    kept = Kept(tmp_path)
    for number in range(5):
        kept.write(f"{number}", Compiled((), {"f": bytes(8)}))
        os.utime(tmp_path / compiled.FOLDER / f"{number}", (number, number))
    assert [kept.read(f"{number}") is not None for number in range(5)] == [False, False, True, True, True]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"maps": [], "functions": {"f": "AAAA"}},
        {"maps": [], "functions": {"f": "no base64!"}},
        {"maps": [{"name": "m"}], "functions": {}},
        {"maps": [{**MAP, "type": -1}], "functions": {}},
        {"maps": [{**MAP, "type": "1"}], "functions": {}},
    ],
)
def test_what_is_no_program_is_not_taken_for_one(answer: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        compiled.from_answer(json.loads(json.dumps(answer)))


def test_a_program_that_cannot_be_put_into_the_kernel_leaves_nothing_behind() -> None:
    array = MapSpec("m", 2, 4, 8, 1, 0)
    bad = [
        Compiled((array, replace(array, name="n", type=4)), {}),
        Compiled((array, replace(array, name="huge", max_entries=0)), {}),
        Compiled((array,), {"strange__f": bytes(8)}),
        Compiled((array,), {"tracepoint__syscalls__sys_enter_getpgid": bytes(8)}),
    ]
    before = set(os.listdir("/proc/self/fd"))
    for one in bad:
        with pytest.raises((OSError, install.CannotInstallError)):
            install.install(one, "tracepoint", 0)
        assert set(os.listdir("/proc/self/fd")) <= before
