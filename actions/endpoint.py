"""An HTTP endpoint with one page, and limits that no client can talk its way around."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

from bpfd.complaints import describe

_MOST_CLIENTS = 8
_TIMEOUT_S = 10.0
_BUSY_S = 0.1

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus's text format, which every version of it reads."""

log = logging.getLogger(__name__)


class Endpoint:
    """Serves one page at `/metrics`, from threads of its own, to few clients at a time; more are turned away.

    Listens from the start on; `close` ends every thread.
    """

    def __init__(self, host: str, port: int, render: Callable[[], bytes]) -> None:
        """`render` makes the page, on any thread. Raises OSError if the address can't be had."""
        self._handler = type("Handler", (_Handler,), {"render": staticmethod(render)})
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self._listening = socket.create_server((host, port), family=family)
        self.port: int = self._listening.getsockname()[1]
        self._closed = False
        self._lock = threading.Lock()
        self._clients: dict[socket.socket, threading.Thread] = {}
        self._thread = threading.Thread(target=self._accept, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Cut off whoever is connected, and join the threads."""
        self._closed = True
        _cut(self._listening)
        self._thread.join()
        self._listening.close()
        with self._lock:
            clients = dict(self._clients)
            for client in clients:
                _cut(client)
        for thread in clients.values():
            thread.join()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listening.accept()
            except OSError:  # closed, or no descriptors are left for now
                time.sleep(0 if self._closed else _BUSY_S)
                continue
            with self._lock:
                if len(self._clients) < _MOST_CLIENTS:
                    thread = threading.Thread(target=self._answer, args=(client,), name="metrics-client", daemon=True)
                    self._clients[client] = thread
                    thread.start()
                    continue
            client.close()

    def _answer(self, client: socket.socket) -> None:
        timer = threading.Timer(_TIMEOUT_S, _cut, (client,))
        timer.daemon = True
        timer.start()
        try:
            client.settimeout(_TIMEOUT_S)
            self._handler(client, ("", 0), None)  # it asks nothing of a server
        except OSError:
            pass  # the client went away, or was cut off
        finally:
            timer.cancel()
            timer.join()
            with self._lock:
                del self._clients[client]
                client.close()


class _Handler(BaseHTTPRequestHandler):
    render: Callable[[], bytes]
    server_version, sys_version = "bpfd", ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] not in {"/", "/metrics"}:
            self.send_error(404)
            return
        try:
            page = self.render()
        except Exception as error:  # where the figures come from is others' code
            log.error("metrics: cannot be read: %s", describe(error))
            self.send_error(500)
            return
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a scrape is no event, and what a client sends belongs in no log."""


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it ended by itself
