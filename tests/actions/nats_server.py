"""A real nats-server of the tests' own."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import nats
from nats.aio.client import Client

T = TypeVar("T")


class NatsServer:
    """A nats-server with JetStream, and how to look into it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.address = f"127.0.0.1:{port}"

    def ask(self, question: Callable[[Client], Coroutine[Any, Any, T]], **options: Any) -> T:
        """What `question` finds out through a connection of its own."""

        async def _ask() -> T:
            client = await nats.connect(f"nats://{self.address}", allow_reconnect=False, **options)
            try:
                return await question(client)
            finally:
                await client.close()

        return asyncio.run(_ask())

    def add_stream(self, subjects: str, **limits: Any) -> None:
        """Have JetStream keep what is published at `subjects`."""

        async def _add(client: Client) -> None:
            await client.jetstream().add_stream(name="ALERTS", subjects=[subjects], **limits)

        self.ask(_add)

    def kept(self) -> list[tuple[str, dict[str, str], bytes]]:
        """Subject, headers and body of each message that the stream keeps."""

        async def _kept(client: Client) -> list[tuple[str, dict[str, str], bytes]]:
            stream = client.jetstream()
            state = (await stream.stream_info("ALERTS")).state
            numbers = range(state.first_seq, state.last_seq + 1) if state.messages else ()
            found = [await stream.get_msg("ALERTS", number) for number in numbers]
            return [(one.subject or "", dict(one.headers or {}), one.data or b"") for one in found]

        return self.ask(_kept)


@contextmanager
def nats_server(place: Path, more: str = "", port: int = -1) -> Iterator[NatsServer]:
    """Start nats-server with `more` in its configuration, its state in `place`; end it."""
    place.mkdir(exist_ok=True)
    config = place / "nats.conf"
    config.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{place}/state" }}\n{more}\n')
    with (place / "log").open("wb") as log:
        server = subprocess.Popen(["nats-server", "-c", str(config)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while "Server is ready" not in (said := (place / "log").read_text()):
            assert server.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
        listens = re.search(r"Listening for client connections on 127\.0\.0\.1:(\d+)", said)
        assert listens, said
        yield NatsServer(int(listens[1]))
    finally:
        server.terminate()
        server.wait(10)
