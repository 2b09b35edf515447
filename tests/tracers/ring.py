"""io_uring by its bare system calls, for tests: one request at a time (io_uring_setup(2), io_uring_enter(2))."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import time
from types import TracebackType

SETUP, ENTER = 425, 426
GET_EVENTS, WAKE_UP = 1, 2
SQPOLL = 2
RINGS_AT, REQUESTS_AT = 0, 0x10000000
REQUEST = struct.Struct("=BBHiQQIIQHHiQQ")
"""struct io_uring_sqe: operation, flags, priority, descriptor, offset, address, length, its flags, user data."""
libc = ctypes.CDLL(None, use_errno=True)


class Ring:
    """A ring with room for 8 requests."""

    def __init__(self, flags: int = 0) -> None:
        self._parameters = ctypes.create_string_buffer(120)
        struct.pack_into("=III", self._parameters, 0, 0, 0, flags)
        self.flags = flags
        self.fd = libc.syscall(SETUP, 8, self._parameters)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.entries, *_ = struct.unpack_from("=I", self._parameters)
        head, tail, mask, _, _, _, array, _, _ = struct.unpack_from("=8IQ", self._parameters, 40)
        self._queue = head, tail, mask, array
        head, tail, mask, _, _, found, _, _, _ = struct.unpack_from("=8IQ", self._parameters, 80)
        self._done = head, tail, mask, found
        self._rings = mmap.mmap(self.fd, array + 4 * self.entries + 4096, offset=RINGS_AT)
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

    def do(
        self,
        operation: int,
        descriptor: int = -1,
        address: bytes | int = 0,
        length: int = 0,
        offset: bytes | int = 0,
        operation_flags: int = 0,
        flags: int = 0,
        tag: int = 0,
    ) -> int:
        """Submit one request and wait for its result. Bytes are passed by their address."""
        kept = [ctypes.create_string_buffer(one) if isinstance(one, bytes) else one for one in (address, offset)]
        where = [one if isinstance(one, int) else ctypes.addressof(one) for one in kept]
        _, tail, mask, array = self._queue
        number = self._word(tail)
        slot = number & self._word(mask)
        self._requests[64 * slot : 64 * slot + 64] = REQUEST.pack(
            operation, flags, 0, descriptor, where[1], where[0], length, operation_flags, tag, 0, 0, 0, 0, 0
        )
        self._set(array + 4 * slot, slot)
        self._set(tail, number + 1)
        entered = libc.syscall(ENTER, self.fd, 1, 1, GET_EVENTS | (WAKE_UP if self.flags & SQPOLL else 0), None, 0)
        if entered < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return self._result()

    def _result(self) -> int:
        head, tail, mask, found = self._done
        number = self._word(head)
        deadline = time.monotonic() + 5
        while self._word(tail) == number:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        at = found + 16 * (number & self._word(mask))
        self._set(head, number + 1)
        return struct.unpack_from("=i", self._rings, at + 8)[0]
