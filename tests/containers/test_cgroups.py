"""The tree of cgroups: the right hierarchy is found, and every id leads to its path."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.containers.cgroups import CgroupTree, Hierarchy, find_hierarchy
from bpfd.containers.subsystems import BTF, subsystem_index
from bpfd.errors import KernelError
from tests.containers.cgroup_dirs import own_cgroup, remove

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""


def mounts(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(text)
    return path


@pytest.fixture(params=[False, True], ids=["v2", "v1"])
def hierarchy(request: pytest.FixtureRequest) -> Hierarchy:
    """Each hierarchy of this machine that containers may be known by."""
    return find_hierarchy(prefer_v1=request.param)


@pytest.fixture
def tree(hierarchy: Hierarchy) -> Iterator[CgroupTree]:
    made = CgroupTree(hierarchy)
    yield made
    made.close()


def test_a_machine_with_both_versions_is_known_by_v2(tmp_path: Path) -> None:
    found = find_hierarchy(mounts=mounts(tmp_path, HYBRID))
    assert (found.mount, found.version, found.hierarchy_id) == (Path("/sys/fs/cgroup/unified"), 2, 0)
    assert found.subsystem is None


def test_a_machine_with_v2_only_is_known_by_it(tmp_path: Path) -> None:
    text = "26 23 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    assert find_hierarchy(mounts=mounts(tmp_path, text)) == Hierarchy(Path("/sys/fs/cgroup"), 2)


def test_a_machine_with_v1_only_is_known_by_a_controller_that_every_runtime_uses(tmp_path: Path) -> None:
    found = find_hierarchy(mounts=mounts(tmp_path, HYBRID.replace("cgroup2", "tmpfs")))
    assert (found.version, found.controller, found.mount) == (1, "freezer", Path("/sys/fs/cgroup/freezer"))
    assert f"{found.hierarchy_id}:freezer:" in Path("/proc/self/cgroup").read_text()
    no_freezer = HYBRID.replace("cgroup2", "tmpfs").replace("freezer", "devices")
    assert find_hierarchy(mounts=mounts(tmp_path, no_freezer)).controller == "devices"


def test_a_mount_with_a_space_and_a_root_of_its_own_is_understood(tmp_path: Path) -> None:
    text = r"26 23 0:23 /docker/abc /mnt/my\040cgroups rw - cgroup2 none rw" + "\n"
    assert find_hierarchy(mounts=mounts(tmp_path, text)) == Hierarchy(Path("/mnt/my cgroups"), 2, root="/docker/abc")


def test_a_machine_without_cgroups_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="no hierarchy is mounted; mount"):
        find_hierarchy(mounts=mounts(tmp_path, "short line\n\n31 23 0:28 / /tmp rw - tmpfs tmpfs rw\n"))


def test_every_cgroup_has_an_id_that_leads_to_its_path(hierarchy: Hierarchy, tree: CgroupTree) -> None:
    with own_cgroup(hierarchy.mount) as path:
        (path / "a" / "b").mkdir(parents=True)
        scanned = dict(tree.scan())
        for made in (hierarchy.mount, path, path / "a", path / "a" / "b"):
            cgroup_id = made.stat().st_ino
            expected = f"/{made.relative_to(hierarchy.mount)}".replace("/.", "/")
            assert scanned[cgroup_id] == expected
            assert tree.path_of(cgroup_id) == expected


def test_a_cgroup_that_is_gone_or_never_was_has_no_path(hierarchy: Hierarchy, tree: CgroupTree) -> None:
    with own_cgroup(hierarchy.mount) as path:
        cgroup_id = path.stat().st_ino
    for unknown in (cgroup_id, 0, 2**63, 2**64 - 1, 1 << 40):
        assert tree.path_of(unknown) is None


def test_a_cgroup_too_deep_for_a_path_is_still_inside_of_the_one_above(hierarchy: Hierarchy, tree: CgroupTree) -> None:
    with own_cgroup(hierarchy.mount) as path:
        fd = os.open(path, os.O_RDONLY)
        for _ in range(40):
            os.mkdir("d" * 200, dir_fd=fd)
            below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        deepest = os.fstat(fd).st_ino
        os.close(fd)
        found = tree.path_of(deepest)
        assert found is not None
        assert found.startswith(f"/{path.name}/ddd")
        assert dict(tree.scan())[path.stat().st_ino] == f"/{path.name}"


def test_looking_up_leaves_no_descriptor(hierarchy: Hierarchy, tree: CgroupTree) -> None:
    with own_cgroup(hierarchy.mount) as path:
        before = len(os.listdir("/proc/self/fd"))
        for cgroup_id in [path.stat().st_ino, 1 << 40] * 50:
            tree.path_of(cgroup_id)
        assert len(os.listdir("/proc/self/fd")) <= before


def test_removing_while_scanning_does_no_harm(hierarchy: Hierarchy, tree: CgroupTree) -> None:
    with own_cgroup(hierarchy.mount) as path:
        (path / "a" / "b").mkdir(parents=True)
        seen = []
        for _, found in tree.scan():
            seen.append(found)
            if found == f"/{path.name}":
                remove(path / "a")
        assert f"/{path.name}" in seen
        assert f"/{path.name}/a" not in seen


def test_the_number_of_a_controller_is_the_kernels_own() -> None:
    dump = subprocess.run(["bpftool", "btf", "dump", "file", str(BTF)], capture_output=True, text=True, check=True)
    expected = dict(re.findall(r"'(\w+)_cgrp_id' val=(\d+)", dump.stdout))
    assert {"freezer", "pids", "memory", "devices"} <= set(expected)
    for controller, number in expected.items():
        assert subsystem_index(controller) == int(number)


@pytest.mark.parametrize(
    "data", [b"", b"\x9f\xeb\x01", struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, 0), b"x" * 99]
)
def test_what_is_no_btf_is_an_error_and_not_a_guess(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "btf"
    path.write_bytes(data)
    with pytest.raises(KernelError, match=f"{path}: "):
        subsystem_index("freezer", path)


def test_a_kernel_without_btf_or_controller_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="No such file or directory; run a kernel with CONFIG_DEBUG_INFO_BTF"):
        subsystem_index("freezer", tmp_path / "none")
    with pytest.raises(KernelError, match="no cgroup controller 'nonsense'"):
        subsystem_index("nonsense")
