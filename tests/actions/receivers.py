"""Receivers of alerts that answer as a test plans."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bpfd.alert import Alert
from bpfd.plugin import Action


@dataclass
class Request:
    """What a client posted."""

    line: str
    headers: dict[str, str]
    body: bytes


Reply = bytes | Callable[[socket.socket], None]


@dataclass
class HttpReceiver:
    """An HTTP server on localhost; each request gets the next of `plan`, then what `choose` chooses, or `reply`."""

    url: str
    reply: Reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    plan: list[Reply] = field(default_factory=list)
    choose: Callable[[Request], Reply] | None = None
    requests: list[Request] = field(default_factory=list)


def answer(status: str, body: bytes = b"", headers: str = "") -> bytes:
    """An HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def hang(client: socket.socket) -> None:
    """Say nothing until the client goes away."""
    client.recv(1)


def drip(client: socket.socket) -> None:
    """Answer a letter at a time, without an end."""
    client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        client.sendall(b"x")
        time.sleep(0.01)


def flood(client: socket.socket) -> None:
    """Answer as much as the client reads."""
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        client.sendall(b"x" * 65536)


def send_for_ever(action: Action, alert: Alert) -> None:
    """Send `alert` until that raises; a bounded number of times, and for a bounded time."""
    deadline = time.monotonic() + 15
    for _ in range(10_000):
        action.send(alert)
        if time.monotonic() > deadline:
            return


@contextmanager
def http_receiver() -> Iterator[HttpReceiver]:
    """Serve until the block ends; connections that hang are cut then."""
    with serving(lambda client: _answer(receiver, client)) as port:
        receiver = HttpReceiver(f"http://127.0.0.1:{port}")
        yield receiver


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Have `answer` talk to whoever connects to the port, on a thread for each."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads: list[threading.Thread] = []
        open_now: list[socket.socket] = []

        def talk(client: socket.socket) -> None:
            with client:
                try:
                    answer(client)
                except OSError:
                    pass  # it went away, or was cut

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                open_now.append(client)
                threads.append(threading.Thread(target=talk, args=(client,)))
                threads[-1].start()

        acceptor = threading.Thread(target=serve)
        acceptor.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for client in open_now:
                try:
                    client.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            for thread in threads:
                thread.join()


def _answer(receiver: HttpReceiver, client: socket.socket) -> None:
    if (request := _heard(client)) is None:
        return
    receiver.requests.append(request)
    reply = receiver.reply
    if receiver.plan:
        reply = receiver.plan.pop(0)
    elif receiver.choose:
        reply = receiver.choose(request)
    if callable(reply):
        reply(client)
    else:
        client.sendall(reply)


def _heard(client: socket.socket) -> Request | None:
    """A whole request; nothing when the client ended, or was killed, before it had said it all."""
    with client.makefile("rb") as stream:
        line = stream.readline().decode().strip()
        headers: dict[str, str] = {}
        while (text := stream.readline()) not in (b"\r\n", b"\n", b""):
            name, _, value = text.decode().partition(":")
            headers[name.strip().lower()] = value.strip()
        if not text:
            return None  # its last header may be half of one
        length = int(headers.get("content-length", "0"))
        body = stream.read(length)
    return Request(line, headers, body) if len(body) == length else None


@dataclass
class LineReceiver:
    """A TCP server on localhost that says its lines in turn, one for each thing that it is told, the first at once."""

    address: str
    said: list[bytes]
    heard: bytes = b""


@contextmanager
def line_receiver(said: list[bytes]) -> Iterator[LineReceiver]:
    """Serve until the block ends. An empty text ends the connection; after the last text it is only listened to."""
    with serving(lambda client: _say(receiver, client)) as port:
        receiver = LineReceiver(f"127.0.0.1:{port}", said)
        yield receiver


def _say(receiver: LineReceiver, client: socket.socket) -> None:
    for text in receiver.said:
        if not text:
            return
        client.sendall(text)
        if not (heard := client.recv(65536)):
            return
        receiver.heard += heard
    while heard := client.recv(65536):
        receiver.heard += heard
