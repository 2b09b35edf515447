"""A ring buffer is read whole, in order, across its end, and no further than the kernel has got."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfd.kernel.program import Build
from bpfd.kernel.ring import BUSY, DISCARDED, Ring
from bpfd.rules import model
from bpfd.tracers.open import OpenTracer
from tests.kernel.conftest import Bench

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

    def submit(self, at: int, data: bytes, flags: int = 0) -> None:
        struct.pack_into("=I", self.memory, 2 * mmap.PAGESIZE + at, len(data) | flags)

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


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
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


@pytest.mark.parametrize("gap", range(8, 73, 8))
def test_a_record_that_lies_across_the_end_is_joined(ring: Ring, fake: FakeRing, gap: int) -> None:
    """`gap` bytes are left before the end: for the head alone, or for the head and a part of the data."""
    fake.put(bytes(SIZE - gap - 8))
    assert len(ring.read(1)) == 1
    data = bytes(range(64))
    fake.put(data)
    fake.put(b"next")
    assert ring.read(10) == [data, b"next"]


def test_discarded_records_give_their_room_back(ring: Ring, fake: FakeRing) -> None:
    for _ in range(100):
        assert fake.put(bytes(1000), DISCARDED)
        assert ring.read(10) == []
        assert ring.pending() == 0


def test_no_more_are_taken_than_asked_for(ring: Ring, fake: FakeRing) -> None:
    for number in range(5):
        fake.put(b"%d" % number)
    assert ring.read(2) == [b"0", b"1"]
    assert ring.pending() == 3 * 16
    assert ring.read(0) == []
    assert ring.read(10) == [b"2", b"3", b"4"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "begin", "finish", "drop", "read"]), st.binary(max_size=600)), max_size=80
    )
)
def test_records_finished_in_any_order_come_out_in_the_order_in_which_they_were_begun(
    ring: Ring, fake: FakeRing, steps: list[tuple[str, bytes]]
) -> None:
    expected: list[bytes] = []
    found: list[bytes] = []
    unfinished: list[tuple[int, int]] = []
    dropped: set[int] = set()

    def finish(place: tuple[int, int], flags: int) -> None:
        at, number = place
        fake.submit(at, expected[number], flags)
        if flags:
            dropped.add(number)

    for step, data in steps:
        at = fake.at % SIZE
        if step == "read":
            found += ring.read(3)
        elif step == "put" and fake.put(data):
            expected.append(data)
        elif step == "begin" and fake.put(data, BUSY):
            unfinished.append((at, len(expected)))
            expected.append(data)
        elif step in ("finish", "drop") and unfinished:
            finish(unfinished.pop(len(data) % len(unfinished)), DISCARDED if step == "drop" else 0)
    for place in unfinished:
        finish(place, 0)
    while records := ring.read(10):
        found += records
    assert found == [data for number, data in enumerate(expected) if number not in dropped]
    assert ring.pending() == 0


def test_what_was_lost_and_what_was_received_is_what_was_seen_to_the_event(build: Build) -> None:
    """The smallest ring there is, and nobody who reads it in time."""
    bench = Bench(OpenTracer, build, ring_bytes=mmap.PAGESIZE)
    try:
        bench.judge_by(
            [model.All((model.Test("filename", "contains", ("flood-",)), model.Test("pid", "is", (str(os.getpid()),))))]
        )
        passed, lost = bench.program.passed, bench.program.lost
        received = 0
        for number in range(3000):
            with contextlib.suppress(FileNotFoundError):
                os.open(f"/nowhere/flood-{number}", os.O_RDONLY)
            if number % 100 == 0:
                received += len(bench.program.ring.read(10))
        received += len(bench.events())
        lost = bench.program.lost - lost - bench.program.skipped
        assert bench.program.passed - passed == 3000
        assert received + lost == 3000
        assert lost > 1000
        assert received > 300
    finally:
        bench.close()
