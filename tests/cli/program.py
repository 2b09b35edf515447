"""Runs the program as a user does: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.api.server import Server

PROGRAM = (sys.executable, "-c", "from bpfd.cli import run; run()")


class Bpfd:
    """Starts the program; every process that it started is ended by `close`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._processes: list[subprocess.Popen[str]] = []

    def __call__(self, *args: str | bytes, code: int = 0) -> str:
        """Run a command against the server; returns what it printed: its stdout, or stderr if it had to fail."""
        result = self.run(*args, "--grpc-addr", self.address)
        assert result.returncode == code, result
        return result.stderr if code else result.stdout

    def run(self, *args: str | bytes, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command as it is."""
        environment = {**os.environ, **(env or {})}
        return subprocess.run([*PROGRAM, *args], capture_output=True, text=True, timeout=30, env=environment)

    def start(self, *args: str, program: tuple[str, ...] = PROGRAM, **options: object) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen([*program, *args], text=True, **pipes)
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


@pytest.fixture
def bpfd(request: pytest.FixtureRequest) -> Iterator[Bpfd]:
    """The program; against the fixture `server`, if the test has it."""
    server = request.getfixturevalue("server") if "server" in request.fixturenames else None
    program = Bpfd(server.address if isinstance(server, Server) else "unix:///nonexistent/bpfd.sock")
    yield program
    program.close()


def wait_until_ready(process: subprocess.Popen[str], text: str) -> str:
    """Read the process's stderr until a line holds `text`; returns all lines so far."""
    assert process.stderr is not None
    lines = ""
    deadline = time.monotonic() + 20
    while text not in lines:
        line = process.stderr.readline()
        assert line, (lines, process.poll())
        assert time.monotonic() < deadline, lines
        lines += line
    return lines


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)
