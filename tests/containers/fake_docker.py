"""A Unix socket that answers as a Docker would, or as one never should."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bpfd.containers.lives import Listed
from bpfd.event import HOST, Container


class FakeDocker:
    """Answers /events with `events`, the list of containers with `running`, and one of them with `inspected`, each as
    raw bytes of a body."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = f"unix://{path}"
        self.running: bytes = b"[]"
        self.inspected: bytes = b"{}"
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
            thread.join(20)
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
                    body = self.running if path.endswith("/containers/json") else self.inspected
                    made.sendall(self.head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        except OSError:
            return


class Told:
    """An index that keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str, dict[str, str]]] = []

    def describe(self, container_id: str, name: str, image: str, labels: Any) -> None:
        self.calls.append((container_id, name, image, dict(labels)))

    def by_id(self, container_id: str) -> Container:
        return next((Container(call[0], "docker", *call[1:]) for call in self.calls if call[0] == container_id), HOST)


class Followed:
    """Somebody who wants to know what becomes of containers, and keeps it."""

    is_followed = True

    def __init__(self) -> None:
        self.lists: list[tuple[list[Listed], bool]] = []
        self.said: list[tuple[str, str | None, int | None]] = []
        self.times: list[int] = []
        self.left = self.away = 0

    def docker_listed(self, listed: Iterable[Listed], at: int, is_whole: bool) -> None:
        self.lists.append((list(listed), is_whole))

    def docker_said(self, container_id: str, state: str | None, at: int, exit_code: int | None) -> None:
        self.said.append((container_id, state, exit_code))
        self.times.append(at)

    def docker_left(self) -> None:
        self.left += 1

    def docker_is_away(self) -> None:
        self.away += 1


def event(container_id: str, action: str = "create", at: object = None, **attributes: str) -> bytes:
    """One event as Docker writes it."""
    actor = {"ID": container_id, "Attributes": attributes}
    message = {"Type": "container", "Action": action, "Actor": actor, "timeNano": at}
    return json.dumps(message).encode() + b"\n"


@contextmanager
def fake_docker(path: Path) -> Iterator[FakeDocker]:
    made = FakeDocker(path)
    try:
        yield made
    finally:
        made.close()


def eventually(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.01)
