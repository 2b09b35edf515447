"""A real OpenTelemetry collector of the tests' own: rotel, which its package brings as a program."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def collector(place: Path, exports_to: str) -> Iterator[str]:
    """Start the collector, which passes on what it takes to the URL `exports_to` as protobuf; its URL for logs."""
    found = importlib.util.find_spec("rotel")
    assert found is not None, "rotel is missing; make setup-test installs it"
    assert found.origin is not None
    program = str(Path(found.origin).with_name("rotel-agent"))
    grpc, http = _free_ports()
    flags = f"--otlp-grpc-endpoint 127.0.0.1:{grpc} --otlp-http-endpoint 127.0.0.1:{http} --disable-batching"
    exporter = f"--exporter otlp --otlp-exporter-protocol http --otlp-exporter-endpoint {exports_to}"
    with (place / "collector.log").open("wb") as log:
        running = subprocess.Popen([program, "start", *flags.split(), *exporter.split()], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not _listens(http):
            assert running.poll() is None, (place / "collector.log").read_text()
            assert time.monotonic() < deadline, (place / "collector.log").read_text()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{http}/v1/logs"
    finally:
        running.terminate()
        running.wait(10)


def _free_ports() -> tuple[int, int]:
    """Two ports that were free a moment ago: the collector takes no 0."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return one.getsockname()[1], two.getsockname()[1]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
