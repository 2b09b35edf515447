"""What a container's process opens outside of the container is told; what is the container's own is not."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from bpfd.containers.cgroups import find_hierarchy
from bpfd.kernel.maps import Map
from bpfd.kernel.program import Build
from bpfd.rules.model import All
from bpfd.tracers.dockeropenbreakout import DockerOpenBreakoutTracer
from tests.daemon.running import JsonEvent, RunningDaemon, until
from tests.dockerd import Dockerd
from tests.tracers.loads import breakout
from tests.tracers.tracing import tracing

libc = ctypes.CDLL(None, use_errno=True)
SYS_OPEN_TREE, SYS_MOVE_MOUNT = 428, 429
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC, MOVE_MOUNT_F_EMPTY_PATH = 1, os.O_CLOEXEC, 4
CLONE_NEWNS = 0x20000
AT_FDCWD = -100
TRUSTED: dict[str, Any] = {
    "cap_add": ["SYS_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "MKNOD", "DAC_READ_SEARCH"],
    "security_opt": ["seccomp=unconfined"],
}
"""What matters of `--privileged`, which wants more than a test's machine may give."""

SHOCKER = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* open a file by a handle, found elsewhere, through a mount that one has */
int main(int count, char **words) {
  struct { struct file_handle head; unsigned char rest[128]; } handle;
  memset(&handle, 0, sizeof(handle));
  handle.head.handle_type = atoi(words[2]);
  handle.head.handle_bytes = strlen(words[3]) / 2;
  for (unsigned at = 0; at < handle.head.handle_bytes; at++)
    sscanf(words[3] + 2 * at, "%2hhx", &handle.head.f_handle[at]);
  int mount = open(words[1], O_RDONLY), fd = open_by_handle_at(mount, &handle.head, O_RDONLY);
  char text[64] = {0};
  if (fd < 0) { perror("open_by_handle_at"); return 1; }
  return read(fd, text, sizeof(text) - 1) < 0 || puts(text) < 0;
}
"""


@pytest.fixture(scope="module")
def before(dockerd: Dockerd) -> Iterator[Container]:
    """A container that may do everything, and was there before the daemon."""
    with container(dockerd, pid_mode="host", **TRUSTED) as made:
        yield made


@pytest.fixture(scope="module")
def watching(
    tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, dockerd: Dockerd, before: Container
) -> Iterator[RunningDaemon]:
    made = RunningDaemon(tmp_path_factory.mktemp("breakout"), cache_dir)
    made.environment["DOCKER_HOST"] = dockerd.address
    made.write_rule("out", 'tracer = "dockeropenbreakout"\n')
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the host."""
    path = tmp_path_factory.mktemp("host") / "secret"
    path.write_text("of the host")
    return path


@contextlib.contextmanager
def container(dockerd: Dockerd, **options: Any) -> Iterator[Container]:
    made = dockerd.run("sleep 1000", **options)
    try:
        yield made
    finally:
        made.remove(force=True)


def run_in(made: Container, *words: str) -> str:
    """Run a command by `docker exec`, which must succeed."""
    code, said = made.exec_run(list(words))
    assert code == 0, said
    return str(said.decode(errors="replace"))


def first_process(made: Container) -> int:
    made.reload()
    return int(made.attrs["State"]["Pid"])


def told(daemon: RunningDaemon, of: Container, path: Path | str) -> JsonEvent:
    """The event of that file."""
    [event] = daemon.wait_for(lambda e: e["containerID"] == of.id and e["data"]["path"] == str(path))
    return event


def test_a_program_that_enters_the_hosts_namespace_is_told(
    watching: RunningDaemon, dockerd: Dockerd, before: Container, secret: Path
) -> None:
    with container(dockerd, pid_mode="host", **TRUSTED) as later:
        for made in (before, later):
            assert run_in(made, "nsenter", "-t", str(os.getpid()), "-m", "cat", str(secret)) == "of the host"
            event = told(watching, made, secret)
            assert event["data"]["reason"] == "host-namespace"
            assert (event["data"]["filename"], event["command"]) == (str(secret), "cat")
            assert (event["container"]["name"], event["containerRuntime"]) == (made.name, "docker")


def test_what_descends_from_a_program_that_broke_out_is_told(
    watching: RunningDaemon, before: Container, secret: Path
) -> None:
    """Whose parents are gone, too."""
    copy = secret.with_name("descendant")
    copy.write_text("")
    script = f"(sleep 0.2; cat {copy}) & exit 0"
    run_in(before, "nsenter", "-t", str(os.getpid()), "-m", "setsid", "sh", "-c", script)
    assert told(watching, before, copy)["data"]["reason"] == "host-namespace"


def test_a_file_reached_by_a_leaked_descriptor_is_told(watching: RunningDaemon, dockerd: Dockerd, secret: Path) -> None:
    """As the runtime's own were once: an open directory of the host in a process of the container."""
    with container(dockerd) as made:
        pid = first_process(made)
        [group] = [row[3:] for row in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if row.startswith("0::")]
        joined = find_hierarchy().mount / group.lstrip("/") / "cgroup.procs"
        leaked = os.open(secret.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            name = f"/proc/self/fd/{leaked}/secret"
            words = ["nsenter", "-t", str(pid), "-m", "-p", "cat", name]
            said = subprocess.run(
                ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(joined), *words],
                pass_fds=[leaked],
                check=True,
                capture_output=True,
                text=True,
            )
        finally:
            os.close(leaked)
        assert said.stdout == "of the host"
        event = told(watching, made, secret)
        assert (event["data"]["reason"], event["data"]["filename"]) == ("other-namespace", name)


def test_a_file_opened_by_its_handle_outside_of_the_mount_is_told(
    watching: RunningDaemon, dockerd: Dockerd, secret: Path, tmp_path: Path
) -> None:
    (tmp_path / "shocker.c").write_text(SHOCKER)
    subprocess.run(["gcc", "-static", "-o", tmp_path / "shocker", tmp_path / "shocker.c"], check=True)
    volumes = {str(tmp_path / "shocker"): {"bind": "/shocker", "mode": "ro"}}
    with container(dockerd, volumes=volumes, cap_add=["DAC_READ_SEARCH"]) as made:
        assert run_in(made, "/shocker", "/etc/hosts", *handle(secret)) == "of the host\n"
        [event] = watching.wait_for(lambda e: e["containerID"] == made.id)
        assert event["data"]["reason"] == "outside-mount"
        assert event["data"]["origin"] == str(secret)
        assert "filename" not in event["data"]


def handle(path: Path) -> tuple[str, str]:
    """The type and the bytes of a file's handle (name_to_handle_at)."""
    room = (ctypes.c_ubyte * 136)()
    ctypes.cast(room, ctypes.POINTER(ctypes.c_uint))[0] = 128
    mount = ctypes.c_int()
    assert libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), room, ctypes.byref(mount), 0) == 0
    size, kind = struct.unpack_from("=Ii", bytes(room))
    return str(kind), bytes(room)[8 : 8 + size].hex()


def test_the_hosts_disk_mounted_by_a_privileged_container_is_told(
    watching: RunningDaemon, dockerd: Dockerd, secret: Path
) -> None:
    major, minor = divmod(os.stat(secret).st_dev, 256)
    rules = [f"b {major}:{minor} rmw"]
    with container(dockerd, device_cgroup_rules=rules, **TRUSTED) as made:
        run_in(made, "mknod", "/tmp/disk", "b", str(major), str(minor))
        run_in(made, "mkdir", "/mnt")
        run_in(made, "mount", "-t", "ext4", "/tmp/disk", "/mnt")
        assert run_in(made, "cat", f"/mnt{secret}") == "of the host"
        event = told(watching, made, f"/mnt{secret}")
        assert event["data"]["reason"] == "mounted-later"


def test_a_directory_of_the_host_that_is_mounted_in_later_is_told(
    watching: RunningDaemon, dockerd: Dockerd, secret: Path
) -> None:
    with container(dockerd) as made:
        pid = first_process(made)
        mount_into(pid, secret.parent, "/root")
        assert run_in(made, "cat", "/root/secret") == "of the host"
        event = told(watching, made, "/root/secret")
        assert (event["data"]["reason"], event["data"]["origin"]) == ("mounted-later", str(secret))


def mount_into(pid: int, source: Path, target: str) -> None:
    """Mount a directory of this machine into the mount namespace of a process, as an administrator can."""
    code = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
tree = libc.syscall({SYS_OPEN_TREE}, {AT_FDCWD}, {os.fsencode(source)!r}, {OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC})
space = os.open("/proc/{pid}/ns/mnt", os.O_RDONLY)
assert tree >= 0 and libc.setns(space, {CLONE_NEWNS}) == 0
moved = libc.syscall({SYS_MOVE_MOUNT}, tree, b"", {AT_FDCWD}, {target.encode()!r}, {MOVE_MOUNT_F_EMPTY_PATH})
assert moved == 0, os.strerror(ctypes.get_errno())
"""
    subprocess.run([sys.executable, "-c", code], check=True)


OWN_DEEDS = """
set -e
cat /etc/hosts /etc/passwd /proc/self/root/etc/passwd /proc/self/cwd/etc/passwd > /tmp/own
cat /volume/file /read-only /scratch/../etc/hostname > /dev/null
echo x > /scratch/file; cat /scratch/file > /volume/made; rm /volume/made
cat < /dev/null; head -c 1 /dev/zero > /dev/full 2>&1 || true
cat /proc/1/status /proc/self/mountinfo > /dev/null; ls /sys/kernel > /dev/null
echo piped | cat /dev/stdin /proc/self/fd/0 > /dev/null
exec 5< /etc/passwd; cat /proc/self/fd/5 > /dev/null
cd /volume; cat ./file > /dev/null
"""
MOUNTS_OF_ITS_OWN = """
set -e
mkdir -p /mnt /own; mount -t tmpfs none /mnt; echo x > /mnt/file; cat /mnt/file /dev/null
mount --bind /own /mnt; echo x > /mnt/file; cat /mnt/file
unshare -m sh -c 'mount -t tmpfs none /tmp; echo y > /tmp/file; cat /tmp/file /etc/passwd /volume/file' > /dev/null
"""


def test_what_is_the_containers_own_is_silent(
    watching: RunningDaemon, dockerd: Dockerd, before: Container, secret: Path, tmp_path: Path
) -> None:
    """Its image, volumes, scratch file systems, /proc, /sys, /dev; starting, executing, copying and pausing it."""
    (tmp_path / "file").write_text("")
    volumes = {
        str(tmp_path): {"bind": "/volume", "mode": "rw"},
        str(secret): {"bind": "/read-only", "mode": "ro"},
    }
    options = {"volumes": volumes, "tmpfs": {"/scratch": ""}}
    count = len(watching.lines.read())
    with container(dockerd, **options) as plain, container(dockerd, **TRUSTED, **options) as trusted:
        for made in (plain, trusted):
            for _ in range(3):
                run_in(made, "sh", "-c", OWN_DEEDS)
            made.pause()
            made.unpause()
            assert b"".join(made.get_archive("/etc/passwd")[0])
        run_in(trusted, "sh", "-c", MOUNTS_OF_ITS_OWN)
        for _ in range(3):
            short = dockerd.run(["cat", "/etc/passwd", "/read-only"], **options)
            assert short.wait()["StatusCode"] == 0
            short.remove(force=True)
        # What must be told comes after all of that.
        run_in(before, "nsenter", "-t", str(os.getpid()), "-m", "cat", str(secret))
        watching.wait_for(lambda e: e in watching.lines.events[count:] and e["containerID"] == before.id)
        assert [e for e in watching.lines.events[count:] if e["containerID"] != before.id] == []


def test_processes_of_the_host_are_silent(watching: RunningDaemon, before: Container, secret: Path) -> None:
    """In namespaces of their own, in a container's namespace, with descriptors of others."""
    count = len(watching.lines.read())
    pid = first_process(before)
    directory = os.open(secret.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for words in (
            ["unshare", "-m", "cat", f"/proc/self/fd/{directory}/secret"],
            ["nsenter", "-t", str(pid), "-m", "cat", "/etc/passwd", f"/proc/self/fd/{directory}/secret"],
        ):
            subprocess.run(words, pass_fds=[directory], check=True, capture_output=True)
    finally:
        os.close(directory)
    run_in(before, "nsenter", "-t", str(os.getpid()), "-m", "cat", str(secret))
    watching.wait_for(lambda e: e in watching.lines.events[count:] and e["containerID"] == before.id)
    assert [e for e in watching.lines.events[count:] if e["containerID"] != before.id] == []


def fill(table: Map, keys: Iterator[bytes], value: bytes) -> None:
    """Leave no room in a table; a few entries are there already."""
    with contextlib.suppress(OSError):
        for key in itertools.islice(keys, table.max_entries):
            table.write(key, value)


def test_what_is_started_in_containers_beyond_what_is_kept_is_counted(build: Build, folder: Path) -> None:
    with tracing(DockerOpenBreakoutTracer, build) as bench:
        bench.judge_by([All()])
        insiders = bench.program.maps["insiders"]
        before = bench.program.own_count(DockerOpenBreakoutTracer.counts.index("untracked"))
        fill(insiders, (struct.pack("=I", 1 << 24 | number) for number in itertools.count()), bytes(16))
        [lost] = breakout(folder)
        assert not [event for event, _ in bench.events() if event.pid == lost.pid]
        assert bench.program.own_count(0) > before


@pytest.fixture
def group() -> Iterator[Path]:
    """A cgroup of which nobody has heard; what runs there ends with the test."""
    made = find_hierarchy().mount / f"bpfd-kept-{os.getpid()}"
    made.mkdir()

    def is_empty() -> bool:
        inside = [int(pid) for pid in (made / "cgroup.procs").read_text().split()]
        for pid in inside:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not inside

    try:
        yield made
    finally:
        until(is_empty, lambda: made)
        made.rmdir()


def test_what_is_known_of_a_namespace_is_kept_as_long_as_a_thread_runs_there(build: Build, group: Path) -> None:
    inside = f"echo $$ > {group}/cgroup.procs; exec unshare -m sh -c 'sleep 60 & read line; exec cat'"
    with tracing(DockerOpenBreakoutTracer, build) as bench:
        insiders, begun = bench.program.maps["insiders"], bench.program.maps["begun"]
        with subprocess.Popen(["sh", "-c", inside], stdin=subprocess.PIPE) as process:
            assert process.stdin is not None

            def kept() -> tuple[bytes, int]:
                """The namespace that the first thread keeps, and how many keep it."""
                found = insiders.read(struct.pack("=I", process.pid))
                space = found[8:] if found is not None else bytes(8)
                known = begun.read(space)
                return space, struct.unpack("=QQ", known)[1] if known is not None else 0

            until(lambda: kept()[1] == 2, kept)  # the shell, and its child
            space = kept()[0]
            first = begun.read(space)
            assert first is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
            command = Path(f"/proc/{process.pid}/comm")
            until(lambda: command.read_text() == "cat\n", command.read_text)
            assert (kept(), begun.read(space)) == ((space, 2), first)
        until(lambda: begun.read(space) == first[:8] + struct.pack("=Q", 1), lambda: begun.read(space))
        [left] = (group / "cgroup.procs").read_text().split()
        os.kill(int(left), signal.SIGKILL)
        until(lambda: begun.read(space) is None, lambda: begun.read(space))


def test_a_namespace_for_whose_beginning_there_is_no_room_is_counted(build: Build, folder: Path) -> None:
    with tracing(DockerOpenBreakoutTracer, build) as bench:
        bench.judge_by([All()])
        begun = bench.program.maps["begun"]
        before = bench.program.own_count(DockerOpenBreakoutTracer.counts.index("untracked"))
        fill(begun, (struct.pack("=Q", 1 << 60 | number) for number in itertools.count()), struct.pack("=QQ", 0, 1))
        [told] = breakout(folder)
        assert [event.data["reason"] for event, _ in bench.events() if event.pid == told.pid] == ["other-namespace"]
        assert bench.program.own_count(0) > before
