"""The header tree: made once from the running kernel's BTF, and clang lays types out in it as the kernel does."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bpfd.errors import KernelError
from bpfd.kernel import headers, program
from bpfd.kernel.program import Build, Spec

MEMBERS_A_PROGRAM = 500
"""Each takes an instruction or two; more would only make the program long."""


def made(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def test_the_tree_is_made_once_and_kept(tmp_path: Path) -> None:
    tree = headers.ensure(tmp_path / "new" / "cache")
    (tree / "mark").touch()
    assert headers.ensure(tmp_path / "new" / "cache") == tree
    assert (tree / "mark").exists()
    assert made(tree.parent) == [tree.name]
    assert platform.release() in tree.name
    assert (tree / "include" / "vmlinux_types.h").stat().st_size > 1_000_000


def test_a_child_makes_the_same_tree(tmp_path: Path) -> None:
    tree = headers.ensure_apart(tmp_path)
    assert made(tmp_path) == [tree.name]
    (tree / "mark").touch()
    assert headers.ensure_apart(tmp_path) == tree == headers.ensure(tmp_path)
    assert (tree / "mark").exists()


def test_what_keeps_a_child_from_making_it_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KernelError, match=r"^\S+file/cache: cannot be written: .*; set cache_dir to another folder$"):
        headers.ensure_apart(tmp_path / "file" / "cache")


def test_another_kernel_has_another_tree_and_the_old_one_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = headers.ensure(tmp_path)
    monkeypatch.setattr(platform, "release", lambda: "9.9.9-other")
    after = headers.ensure(tmp_path)
    assert after != before
    assert made(tmp_path) == [after.name]
    assert "KERNEL_VERSION(9,9,9)" in (after / "include" / "linux" / "kconfig.h").read_text()


def test_another_build_of_the_same_release_has_another_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = headers.ensure(tmp_path)
    monkeypatch.setattr(platform, "version", lambda: "#2 another build")
    assert headers.ensure(tmp_path) != before


def test_two_that_make_it_at_once_both_have_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, other = (pool.submit(headers.ensure, tmp_path) for _ in range(2))
    assert one.result() == other.result()
    assert made(tmp_path) == [one.result().name]


def test_a_kernel_without_btf_is_said_to_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "BTF", tmp_path / "vmlinux")
    with pytest.raises(KernelError, match="this kernel has no BTF; run a kernel with CONFIG_DEBUG_INFO_BTF=y"):
        headers.ensure(tmp_path / "cache")


def test_bpftool_that_is_missing_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(KernelError, match="bpftool is missing; install it with: apt-get install bpftool"):
        headers.ensure(tmp_path)


def test_btf_that_bpftool_cannot_read_is_told_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vmlinux").write_text("no BTF")
    monkeypatch.setattr(headers, "BTF", tmp_path / "vmlinux")
    with pytest.raises(KernelError, match=r"vmlinux: cannot be read: .+"):
        headers.ensure(tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KernelError, match=r"file/cache: cannot be written: .*; set cache_dir to another folder"):
        headers.ensure(tmp_path / "file" / "cache")


def test_a_tree_that_could_not_be_finished_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KernelError("libbcc is missing")

    monkeypatch.setattr(headers, "write_tree", fail)
    with pytest.raises(KernelError, match="libbcc"):
        headers.ensure(tmp_path)
    assert made(tmp_path) == []


def test_padding_of_whole_words_gets_a_name() -> None:
    text = "struct a {\n\tint b;\n\tlong: 64;\n\tlong: 64;\n\tint: 7;\n};\n"
    named = "struct a {\n\tint b;\n\tlong bpfd_padding_0;\n\tlong bpfd_padding_1;\n\tint: 7;\n};\n"
    assert headers.name_padding(text) == named


def test_an_enum_of_one_byte_is_declared_with_its_size() -> None:
    raw = "[7] ENUM 'small' encoding=UNSIGNED size=1 vlen=1\n[8] ENUM 'usual' encoding=UNSIGNED size=4 vlen=1\n"
    sized = headers.size_enums("enum small {\n\tA = 0,\n};\n\nenum usual {\n\tB = 0,\n};\n", raw)
    assert sized == "enum small {\n\tA = 0,\n} __attribute__((mode(byte)));\n\nenum usual {\n\tB = 0,\n};\n"


@pytest.fixture(scope="module")
def types() -> list[dict[str, Any]]:
    """The kernel's types as bpftool reads them from BTF, not by way of C."""
    done = subprocess.run(
        ["bpftool", "-j", "btf", "dump", "file", "/sys/kernel/btf/vmlinux"],
        check=True,
        capture_output=True,
        env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"},
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)["types"]
    return found


def members(types: list[dict[str, Any]], number: int, base: int = 0) -> Iterator[tuple[str, int]]:
    """The named members that have an address, with their offsets; those of nameless members as if they were its own."""
    for member in types[number - 1]["members"]:
        offset = base + member["bits_offset"] // 8
        if member["name"] != "(anon)":
            if not member.get("bitfield_size"):
                yield member["name"], offset
        elif types[member["type_id"] - 1]["kind"] in ("STRUCT", "UNION"):
            yield from members(types, member["type_id"], offset)


def expected(types: list[dict[str, Any]], tree: Path) -> list[tuple[str, str, int]]:
    """Type, member and BTF's offset, of every struct that programs have without `#include <vmlinux.h>`."""
    text = (tree / "include" / "kernel_types.h").read_text()
    defined = set(re.findall(r"(?m)^struct (\w+) \{", text))
    found = []
    for number, one in enumerate(types, 1):
        if one["kind"] == "STRUCT" and one["name"] in defined:
            defined.discard(one["name"])
            found += [(f"struct {one['name']}", name, offset) for name, offset in members(types, number)]
    return found


def offsets_in_use(tmp_path: Path, build: Build, wanted: list[tuple[str, str, int]]) -> list[int]:
    """Where compiled code goes to for each member: from a pointer that the compiler knows nothing of."""
    stores = "".join(
        f"  {{ {kind} *p = ({kind} *)base; out->at[{number}] = (u64)&p->{name} - base; }}\n"
        for number, (kind, name, _) in enumerate(wanted)
    )
    path = tmp_path / "offsets.c"
    path.write_text(
        f'#include "filter.h"\n#include <kernel_types.h>\nstruct offsets {{ u64 at[{len(wanted)}]; }};\n'
        "BPF_ARRAY(found, struct offsets, 1);\nTRACEPOINT_PROBE(syscalls, sys_enter_getpgid) {\n"
        "  int zero = 0;\n  struct offsets *out = found.lookup(&zero);\n  if (!out)\n    return 0;\n"
        f"  u64 base = bpf_ktime_get_ns();\n  bpfd_barrier(base);\n{stores}  return 0;\n}}\n"
    )
    running = program.load(Spec("offsets", path, (), ("tracepoint:syscalls:sys_enter_getpgid",), 65536), build)
    try:
        os.getpgid(0)
        value = running.maps["found"].read(struct.pack("=I", 0))
    finally:
        running.close()
    assert value is not None
    return list(struct.unpack(f"={len(wanted)}Q", value))


def test_compiled_code_finds_every_member_where_btf_has_it(
    tmp_path: Path, build: Build, types: list[dict[str, Any]]
) -> None:
    wanted = expected(types, build.headers)
    kinds = {kind for kind, _, _ in wanted}
    assert {"struct task_struct", "struct mm_struct", "struct dentry", "struct mount", "struct file"} <= kinds
    wrong = []
    for at in range(0, len(wanted), MEMBERS_A_PROGRAM):
        part = wanted[at : at + MEMBERS_A_PROGRAM]
        for (kind, name, offset), used in zip(part, offsets_in_use(tmp_path, build, part), strict=True):
            if offset != used:
                wrong.append(f"{kind}.{name} is at {offset}, and code reads {used}")
    assert not wrong
