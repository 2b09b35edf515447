"""A real dockerd of the tests' own, with an image made of busybox; one for each worker of pytest-xdist.

The fixture `dockerd` is in tests/conftest.py; a test that ends one, or wants another configuration, has
`running_dockerd`.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

IMAGE = "bpfd-test:busybox"
START_S = 60.0
STOP_S = 20.0


class Dockerd:
    """A dockerd with directories of its own, without networks. `start` and `stop` it as often as you like."""

    def __init__(self, place: Path, config: str = "{}") -> None:
        """`config` is the text of its daemon.json."""
        self.place, self._config = place, config
        self.socket = place / "docker.sock"
        self.address = f"unix://{self.socket}"
        self.image = IMAGE
        self.client: docker.DockerClient
        self._process: subprocess.Popen[bytes] | None = None
        self._made: list[str] = []

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        place = self.place
        (place / "daemon.json").write_text(self._config)
        # setpriv: it ends with the tests, whatever ends them.
        words = f"""setpriv --pdeathsig TERM dockerd --config-file {place}/daemon.json --host {self.address}
            --data-root {place}/data --exec-root {place}/exec --pidfile {place}/pid --bridge=none --iptables=false
            --ip-forward=false --ip-masq=false --exec-opt native.cgroupdriver=cgroupfs"""
        with (place / "log").open("ab") as log:
            self._process = subprocess.Popen(words.split(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, f"dockerd ended: {self._log()}"
            assert time.monotonic() < deadline, f"dockerd does not answer: {self._log()}"
            time.sleep(0.05)
        self.client = docker.DockerClient(base_url=self.address, timeout=60)

    def stop(self) -> None:
        """End it and what it started, by process id, and unmount what it left."""
        if self._process is None:
            return
        if hasattr(self, "client"):
            if self._process.poll() is None:  # docker's package leaks the socket of a connection that is refused
                with contextlib.suppress(Exception):
                    for container in self.client.containers.list(all=True):
                        container.remove(force=True)
            self.client.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        for pid in self._left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for mounted in self._mounted():
            subprocess.run(["umount", "--lazy", mounted], check=False, capture_output=True)
        for container_id in self._made:
            _remove_cgroups(container_id)
        self._made.clear()
        # What a killed one left there would keep the next one from starting.
        shutil.rmtree(self.place / "exec", ignore_errors=True)
        (self.place / "pid").unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it as nobody should; what it started goes on until `stop`."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def load_image(self) -> None:
        """Make `image`: no registry is asked."""
        self.client.api.import_image_from_data(_root_file_system(), repository="bpfd-test", tag="busybox")

    def run(self, command: str | list[str], **options: Any) -> Container:
        """Start a container, without a network unless one is given; text is for the shell. `options` are those of
        docker's `containers.run`, and `image`."""
        words = ["sh", "-c", command] if isinstance(command, str) else command
        if "network" not in options:
            options.setdefault("network_mode", "none")
        made = self.client.containers.run(options.pop("image", self.image), words, detach=True, **options)
        assert isinstance(made, Container)
        self._made.append(str(made.id))
        return made

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        client = docker.DockerClient(base_url=self.address, version="1.41", timeout=5)
        try:
            return bool(client.ping())
        except Exception:
            return False
        finally:
            client.close()

    def _left(self) -> list[int]:
        """What it started and left: containerd and its shims are told by their arguments, which name a directory that
        nobody else has; what runs in containers, by being below them."""
        parents = _parents()
        ours = {pid for pid in parents if f"{self.place}/".encode() in _arguments(pid)} - {os.getpid()}
        while below := {pid for pid, parent in parents.items() if parent in ours} - ours:
            ours |= below
        return sorted(ours)

    def _mounted(self) -> list[str]:
        """Mounts below its directory, the deepest first."""
        rows = Path("/proc/self/mountinfo").read_text().splitlines()
        return [row.split(" ")[4] for row in reversed(rows) if row.split(" ")[4].startswith(f"{self.place}/")]

    def _log(self) -> str:
        return (self.place / "log").read_text(errors="replace")[-2000:]


def _parents() -> dict[int, int]:
    """The parent of every process."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                found[int(entry.name)] = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    return found


def _arguments(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _remove_cgroups(container_id: str) -> None:
    """Of a container whose runtime was killed: nobody else removes them."""
    for row in Path("/proc/self/mountinfo").read_text().splitlines():
        if row.partition(" - ")[2].startswith("cgroup"):
            path = Path(row.split(" ")[4], "docker", container_id)
            deadline = time.monotonic() + STOP_S
            while path.exists() and time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    path.rmdir()
                    break
                time.sleep(0.01)


@contextlib.contextmanager
def running_dockerd(config: str = "{}") -> Iterator[Dockerd]:
    """A dockerd with its image; ended and removed whatever happens."""
    made = Dockerd(Path(tempfile.mkdtemp(prefix="bpfd-dk.")), config)
    try:
        made.start()
        made.load_image()
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.place, ignore_errors=True)


def _root_file_system() -> bytes:
    """A tar archive of the static busybox, a link for each of its programs, and the files that tests read."""
    busybox = shutil.which("busybox")
    assert busybox, "the package busybox-static is not installed"
    programs = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    files = {
        "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
        "etc/shadow": b"root:!:19000:0:99999:7:::\n",
    }
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode="w") as archive:
        for name in ("tmp", "root", "etc", "bin"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(folder)
        archive.add(busybox, "bin/busybox")
        for name in programs:
            if name != "busybox":
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
        for name, text in files.items():
            file = tarfile.TarInfo(name)
            file.size, file.mode = len(text), 0o640 if name == "etc/shadow" else 0o644
            archive.addfile(file, io.BytesIO(text))
    return kept.getvalue()
