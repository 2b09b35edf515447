"""A ring buffer is read whole, in order, across its end, and no further than the kernel has got."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfd.kernel.ring import BUSY, DISCARDED, Ring

SIZE = 4096


class FakeRing:
    """The kernel's part, in memory: a consumer's page, a producer's page, the data."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ring")
        os.truncate(self.fd, 2 * mmap.PAGESIZE + SIZE)
        self.memory = mmap.mmap(self.fd, 2 * mmap.PAGESIZE + SIZE)
        self.at = 0

    def put(self, data: bytes, flags: int = 0) -> bool:
        """Write a record; False: there is no room."""
        length = (len(data) + 8 + 7) & ~7
        consumed = struct.unpack_from("=Q", self.memory, 0)[0]
        if self.at + length - consumed > SIZE:
            return False
        for number, byte in enumerate(struct.pack("=II", len(data) | flags, 0) + data):
            self.memory[2 * mmap.PAGESIZE + (self.at + number) % SIZE] = byte
        self.at += length
        struct.pack_into("=Q", self.memory, mmap.PAGESIZE, self.at)
        return True

    def submit(self, at: int, data: bytes) -> None:
        struct.pack_into("=I", self.memory, 2 * mmap.PAGESIZE + at, len(data))

    def close(self) -> None:
        self.memory.close()
        os.close(self.fd)


@pytest.fixture
def fake() -> Iterator[FakeRing]:
    made = FakeRing()
    yield made
    made.close()


@pytest.fixture
def ring(fake: FakeRing) -> Iterator[Ring]:
    made = Ring(fake.fd, SIZE)
    yield made
    made.close()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.binary(max_size=900), st.booleans(), st.integers(1, 5)), max_size=60))
def test_whatever_was_put_comes_out_in_order(ring: Ring, fake: FakeRing, puts: list[tuple[bytes, bool, int]]) -> None:
    expected: list[bytes] = []
    found: list[bytes] = []
    for data, discarded, most in puts:
        while not fake.put(data, DISCARDED if discarded else 0):
            found += ring.read(most)
        if not discarded:
            expected.append(data)
    while records := ring.read(3):
        found += records
    assert found == expected
    assert ring.pending() == 0


def test_a_record_that_is_still_being_written_is_waited_for(ring: Ring, fake: FakeRing) -> None:
    fake.put(b"first")
    fake.put(b"busy", BUSY)
    fake.put(b"third")
    assert ring.read(10) == [b"first"]
    assert ring.read(10) == []
    fake.submit(16, b"busy")
    assert ring.read(10) == [b"busy", b"third"]
