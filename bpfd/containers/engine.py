"""Docker's API as the daemon reads it: little of it, bounded, and cut off at once when the daemon stops.

Imports the package `docker`, which takes some MB: import this where there is a Docker to talk to, and not before.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker.constants
import requests
from docker.api.client import APIClient
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool

MOST_REPLY = 16 << 20
"""Bytes of the list of containers; it takes 1 to 3 kB for each."""
MOST_EVENT = 1 << 20
_PIECE = 1 << 16
_REPLY_S = 10
_CONTAINERS = {
    "type": ["container"],
    "event": ["create", "start", "rename", "pause", "unpause", "die", "oom", "destroy"],
}


class OversizeError(OSError):
    """Docker said more at once than anybody should."""


class Engine:
    """A connection to the Docker that listens on the Unix socket at `path`. One thread, but for `cut`.

    Every method raises OSError (requests' errors are such) and ValueError for what is no JSON. `close` it.
    """

    def __init__(self, path: str) -> None:
        # Paths without a version are answered by every version; naming one here saves the question.
        self._api = APIClient(f"unix://{path}", version=docker.constants.DEFAULT_DOCKER_API_VERSION, timeout=_REPLY_S)
        self._api.trust_env = False
        self._cords = _Cords()
        self._adapter = _Adapter(f"http+unix://{path}", self._cords)
        self._api.mount("http+docker://", self._adapter)

    def cut(self) -> None:
        """Make every call that is under way, and every later one, fail at once. Any thread."""
        self._cords.cut()

    @property
    def is_cut(self) -> bool:
        return self._cords.is_over

    def close(self) -> None:
        self._api.close()
        self._adapter.close()

    def running(self) -> Any:
        """The reply to GET /containers/json: what runs now."""
        return self._json("/containers/json", {})

    def everything(self) -> Any:
        """The same of all containers that there are."""
        return self._json("/containers/json", {"all": "1"})

    def inspect(self, container_id: str) -> Any:
        """The reply to GET /containers/ID/json. `container_id` must be a full id."""
        return self._json(f"/containers/{container_id}/json", {})

    def _json(self, path: str, params: dict[str, str]) -> Any:
        with self._get(path, params, _REPLY_S) as response:
            body = bytearray()
            for piece in response.iter_content(_PIECE):
                body += piece
                if len(body) > MOST_REPLY:
                    raise OversizeError(f"{path}: an answer of more than {MOST_REPLY >> 20} MiB")
        return json.loads(body)

    @contextmanager
    def events(self) -> Iterator[Iterator[Any]]:
        """What happens to containers from now on: the stream of events, once Docker has begun it. It does not end."""
        with self._get("/events", {"filters": json.dumps(_CONTAINERS)}, None) as response:
            yield (json.loads(line) for line in _lines(response) if line.strip())

    def _get(self, path: str, params: dict[str, str], timeout_s: int | None) -> requests.Response:
        response = self._api.get(f"{self._api.base_url}{path}", params=params, stream=True, timeout=timeout_s)
        if response.status_code != 200:
            response.close()
            raise OSError(f"{path}: answered with status {response.status_code}")
        return response


def _lines(response: requests.Response) -> Iterator[bytes]:
    waiting = b""
    for piece in response.iter_content(_PIECE):
        *lines, waiting = (waiting + piece).split(b"\n")
        yield from lines
        if len(waiting) > MOST_EVENT:
            raise OversizeError(f"an event of more than {MOST_EVENT >> 20} MiB")


class _Cords:
    """The sockets of an engine, to cut them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.is_over = False

    def add(self, made: socket.socket) -> None:
        with self._lock:
            self._sockets = [one for one in self._sockets if one.fileno() >= 0] + [made]
            if self.is_over:
                made.close()
                raise OSError("the daemon stops")

    def cut(self) -> None:
        with self._lock:
            self.is_over = True
            for one in self._sockets:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


class _Adapter(UnixHTTPAdapter):
    def __init__(self, url: str, cords: _Cords) -> None:
        super().__init__(url, timeout=_REPLY_S)
        self._cords = cords
        self._pool = _Pool(self.socket_path, cords)

    def get_connection(self, url: Any, proxies: Any = None) -> _Pool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()


class _Pool(UnixHTTPConnectionPool):
    def __init__(self, path: str, cords: _Cords) -> None:
        super().__init__("http+docker://localhost", path)
        self._path, self._cords = path, cords

    def _new_conn(self) -> Any:
        return _Connection(self._path, self._cords)


class _Connection(UnixHTTPConnection):
    def __init__(self, path: str, cords: _Cords) -> None:
        super().__init__("http+docker://localhost", path, _REPLY_S)
        self._cords = cords

    def connect(self) -> None:
        super().connect()
        if self.sock is not None:
            self._cords.add(self.sock)
