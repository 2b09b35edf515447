"""Receivers of alerts that answer as a test plans."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Request:
    """What a client posted."""

    line: str
    headers: dict[str, str]
    body: bytes


Reply = bytes | Callable[[socket.socket], None]


@dataclass
class HttpReceiver:
    """An HTTP server on localhost; each request gets the next of `plan`, then `reply`."""

    url: str
    reply: Reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    plan: list[Reply] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)


def answer(status: str, body: bytes = b"", headers: str = "") -> bytes:
    """An HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@contextmanager
def http_receiver() -> Iterator[HttpReceiver]:
    """Serve until the block ends; connections that hang are cut then."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        receiver = HttpReceiver(f"http://127.0.0.1:{listening.getsockname()[1]}")
        threads: list[threading.Thread] = []
        open_now: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                open_now.append(client)
                threads.append(threading.Thread(target=_answer, args=(receiver, client)))
                threads[-1].start()

        acceptor = threading.Thread(target=serve)
        acceptor.start()
        try:
            yield receiver
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
    with client, client.makefile("rb") as stream:
        try:
            line = stream.readline().decode().strip()
            if not line:
                return
            headers: dict[str, str] = {}
            while text := stream.readline().decode().strip():
                name, _, value = text.partition(":")
                headers[name.lower()] = value.strip()
            body = stream.read(int(headers.get("content-length", "0")))
            receiver.requests.append(Request(line, headers, body))
            reply = receiver.plan.pop(0) if receiver.plan else receiver.reply
            if callable(reply):
                reply(client)
            else:
                client.sendall(reply)
        except OSError:
            pass
