"""An interactive shell on a terminal of the tests' own, on this machine or in a container."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import socket
import subprocess
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.dockerd import Dockerd

BASH_IMAGE = "bpfd-test:bash"
PROMPT = "ready> "


class Typist:
    """Types into `fd`, and reads what comes back."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.said = ""

    def type(self, line: str) -> None:
        os.write(self.fd, f"{line}\n".encode())

    def wait_for(self, text: str, within_s: float = 30.0) -> None:
        """Until the shell has said `text` since this was called last."""
        deadline = time.monotonic() + within_s
        while text not in self.said:
            left = deadline - time.monotonic()
            assert left > 0, self.said
            if select.select([self.fd], [], [], left)[0]:
                self.said += os.read(self.fd, 65536).decode(errors="replace")
        self.said = self.said.partition(text)[2]


class Shell(Typist):
    """A shell of this machine, on a pseudo-terminal; use it as a context manager."""

    def __init__(self, words: list[str], env: Mapping[str, str] | None = None) -> None:
        ours, theirs = pty.openpty()
        environment = {**os.environ, "PS1": PROMPT, "HISTFILE": "", **(env or {})}
        options: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
        self.process = subprocess.Popen(words, env=environment, **options)
        os.close(theirs)
        super().__init__(ours)

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)


class ContainerShell(Typist):
    """bash as a container's first process, on a terminal; use it as a context manager."""

    def __init__(self, dockerd: Dockerd, **options: Any) -> None:
        words = ["bash", "--norc", "-i"]
        environment = {"PS1": PROMPT, "HISTFILE": ""}
        self.container = dockerd.run(
            words, image=BASH_IMAGE, tty=True, stdin_open=True, environment=environment, **options
        )
        self._stream = self.container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1, "logs": 1})
        self._socket: socket.socket = self._stream._sock
        super().__init__(self._socket.fileno())

    def __enter__(self) -> ContainerShell:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()
        self.container.remove(force=True)


def load_bash_image(dockerd: Dockerd) -> None:
    """Make an image of this machine's bash, its libraries and little else."""
    said = subprocess.run(["ldd", "/bin/bash"], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"(/\S+) \(0x", said)
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode="w") as archive:
        for name in ("tmp", "root", "etc", "bin"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        for path in ("/bin/bash", *libraries):
            archive.add(Path(path).resolve(), path.lstrip("/"))
    repository, _, tag = BASH_IMAGE.partition(":")
    dockerd.client.api.import_image_from_data(kept.getvalue(), repository=repository, tag=tag)
