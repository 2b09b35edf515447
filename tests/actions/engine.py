"""A real dockerd of the tests' own, with an image made of busybox."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
from docker.errors import DockerException
from docker.models.containers import Container

IMAGE = "bpfd-test:busybox"


class Engine:
    """A dockerd, and how to reach it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.client = docker.DockerClient(base_url=address, timeout=30)

    def run(self, command: str, **more: object) -> Container:
        """Start a container that runs `command` in a shell."""
        made = self.client.containers.run(IMAGE, ["sh", "-c", command], detach=True, **more)  # type: ignore[call-overload]
        assert isinstance(made, Container)
        return made


@contextmanager
def engine(config: str = "{}") -> Iterator[Engine]:
    """Start dockerd with the text of a daemon.json, and end it with all that it holds."""
    place = Path(tempfile.mkdtemp(prefix="dk."))
    address = f"unix://{place}/docker.sock"
    (place / "daemon.json").write_text(config)
    flags = "--bridge=none --iptables=false --ip-forward=false --ip-masq=false --exec-opt native.cgroupdriver=cgroupfs"
    places = (
        f"--config-file {place}/daemon.json --data-root {place}/data --exec-root {place}/exec --pidfile {place}/pid"
    )
    command = ["dockerd", "-H", address, *places.split(), *flags.split()]
    with (place / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as daemon:
        try:
            _await(address, daemon, place / "log")
            ours = Engine(address)
            try:
                ours.client.api.import_image_from_data(_busybox(), repository="bpfd-test", tag="busybox")
                yield ours
            finally:
                for container in ours.client.containers.list(all=True):
                    container.remove(force=True)
                ours.client.close()
        finally:
            daemon.terminate()
            daemon.wait(30)
            _unmount(place)
            shutil.rmtree(place)


def _unmount(place: Path) -> None:
    """What dockerd leaves mounted: the network namespace of containers that used the host's."""
    for row in Path("/proc/self/mounts").read_text().splitlines():
        mounted = row.split()[1]
        if mounted.startswith(f"{place}/"):
            subprocess.run(["umount", mounted], check=True)


def _await(address: str, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert daemon.poll() is None, log.read_text()[-2000:]
        if Path(address.removeprefix("unix://")).exists():
            client = docker.DockerClient(base_url=address, version="1.41")
            try:
                client.ping()
                return
            except DockerException:
                assert time.monotonic() < deadline, log.read_text()[-2000:]
            finally:
                client.close()
        time.sleep(0.05)


def _busybox() -> bytes:
    """A root file system: the static busybox and a link for each of its programs that the tests use."""
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode="w") as tar:
        tar.add(shutil.which("busybox") or "/bin/busybox", "bin/busybox")
        for name in ("sh", "sleep", "cat", "trap"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return kept.getvalue()
