"""Loading: errors come back whole, and a tracer's maps can be reached."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bpfd.counters import Counters
from bpfd.errors import LoadError
from bpfd.event import HOST
from bpfd.kernel import child, loader, program
from bpfd.kernel.maps import possible_cpus
from bpfd.kernel.program import Build, Spec
from bpfd.pipeline import Clock, Pipeline
from bpfd.plugin import BPFTracer
from bpfd.tracers.open import OpenTracer
from bpfd.tracing import Tracing

START = '#include "filter.h"\n'
PROBE = "TRACEPOINT_PROBE(syscalls, sys_enter_getpgid) {{\n{body}\n}}\n"
GOOD = Spec("mine", Path(), (), ("tracepoint:syscalls:sys_enter_getpgid",), 65536)


def written(tmp_path: Path, text: str) -> Spec:
    path = tmp_path / "mine.c"
    path.write_text(START + text)
    return replace(GOOD, program=path)


def test_a_compiler_error_comes_back_with_the_tracers_name_and_file(tmp_path: Path, build: Build) -> None:
    with pytest.raises(LoadError) as caught:
        program.load(written(tmp_path, PROBE.format(body="  return nonsense;")), build)
    assert str(caught.value).startswith('tracer "mine": ')
    assert "mine.c" in str(caught.value)
    assert "use of undeclared identifier 'nonsense'" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_what_the_verifier_refuses_comes_back_with_its_words(tmp_path: Path, build: Build) -> None:
    body = "  int *wild = (int *)bpf_get_current_pid_tgid();\n  return *(volatile int *)wild;"
    with pytest.raises(LoadError) as caught:
        program.load(written(tmp_path, PROBE.format(body=body)), build)
    assert 'tracer "mine": ' in str(caught.value)
    assert "invalid mem access" in str(caught.value)


def test_a_probe_that_this_kernel_lacks_is_named(tmp_path: Path, build: Build) -> None:
    spec = replace(written(tmp_path, PROBE.format(body="  return 0;")), probes=("tracepoint:sched:sched_nothing",))
    with pytest.raises(LoadError, match='tracer "mine": this kernel has no tracepoint:sched:sched_nothing'):
        program.load(spec, build)


def test_an_include_that_is_nowhere_is_named_with_its_line(tmp_path: Path, build: Build) -> None:
    with pytest.raises(LoadError, match=r'mine\.c:2: #include "nowhere\.h": no such file'):
        program.load(written(tmp_path, '#include "nowhere.h"\n'), build)


def test_a_tracers_own_maps_are_read_written_and_walked(tmp_path: Path, build: Build) -> None:
    text = """
BPF_HASH(calls, u32, u64, 64);
BPF_PERCPU_ARRAY(each, u64, 1);
TRACEPOINT_PROBE(syscalls, sys_enter_getpgid) {
  u32 pid = bpf_get_current_pid_tgid() >> 32;
  int zero = 0;
  u64 *count = calls.lookup(&pid), *own = each.lookup(&zero);
  if (count)
    ++*count;
  if (own)
    ++*own;
  return 0;
}
"""
    running = program.load(written(tmp_path, text), build)
    try:
        calls, each = running.maps["calls"], running.maps["each"]
        key = struct.pack("=I", os.getpid())
        assert calls.read(key) is None
        calls.write(key, struct.pack("=Q", 100))
        for _ in range(7):
            os.getpgid(0)
        assert calls.read(key) == struct.pack("=Q", 107)
        assert list(calls.items()) == [(key, struct.pack("=Q", 107))]
        assert sum(struct.unpack("=Q", value)[0] for value in each.read_all(struct.pack("=I", 0))) >= 7
        assert calls.delete(key)
        assert not calls.delete(key)
        with pytest.raises(ValueError, match="a key has 4 bytes, not 1"):
            calls.read(b"x")
    finally:
        running.close()


def test_closing_a_program_detaches_it(tmp_path: Path, build: Build) -> None:
    before = set(os.listdir("/proc/self/fd"))
    running = program.load(written(tmp_path, PROBE.format(body="  bpfd_begin();\n  return 0;")), build)
    os.getpgid(0)
    assert running.seen >= 1
    running.close()
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_map_of_every_processor_is_written_on_all_of_them(tmp_path: Path, build: Build) -> None:
    text = "BPF_PERCPU_HASH(each, u32, u32, 8);\nBPF_ARRAY(plain, u32, 3);\n" + PROBE.format(body="  return 0;")
    running = program.load(written(tmp_path, text), build)
    try:
        each, plain = running.maps["each"], running.maps["plain"]
        assert each.read_all(struct.pack("=I", 1)) == []
        each.write(struct.pack("=I", 1), struct.pack("=I", 77))
        assert each.read_all(struct.pack("=I", 1)) == [struct.pack("=I", 77)] * possible_cpus()
        assert [key for key, _ in each.items()] == [struct.pack("=I", 1)]
        for number in range(2, 9):
            each.write(struct.pack("=I", number), bytes(4))
        with pytest.raises(OSError, match="Argument list too long"):
            each.write(struct.pack("=I", 9), bytes(4))
        assert len(list(plain.items())) == 3
        assert plain.read(struct.pack("=I", 3)) is None
        with pytest.raises(ValueError, match="map plain: a value has 4 bytes, not 8"):
            plain.write(struct.pack("=I", 0), bytes(8))
    finally:
        running.close()


def test_a_raw_tracepoint_stays_attached_after_the_loader_ended(tmp_path: Path, build: Build) -> None:
    text = "RAW_TRACEPOINT_PROBE(sys_enter) {\n  bpfd_begin();\n  return 0;\n}\n"
    running = program.load(replace(written(tmp_path, text), probes=()), build)
    try:
        os.getpgid(0)
        assert running.seen >= 1
    finally:
        running.close()


def test_every_kind_of_probe_is_handed_over() -> None:
    """Not every kernel has them all, so bcc's tables are made up here."""
    kept = {
        "tracepoint_fds": {b"a": 3},
        "raw_tracepoint_fds": {b"b": 4},
        "kprobe_fds": {b"c": {b"one": 5, b"two": 6}},
        "uprobe_fds": {b"d": {b"one": 7}},
        "kfunc_entry_fds": {b"e": 8},
        "kfunc_exit_fds": {b"f": 9},
        "lsm_fds": {b"g": 10},
        "open_perf_events": {(1, 2): {0: 11, 1: 12}},
    }
    assert sorted(loader.attached(SimpleNamespace(**kept))) == list(range(3, 13))


def test_programs_load_side_by_side(tmp_path: Path, build: Build) -> None:
    specs = []
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        text = f"BPF_ARRAY(own{number}, u32, 1);\n" + PROBE.format(body="  bpfd_begin();\n  return 0;")
        specs.append(replace(written(tmp_path / str(number), text), name=f"mine{number}"))
    with ThreadPoolExecutor(3) as pool:
        loaded = list(pool.map(lambda spec: program.load(spec, build), specs))
    try:
        os.getpgid(0)
        for number, running in enumerate(loaded):
            assert (running.name, running.seen >= 1) == (f"mine{number}", True)
            assert f"own{number}" in running.maps
    finally:
        for running in loaded:
            running.close()


def test_a_tracer_that_does_not_load_takes_no_other_down(tmp_path: Path, build: Build) -> None:
    (tmp_path / "bad.c").write_text(START + PROBE.format(body="  return nonsense;"))
    (tmp_path / "good.c").write_text(START + PROBE.format(body="  return 0;"))

    def tracer(named: str) -> type[BPFTracer]:
        place = {"name": named, "program": tmp_path / f"{named}.c", "probes": GOOD.probes, "ring_bytes": 65536}
        return type(named, (BPFTracer,), place)

    clock = Clock()
    pipeline = Pipeline(lambda events: None, clock, 10)
    tracing = Tracing({"bad": tracer("bad"), "good": tracer("good")}, pipeline, clock, Counters(), "host")
    tracing.prepare(build, lambda cgroup: pytest.fail("no event"), lambda name: pytest.fail("no event"), dict)
    pipeline.start()
    try:
        tracing.want(["bad", "good"])
        assert set(tracing.running) == {"good"}
        assert set(tracing.failed) == {"bad"}
        assert "use of undeclared identifier 'nonsense'" in tracing.failed["bad"]
    finally:
        tracing.close()
        pipeline.stop()


def test_before_its_rules_are_in_force_a_tracer_passes_nothing(tmp_path: Path, build: Build) -> None:
    """Other tracers may compile for long; what it passed would fill its ring meanwhile."""
    clock = Clock()
    pipeline = Pipeline(lambda events: None, clock, 10)
    tracing = Tracing({"open": OpenTracer}, pipeline, clock, Counters(), "host")
    tracing.prepare(build, lambda cgroup: HOST, lambda name: HOST, dict)
    try:
        tracing.want(["open"])
        loaded = tracing.running["open"].program
        assert loaded is not None
        seen, passed = loaded.seen, loaded.passed
        subprocess.run(["sh", "-c", "for n in $(seq 100); do : > file; done"], cwd=tmp_path, check=True)
        assert loaded.seen >= seen + 100
        assert loaded.passed == passed
    finally:
        tracing.close()


def child_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    """Have the loader's child run `code` in place of itself."""
    path = tmp_path / "child.py"
    path.write_text(textwrap.dedent(code))
    monkeypatch.setattr(loader, "__file__", str(path))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the loader ended with status -9 and said nothing"),
        ("raise SystemExit('bcc is missing; install it')", "bcc is missing; install it"),
        ("print('some words'); raise ValueError('no such thing')", "some words\nValueError: no such thing"),
    ],
    ids=["killed", "gives up", "raises"],
)
def test_a_loader_that_ends_early_is_told_with_what_it_said(
    tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    before = set(os.listdir("/proc/self/fd"))
    child_that(monkeypatch, tmp_path, code)
    with pytest.raises(LoadError) as caught:
        program.load(written(tmp_path, PROBE.format(body="  return 0;")), build)
    assert str(caught.value).startswith(f'tracer "mine": {said}')
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_loader_that_hangs_with_what_it_already_handed_over_is_ended(
    tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
        import array, os, socket, sys, time
        peer = socket.socket(fileno=int(sys.argv[1]))
        open(os.path.join(os.path.dirname(__file__), "pid"), "w").write(str(os.getpid()))
        peer.sendmsg([b'{"maps": []'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1]))])
        time.sleep(600)
    """
    child_that(monkeypatch, tmp_path, code)
    monkeypatch.setattr(child, "LOAD_TIMEOUT_S", 1.0)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(LoadError, match='tracer "mine": it was not loaded in time'):
        program.load(written(tmp_path, PROBE.format(body="  return 0;")), build)
    assert set(os.listdir("/proc/self/fd")) <= before
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


OWNER = """
import sys, time
from pathlib import Path
from bpfd.kernel import program
from bpfd.kernel.program import Build, Spec
from bpfd.tracers.exec import ExecTracer as T
spec = Spec("exec", T.program, T.fields, T.probes, T.ring_bytes)
loaded = program.load(spec, Build(Path(sys.argv[1])))
print(*(program.program_info(fd).id for fd in loaded.program_fds.values()), flush=True)
time.sleep(600)
"""


def program_ids() -> set[int]:
    """The numbers of all programs in the kernel."""
    tool = "/usr/sbin/bpftool" if Path("/usr/sbin/bpftool").exists() else "bpftool"
    listed = subprocess.run([tool, "prog", "show"], check=True, capture_output=True, text=True).stdout
    return {int(line.split(":")[0]) for line in listed.splitlines() if line[:1].isdigit()}


def test_nothing_stays_attached_when_the_owner_is_killed(build: Build) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(build.headers)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        try:
            mine = {int(number) for number in owner.stdout.readline().split()}
            assert mine
            assert mine <= program_ids()
        finally:
            owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not mine & program_ids())


def test_a_loader_does_not_outlive_an_owner_that_is_killed(tmp_path: Path, build: Build) -> None:
    """Its child has a program of which the compiler never sees the end: `#include` of a pipe that nobody writes."""
    os.mkfifo(tmp_path / "never.h")
    (tmp_path / "mine.c").write_text(f"{START}#include <{tmp_path}/never.h>\n")
    code = OWNER.replace("T.program", "Path(sys.argv[2])")
    command = [sys.executable, "-c", code, str(build.headers), str(tmp_path / "mine.c")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as owner:
        try:
            wait_until(lambda: bool(children(owner.pid)))
            [child] = children(owner.pid)
        finally:
            owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{child}").exists())


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def wait_until(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_the_daemons_own_events_are_left_out_by_its_number(tmp_path: Path, build: Build) -> None:
    spec = written(tmp_path, PROBE.format(body="  bpfd_begin();\n  return 0;"))
    running = program.load(spec, replace(build, self_pid=os.getpid()))
    try:
        os.getpgid(0)
        assert running.seen == 0
    finally:
        running.close()


def test_what_a_program_counted_can_be_asked_after_its_end(tmp_path: Path, build: Build) -> None:
    """Whoever asks for the status may do so at any moment of it."""
    loaded = program.load(written(tmp_path, PROBE.format(body="  bpfd_begin();\n  return 0;")), build)
    subprocess.run([sys.executable, "-c", "import os; os.getpgid(0)"], check=True)
    loaded.close()
    assert (loaded.seen >= 1, loaded.lost, loaded.run_time()) == (True, 0, (0, 0))
    loaded.close()
