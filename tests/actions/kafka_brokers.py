"""Kafka brokers of the tests' own.

The mock cluster that librdkafka has for its own tests, reached over TCP: it speaks Kafka's protocol, idempotent
producers included, without TLS and log-ins, and keeps all in memory. And the beginning of a broker that asks for a
log-in inside TLS, after the protocol's definition: kafka.apache.org/protocol.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from tests.actions.receivers import serving


class Brokers:
    """Two brokers, and how to look into them."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses

    def read(self, topic: str, count: int) -> list[Message]:
        """`count` messages of `topic`, in the order of each partition; fails if there are more."""
        config = {"bootstrap.servers": ",".join(self.addresses), "group.id": "test", "auto.offset.reset": "earliest"}
        reader = Consumer({**config, "log_level": 0, "enable.partition.eof": False})
        try:
            metadata = reader.list_topics(topic, timeout=10)
            reader.assign([TopicPartition(topic, number, 0) for number in metadata.topics[topic].partitions])
            found: list[Message] = []
            deadline = time.monotonic() + 20
            while len(found) < count:
                assert time.monotonic() < deadline, f"{len(found)} of {count} messages came"
                if (message := reader.poll(0.1)) is not None and message.error() is None:
                    found.append(message)
            assert reader.poll(0.2) is None
            return found
        finally:
            reader.close()


@contextmanager
def kafka_brokers() -> Iterator[Brokers]:
    """Start the brokers; they end with the client that holds them."""
    holder = Producer({"test.mock.num.brokers": 2, "bootstrap.servers": "none", "log_level": 0})
    try:
        found = holder.list_topics(timeout=10).brokers.values()
        yield Brokers([f"{one.host}:{one.port}" for one in found])
    finally:
        holder.close()


API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE = 18, 17, 36
UNSUPPORTED_VERSION, SASL_AUTHENTICATION_FAILED = 35, 58


class LogInBroker:
    """Shakes hands, hears a log-in by PLAIN, and refuses it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.heard: list[tuple[int, bytes]] = []
        """Each request's number and what came after its head."""
        self.port = 0

    def talk(self, client: socket.socket) -> None:
        """Answer one client until it goes away."""
        client.settimeout(10)
        with self._context.wrap_socket(client, server_side=True) as encrypted, encrypted.makefile("rb") as stream:
            while head := stream.read(4):
                request = stream.read(struct.unpack(">i", head)[0])
                key, version, number, length = struct.unpack(">hhih", request[:10])
                rest = request[10 + length :]
                self.heard.append((key, rest))
                answer = struct.pack(">i", number) + self._answer(key, version)
                encrypted.sendall(struct.pack(">i", len(answer)) + answer)

    def _answer(self, key: int, version: int) -> bytes:
        if key == API_VERSIONS:
            error = UNSUPPORTED_VERSION if version else 0
            known = {0: 7, 3: 1, API_VERSIONS: 0, SASL_HANDSHAKE: 1, SASL_AUTHENTICATE: 0}
            rows = b"".join(struct.pack(">hhh", one, 0, most) for one, most in known.items())
            return struct.pack(">hi", error, len(known)) + rows
        if key == SASL_HANDSHAKE:
            return struct.pack(">hi", 0, 1) + _text(b"PLAIN")
        assert key == SASL_AUTHENTICATE
        return struct.pack(">h", SASL_AUTHENTICATION_FAILED) + _text(b"no such user") + struct.pack(">i", 0)


def _text(value: bytes) -> bytes:
    return struct.pack(">h", len(value)) + value


@contextmanager
def log_in_broker(context: ssl.SSLContext) -> Iterator[LogInBroker]:
    """Serve until the block ends."""
    broker = LogInBroker(context)
    with serving(broker.talk) as broker.port:
        yield broker
