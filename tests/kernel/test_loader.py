"""Loading: errors come back whole, and a tracer's maps can be reached."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from bpfd.errors import LoadError
from bpfd.kernel import program
from bpfd.kernel.program import Build, Spec

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
    assert set(os.listdir("/proc/self/fd")) == before
