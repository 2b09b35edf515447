"""io_uring by its bare system calls, for tests: one request at a time (io_uring_setup(2), io_uring_enter(2))."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import time
from types import TracebackType
from typing import Any

SETUP, ENTER, REGISTER = 425, 426, 427
REGISTER_FILES = 2
GET_EVENTS, WAKE_UP = 1, 2
SQPOLL, CQSIZE = 2, 8
RINGS_AT, REQUESTS_AT = 0, 0x10000000
REQUEST = struct.Struct("=BBHiQQIIQHHiQQ")
"""struct io_uring_sqe: operation, flags, priority, descriptor, offset, address, length, its flags, user data."""
libc = ctypes.CDLL(None, use_errno=True)


class Ring:
    """A ring with room for 8 requests, and for `results`; 0: for 16."""

    def __init__(self, flags: int = 0, results: int = 0) -> None:
        self._parameters = ctypes.create_string_buffer(120)
        struct.pack_into("=III", self._parameters, 0, 0, results, flags | (CQSIZE if results else 0))
        self.flags = flags
        self.fd = libc.syscall(SETUP, 8, self._parameters)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.entries, *_ = struct.unpack_from("=I", self._parameters)
        head, tail, mask, _, _, _, array, _, _ = struct.unpack_from("=8IQ", self._parameters, 40)
        self._queue = head, tail, mask, array
        head, tail, mask, _, _, found, _, _, _ = struct.unpack_from("=8IQ", self._parameters, 80)
        self._done = head, tail, mask, found
        self._rings = mmap.mmap(self.fd, max(array + 4 * self.entries, found + 16 * results) + 4096, offset=RINGS_AT)
        self._requests = mmap.mmap(self.fd, 64 * self.entries, offset=REQUESTS_AT)

    def __enter__(self) -> Ring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rings.close()
        self._requests.close()
        os.close(self.fd)

    def _word(self, at: int) -> int:
        return int.from_bytes(self._rings[at : at + 4], "little")

    def _set(self, at: int, number: int) -> None:
        self._rings[at : at + 4] = number.to_bytes(4, "little")

    def do(self, *request: Any, **more: Any) -> int:
        """Submit one request, given as for `submit`, and wait for its result."""
        self.submit(*request, **more, wait=1)
        return self.take()

    def submit(
        self,
        operation: int,
        descriptor: int = -1,
        address: bytes | int = 0,
        length: int = 0,
        offset: bytes | int = 0,
        operation_flags: int = 0,
        flags: int = 0,
        tag: int = 0,
        slot: int = 0,
        wait: int = 0,
    ) -> None:
        """Submit one request, and wait until `wait` results are there; nobody takes them. Bytes are passed by their
        address."""
        kept = [ctypes.create_string_buffer(one) if isinstance(one, bytes) else one for one in (address, offset)]
        where = [one if isinstance(one, int) else ctypes.addressof(one) for one in kept]
        _, tail, mask, array = self._queue
        number = self._word(tail)
        place = number & self._word(mask)
        self._requests[64 * place : 64 * place + 64] = REQUEST.pack(
            operation, flags, 0, descriptor, where[1], where[0], length, operation_flags, tag, 0, 0, slot, 0, 0
        )
        self._set(array + 4 * place, place)
        self._set(tail, number + 1)
        entered = libc.syscall(ENTER, self.fd, 1, wait, GET_EVENTS | (WAKE_UP if self.flags & SQPOLL else 0), None, 0)
        if entered < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def register_files(self, count: int) -> None:
        """Give the ring a table of `count` files of its own, all free (io_uring_register(2))."""
        if libc.syscall(REGISTER, self.fd, REGISTER_FILES, (ctypes.c_int * count)(*[-1] * count), count):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def take(self) -> int:
        """The next result."""
        head, tail, mask, found = self._done
        number = self._word(head)
        deadline = time.monotonic() + 30
        while self._word(tail) == number:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        at = found + 16 * (number & self._word(mask))
        self._set(head, number + 1)
        return struct.unpack_from("=i", self._rings, at + 8)[0]
