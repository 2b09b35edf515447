"""Kafka brokers of the tests' own: the mock cluster that librdkafka has for its own tests, reached over TCP.

It speaks Kafka's protocol, idempotent producers included, without TLS and log-ins, and keeps all in memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, Message, Producer, TopicPartition


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
