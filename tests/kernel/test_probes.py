"""Programs attach to tracepoints, raw tracepoints and functions of programs, and their rules are judged alike."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfd.errors import LoadError
from bpfd.kernel import program
from bpfd.kernel.elf import DYNSYM, find_function
from bpfd.kernel.follow import followed
from bpfd.kernel.program import Build, Spec
from bpfd.plugin import BPFTracer, Field
from bpfd.rules.model import Test as Clause
from tests.kernel.conftest import Bench

START = '#include "filter.h"\n'
EMIT = """
static int told(void *context, long number) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  e->number = number;
  bpfd_kernel_string(e, name, bpf_get_current_task_btf()->comm);
  return bpfd_submit(context, e);
}
"""
RAW = "RAW_TRACEPOINT_PROBE(sched_process_exit) { return told(ctx, 7); }\n"
RETURN = "int uretprobe__twice(struct pt_regs *ctx) { return told(ctx, PT_REGS_RC(ctx)); }\n"
BEGIN = "int uprobe__twice(struct pt_regs *ctx) { return told(ctx, PT_REGS_PARM1(ctx)); }\n"
PROGRAM = """
#include <stdlib.h>
__attribute__((noinline)) int twice(int n) { return 2 * n; }
int main(int count, char **words) { return twice(atoi(words[1])); }
"""

Make = Callable[..., type[BPFTracer]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A tracer of C text and probes."""

    def tracer(text: str, *probes: str) -> type[BPFTracer]:
        path = tmp_path / "mine.c"
        path.write_text(START + EMIT + text)
        fields = (Field("name", "", length=16), Field("number", "", type="s64"))
        return type("Mine", (BPFTracer,), {"name": "mine", "fields": fields, "program": path, "probes": probes})

    return tracer


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("double")
    (place / "double.c").write_text(PROGRAM)
    subprocess.run(["gcc", "-O1", "-o", place / "double", place / "double.c"], check=True)
    return place / "double"


def spec(tracer: type[BPFTracer]) -> Spec:
    return Spec(tracer.name, tracer.program, tracer.fields, tracer.probes, tracer.ring_bytes)


def run(*words: str | Path) -> int:
    process = subprocess.Popen(words)
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    "clause", [Clause("name", "is", ("true",)), Clause("number", "above", (6,))], ids=["text", "number"]
)
def test_a_raw_tracepoints_events_are_judged_by_the_rules(make: Make, build: Build, clause: Clause) -> None:
    with closing(Bench(make(RAW, "raw_tracepoint:sched_process_exit"), build)) as bench:
        bench.judge_by([clause])
        pid = run("true")
        event = bench.wait_for(lambda event: event.pid == pid)
        assert event.data == {"name": "true", "number": "7"}
        bench.judge_by([Clause("name", "is", ("nothing",))])
        passed = bench.program.passed
        run("true")
        assert bench.program.passed == passed


def test_a_tracepoint_and_a_raw_one_are_told_by_one_tracer_and_judged_by_the_same_rules(
    make: Make, build: Build
) -> None:
    text = RAW + "TRACEPOINT_PROBE(syscalls, sys_exit_getpgid) { return told(args, args->ret); }\n"
    probes = ("tracepoint:syscalls:sys_exit_getpgid", "raw_tracepoint:sched_process_exit")
    code = "import os; os.getpgid(0)"
    with closing(Bench(make(text, *probes), build)) as bench:
        for clause, wanted in (
            (Clause("number", "is", ("7",)), [7]),
            (Clause("number", "above", ("0",)), [None, 7]),
            (Clause("name", "prefix", ("python",)), [None, 7]),
            (Clause("name", "is", ("nothing",)), []),
        ):
            bench.judge_by([clause])
            pid = run(sys.executable, "-c", code)
            found = [int(event.data["number"]) for event, _ in bench.events() if event.pid == pid]
            assert len(found) == len(wanted)
            assert found[-1:] == wanted[-1:]


def test_where_tracepoints_of_both_kinds_are_refused_the_verifiers_words_are_told(make: Make, build: Build) -> None:
    bad = "TRACEPOINT_PROBE(syscalls, sys_exit_getpgid) { *(volatile long *)args = 1; return 0; }\n"
    probes = ("tracepoint:syscalls:sys_exit_getpgid", "raw_tracepoint:sched_process_exit")
    with pytest.raises(LoadError, match=r"the kernel does not take its programs: (.|\n)*invalid bpf_context access"):
        program.load(spec(make(RAW + bad, *probes)), build)


def test_a_functions_begin_and_return_are_told(make: Make, build: Build, double: Path) -> None:
    with closing(Bench(make(BEGIN + RETURN, f"uprobe:{double}:twice", f"uretprobe:{double}:twice"), build)) as bench:
        bench.judge_by([Clause("number", "above", (20,))])
        pids = [run(double, "21"), run(double, "8")]
        found = [(event.pid, event.command, event.data["number"]) for event, _ in bench.events()]
        assert found == [(pids[0], "double", "21"), (pids[0], "double", "42")]


def test_nothing_is_attached_any_more_after_the_close(make: Make, build: Build, double: Path) -> None:
    bench = Bench(make(BEGIN, f"uprobe:{double}:twice"), build)
    bench.judge_by([Clause("number", "above", (0,))])
    bench.close()
    assert run(double, "3") > 0
    assert [name for name in os.listdir("/proc/self/fd") if _leads_to(name) == str(double)] == []


def _leads_to(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("text", "probes", "said"),
    [
        (RAW, ("raw_tracepoint:sched_process_exits",), "this kernel has no raw_tracepoint:sched_process_exits"),
        (BEGIN, ("uprobe:/nothing:twice",), "uprobe:/nothing:twice: cannot be attached: No such file or directory"),
        (BEGIN, ("uprobe:{double}:thrice",), "uprobe:{double}:thrice: the program has no function uprobe__thrice"),
        (BEGIN.replace("twice", "none"), ("uprobe:{double}:none",), '"{double}" has no function "none"'),
        (
            BEGIN,
            ("uprobe:bash:twice",),
            "the program lacks bpfd_known, bpfd_newcomers; add them, and #include",
        ),
        (
            BEGIN,
            ("uprobe:bash:twice", "uretprobe:sh:twice"),
            "uprobe:bash:twice and uretprobe:sh:twice follow different",
        ),
        (
            BEGIN + RAW,
            ("uprobe:{double}:twice", "raw_tracepoint:sched_process_exit"),
            "uprobe:{double}:twice and raw_tracepoint:sched_process_exit are of different kinds; make",
        ),
        (BEGIN, ("kprobe:do_exit",), '"kprobe:do_exit" is no probe; there are tracepoint:CATEGORY:NAME'),
    ],
)
def test_what_cannot_be_attached_is_named(
    make: Make, build: Build, double: Path, text: str, probes: tuple[str, ...], said: str
) -> None:
    with pytest.raises(LoadError) as caught:
        program.load(spec(make(text, *(probe.format(double=double) for probe in probes))), build)
    assert str(caught.value).startswith('tracer "mine": ')
    assert said.format(double=double) in str(caught.value)


def test_a_function_that_may_be_missing_is_left_out(make: Make, build: Build, double: Path) -> None:
    with closing(Bench(make(BEGIN, f"uprobe:{double}:twice", "uprobe:/nothing:twice?"), build)) as bench:
        bench.judge_by([Clause("number", "above", (0,))])
        pid = run(double, "5")
        assert bench.wait_for(lambda event: event.pid == pid).data["number"] == "5"


def test_a_function_is_found_where_readelf_finds_it(double: Path) -> None:
    for path, name in ((double, "twice"), (Path(sys.executable).resolve(), "Py_Main"), (Path("/bin/bash"), "readline")):
        said = subprocess.run(["readelf", "-sW", path], capture_output=True, text=True, check=True).stdout
        [address] = {int(row.split()[1], 16) for row in said.splitlines() if row.split()[-1:] == [name]}
        load = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=True).stdout
        rows = [row.split() for row in load.splitlines() if row.strip().startswith("LOAD")]
        [offset] = [
            address - int(row[2], 16) + int(row[1], 16)
            for row in rows
            if int(row[2], 16) <= address < int(row[2], 16) + int(row[4], 16)
        ]
        with path.open("rb") as file:
            assert find_function(file.fileno(), name).offset == offset
            assert find_function(file.fileno(), name[1:]).offset is None


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elf") / "changed"


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.data())
def test_a_hostile_file_has_no_function_and_does_no_harm(double: Path, changed: Path, data: st.DataObject) -> None:
    whole = bytearray(double.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.one_of(st.integers(0, 63), st.integers(0, len(whole) - 1)))
        whole[at] = data.draw(st.integers(0, 255))
    changed.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    with changed.open("rb") as file:
        found = find_function(file.fileno(), "twice")
    assert found.offset is None or found.offset < 1 << 64


def test_a_file_with_thousands_of_huge_tables_of_symbols_costs_no_more_than_one_with_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, at, many = 1 << 20, 1 << 20, 4000
    table = struct.pack("<IIQQQQIIQQ", 0, DYNSYM, 0, 0, at, size, 0, 0, 8, 24)
    texts = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, at, size, 0, 0, 1, 0)
    head = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 64, 0, 64, 56, 0, 64, many + 1, 0)
    evil = tmp_path / "bash"
    with evil.open("wb") as file:
        file.write(b"\x7fELF" + bytes([2, 1, 1]) + bytes(9) + head + texts + table * many)
        file.seek(at)
        file.write((b"\0libreadline.so.8\0readline" * size)[:size])
    read, pread = [0], os.pread

    def counted(fd: int, most: int, place: int) -> bytes:
        found = pread(fd, most, place)
        read[0] += len(found)
        return found

    monkeypatch.setattr(os, "pread", counted)
    with evil.open("rb") as file:
        assert find_function(file.fileno(), "readline", size // 2).offset is None
    assert size < read[0] < 2 * size  # the sections, and half of a table and of its texts


def test_names_that_are_followed_are_compared_as_the_kernel_keeps_them() -> None:
    what = followed("mine", ("uprobe:bash,a-very-long-command:readline",))
    assert what is not None
    assert what.names == ("bash", "a-very-long-command")
    assert "(a)==0x68736162ULL&&(b)==0x0ULL" in what.condition
    assert what.condition.count("||") == 1
