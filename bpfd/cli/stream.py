"""A stream of lines on standard output that ends when it is told to, whether or not anybody reads."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any

from bpfd.errors import BpfdError

GRACE_S = 0.4
"""How long a reader may take for what is left once the end has come."""
LOOK_MS = 50
"""How often a writer that waits looks whether the end has come."""
PIECE = 4096
"""What a pipe that says that it has room takes without waiting (PIPE_BUF, pipe(7))."""


class Ending:
    """When a command ends: on SIGINT or SIGTERM, or after a time. A second signal ends the program at once.

    Main thread only; the block's end restores the handlers.
    """

    def __init__(self, wake: Callable[[], None], after_s: float | None = None) -> None:
        """`wake` is called by the signals' handler."""
        self._wake = wake
        self._ends_at = None if after_s is None else time.monotonic() + after_s
        self._before: dict[int, Any] = {}
        self.signal = 0
        """The signal that came; 0: none."""

    def __enter__(self) -> Ending:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def left_s(self) -> float | None:
        """How long there is still to go: 0 once the end has come, None if nothing but a signal brings it."""
        return None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

    def come(self) -> bool:
        """Has the end come?"""
        return self.left_s() == 0

    def now(self) -> None:
        """Let the end come now."""
        self._ends_at = 0.0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            os._exit(128 + number)
        self.signal = number
        self.now()
        self._wake()


class Output:
    """Writes to a descriptor, and waits for its reader until the end comes and `GRACE_S` more."""

    def __init__(self, fd: int, ending: Ending) -> None:
        self._fd, self._ending = fd, ending
        self._room = select.poll()
        self._room.register(fd, select.POLLOUT)
        self._gives_up_at: float | None = None
        self._gave_up = False
        """It stays so: a line was torn."""

    def write(self, lines: Sequence[str]) -> int:
        """Write `lines`; how many were written whole. Fewer than all only where the end has come and nobody reads.

        Raises `BrokenPipeError` once nobody ever will, and `BpfdError` if the disk is full.
        """
        parts = [line.encode("utf-8", "backslashreplace") for line in lines]
        rest = memoryview(b"".join(parts))
        while rest and self._wait_for_room():
            rest = rest[self._write(rest[:PIECE]) :]
        unread, whole = len(rest), len(parts)
        while unread > 0:
            whole -= 1
            unread -= len(parts[whole])
        return whole

    def _write(self, piece: memoryview) -> int:
        try:
            return os.write(self._fd, piece)
        except BrokenPipeError:
            raise
        except BlockingIOError:  # somebody who shares the pipe made it non-blocking, and was quicker
            return 0
        except OSError as error:
            raise BpfdError(f"standard output: cannot be written: {error.strerror}") from None

    def _wait_for_room(self) -> bool:
        while not self._gave_up:
            if self._room.poll(LOOK_MS):  # what the poll says of errors, write says better
                return True
            if self._ending.come():
                now = time.monotonic()
                self._gives_up_at = self._gives_up_at or now + GRACE_S
                self._gave_up = now > self._gives_up_at
        return False
