"""A Docker engine that makes checkpoints, as its API has it: what this machine's engine can't do without CRIU.

The calls and their answers are those of moby's api/server/router/checkpoint and daemon/checkpoint.go.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ID = "c" * 64
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


class FakeEngine:
    """One container, and its checkpoints."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.running = True
        self.exists = True
        self.checkpoints: dict[str, list[str]] = {}
        """Names by the folder that they are in; an empty text is the engine's own."""
        self.exits: list[bool] = []
        self.refusal: tuple[int, bytes] | None = None
        """What every call about checkpoints is answered with, instead."""
        self.silent = threading.Event()
        """Once set, calls about checkpoints are left unanswered until it is cleared."""

    def answer(self, method: str, path: str, query: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON of one call."""
        path = re.sub(r"^/v[0-9.]+", "", path)
        if path == "/version":
            return 200, {"ApiVersion": "1.41", "MinAPIVersion": "1.12"}
        if not self.exists:
            return 404, {"message": f"No such container: {ID}"}
        if path == f"/containers/{ID}/json":
            return 200, {"Id": ID, "State": {"Running": self.running}}
        assert path == f"/containers/{ID}/checkpoints"
        if self.refusal is not None:
            return self.refusal
        if method == "GET":
            folder = query.removeprefix("dir=").replace("%2F", "/")
            names = self.checkpoints.get(folder)
            return 200, None if names is None else [{"Name": name} for name in names]
        return self._create(json.loads(body))

    def _create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        if not self.running:
            return 409, {"message": f"Container {ID} is not running"}
        name = wanted["CheckpointID"]
        if not _NAME.fullmatch(name):
            return 400, {"message": f"Invalid checkpoint ID ({name})"}
        kept = self.checkpoints.setdefault(wanted.get("CheckpointDir", ""), [])
        if name in kept:
            return 500, {"message": f"checkpoint with name {name} already exists for container {ID}"}
        kept.append(name)
        self.exits.append(wanted.get("Exit", False))
        return 201, None


@contextmanager
def fake_engine() -> Iterator[FakeEngine]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if path.endswith("/checkpoints") and engine.silent.is_set():
                self.rfile.read(1)  # until the client gives up
                return
            status, said = engine.answer(self.command, path, query, body)
            text = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # so that they are joined

    with Server(("127.0.0.1", 0), Handler) as server:
        engine = FakeEngine(f"tcp://127.0.0.1:{server.server_port}")
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            yield engine
        finally:
            server.shutdown()
            serving.join()
