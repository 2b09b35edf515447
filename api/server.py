"""The gRPC server: one thread with an event loop, so that a client of the live trace costs no thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio  # type: ignore[attr-defined]  # missing in the stubs
from grpc_reflection.v1alpha import reflection

from bpfd.api import bpfd_pb2, bpfd_pb2_grpc, legacy_pb2, legacy_pb2_grpc
from bpfd.api.address import parse_address
from bpfd.api.calls import Calls
from bpfd.api.feeds import Feeds
from bpfd.api.listen import Listener, listener
from bpfd.api.services import MOST_RULE_BYTES, BpfdService, LegacyService
from bpfd.control import Control

log = logging.getLogger(__name__)

_SERVICES = (
    bpfd_pb2.DESCRIPTOR.services_by_name["Bpfd"].full_name,
    legacy_pb2.DESCRIPTOR.services_by_name["API"].full_name,
)

_OPTIONS = (
    ("grpc.max_receive_message_length", MOST_RULE_BYTES + (64 << 10)),
    ("grpc.so_reuseport", 0),  # a second daemon on the same port must fail, not share it
    ("grpc.keepalive_time_ms", 60_000),  # notice a client whose machine is gone
    ("grpc.keepalive_timeout_ms", 20_000),
)


class Server:
    """Serves `control` at `address`. `start` and `stop` are called on any thread, once each."""

    def __init__(self, control: Control, address: str) -> None:
        """Raises ApiError if `address` is none."""
        self._control = control
        self._address = parse_address(address)
        self._thread = threading.Thread(target=self._run, name="bpfd-api", daemon=True)
        self._started: Future[str] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._grace_s = 0.0

    @property
    def address(self) -> str:
        """Where it listens, with the real port; valid after `start`."""
        return self._started.result(0)

    def start(self) -> None:
        """Listen; clients can call when this returns. Raises ApiError if the address can't be had."""
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self._thread.join()
            raise

    def stop(self, grace: float = 2.0) -> None:
        """End the live traces, give running calls `grace` seconds, close and remove the socket. Idempotent."""
        if self._loop is None or self._stopping is None or not self._thread.is_alive():
            return
        self._grace_s = grace
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._started.done():
                # Without the frames, which would keep gRPC's server, and so its poller's thread, alive.
                error.__context__ = None
                self._started.set_exception(error.with_traceback(None))
            else:
                log.exception("the API ended")

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = grpc.aio.server(options=_OPTIONS)
        calls = Calls()
        feeds = Feeds(self._control, calls)
        health = await _add_services(server, self._control, calls, feeds)
        place: Listener = listener(self._address)
        try:
            place.bind(server)
            await server.start()
            place.publish()
            self._started.set_result(str(place.address))
            await self._stopping.wait()
            await health.enter_graceful_shutdown()
        finally:
            feeds.end()
            await server.stop(self._grace_s)
            place.remove()
            calls.close()


async def _add_services(server: grpc.aio.Server, control: Control, calls: Calls, feeds: Feeds) -> Any:
    """Put every service into `server`; returns the health service, which has no types."""
    bpfd_pb2_grpc.add_BpfdServicer_to_server(BpfdService(control, calls, feeds), server)
    legacy_pb2_grpc.add_APIServicer_to_server(LegacyService(control, calls, feeds), server)
    health = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    for name in _SERVICES:
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection((*_SERVICES, "grpc.health.v1.Health", reflection.SERVICE_NAME), server)
    return health
