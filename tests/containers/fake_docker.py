"""A Unix socket that answers as a Docker would, or as one never should."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class FakeDocker:
    """Answers /events with `events`, and the list of containers with `running`, each as raw bytes of a body."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = f"unix://{path}"
        self.running: bytes = b"[]"
        self.events: bytes = b""
        self.head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        self.silent_on: str = ""
        """A path that is never answered."""
        self.end_events = False
        self.asked: list[str] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._serve_on_thread(self._accept)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for one in list(self._sockets):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in list(self._threads):
            thread.join(5)
            assert not thread.is_alive()
        for one in self._sockets:
            one.close()
        self._listener.close()
        self.path.unlink()

    def _serve_on_thread(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                made, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(made)
            self._serve_on_thread(lambda made=made: self._serve(made))  # type: ignore[misc]

    def _serve(self, made: socket.socket) -> None:
        try:
            while request := made.recv(65536):
                path = request.split(b" ")[1].decode().split("?")[0]
                self.asked.append(path)
                if path == self.silent_on:
                    continue
                if path.endswith("/events"):
                    made.sendall(self.head + b"Transfer-Encoding: chunked\r\n\r\n")
                    if self.events:
                        made.sendall(b"%x\r\n%s\r\n" % (len(self.events), self.events))
                    if self.end_events:
                        made.shutdown(socket.SHUT_RDWR)
                else:
                    made.sendall(self.head + b"Content-Length: %d\r\n\r\n" % len(self.running) + self.running)
        except OSError:
            return


class Told:
    """An index that keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str, dict[str, str]]] = []

    def describe(self, container_id: str, name: str, image: str, labels: Any) -> None:
        self.calls.append((container_id, name, image, dict(labels)))


def event(container_id: str, **attributes: str) -> bytes:
    """One `create` event as Docker writes it."""
    message = {"Type": "container", "Action": "create", "Actor": {"ID": container_id, "Attributes": attributes}}
    return json.dumps(message).encode() + b"\n"


@contextmanager
def fake_docker(path: Path) -> Iterator[FakeDocker]:
    made = FakeDocker(path)
    try:
        yield made
    finally:
        made.close()


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.01)
