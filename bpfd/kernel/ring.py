"""A BPF ring buffer, read through mmap: no call into the kernel and none into C for a record.

The layout is the kernel's (kernel/bpf/ringbuf.c): a page with the consumer's position, a page with the producer's, then
the data. Positions grow for ever; a record is a header of 8 bytes (length, with two flag bits) and its data, padded
to 8.
"""

from __future__ import annotations

import mmap

BUSY, DISCARDED = 0x80000000, 0x40000000
"""Flags in a record's length (BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, include/uapi/linux/bpf.h)."""


class Ring:
    """One ring of `size` bytes behind the descriptor `fd`, which stays the caller's. One thread reads it.

    The data is mapped once, where the kernel would allow it twice in a row: it halves what counts as resident memory,
    and costs a join for the one record in a round that lies across the end.
    """

    def __init__(self, fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        self.fd, self.size = fd, size
        self._consumer_map = mmap.mmap(fd, page)
        self._map = mmap.mmap(fd, page + size, prot=mmap.PROT_READ, offset=page)
        self._consumer = memoryview(self._consumer_map).cast("Q")
        self._producer = memoryview(self._map)[:8].cast("Q")
        self._heads = memoryview(self._map)[page:].cast("I")
        self._data = memoryview(self._map)[page:]

    def read(self, most: int) -> list[bytes]:
        """At most `most` records, oldest first, copied out; their room is given back to the kernel on return.

        An empty list means that nothing is ready. Hot path.
        """
        at, end = self._consumer[0], self._producer[0]
        if at == end:
            return []
        records: list[bytes] = []
        heads, data, size = self._heads, self._data, self.size
        mask = size - 1
        while at < end and most:
            place = at & mask
            head = heads[place >> 2]
            if head & BUSY:
                break
            length = head & 0x3FFFFFFF
            if not head & DISCARDED:
                begin = place + 8
                if begin + length <= size:
                    records.append(bytes(data[begin : begin + length]))
                else:
                    records.append(self._across_the_end(begin & mask, length, begin))
                most -= 1
            at += (length + 15) & ~7
        self._consumer[0] = at
        return records

    def _across_the_end(self, begin: int, length: int, place: int) -> bytes:
        if place >= self.size:
            return bytes(self._data[begin : begin + length])
        first = self.size - begin
        return bytes(self._data[begin:]) + bytes(self._data[: length - first])

    def pending(self) -> int:
        """Bytes that wait in the ring."""
        return self._producer[0] - self._consumer[0]

    def close(self) -> None:
        for view in (self._consumer, self._producer, self._heads, self._data):
            view.release()
        self._consumer_map.close()
        self._map.close()
