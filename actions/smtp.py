"""SMTP with a limit for the whole conversation, in time and in bytes, that no server can talk its way around."""

from __future__ import annotations

import smtplib
import socket
import time
from typing import Any

_MOST_BYTES = 64 * 1024
"""What a server may say in one conversation. The library alone reads lines for as long as they come."""


class _Answers:
    """What the server says, in place of the library's file."""

    def __init__(self, sock: socket.socket, limit: _Limit) -> None:
        self._sock = sock
        self._limit = limit
        self._rest = b""

    def readline(self, most: int) -> bytes:
        """A line, of at most so many bytes; what there is if the server closed. Raises OSError."""
        while b"\n" not in self._rest and len(self._rest) < most:
            self._sock.settimeout(self._limit.left_s())
            part = self._sock.recv(4096)
            if not part:
                break
            self._limit.take(len(part))
            self._rest += part
        end = min(self._rest.find(b"\n") + 1 or len(self._rest), most)
        found, self._rest = self._rest[:end], self._rest[end:]
        return found

    def close(self) -> None:
        """Nothing: the socket is the library's."""


class _Limit:
    def __init__(self, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._bytes = 0

    def left_s(self) -> float:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def take(self, count: int) -> None:
        self._bytes += count
        if self._bytes > _MOST_BYTES:
            raise OSError("it talks without an end")


class Plain(smtplib.SMTP):
    """A connection that may be encrypted by `starttls`. `timeout_s` is for all of the conversation."""

    def __init__(self, host: str, port: int, timeout_s: float, **more: Any) -> None:
        self._limit = _Limit(timeout_s)
        super().__init__(host, port, timeout=timeout_s, **more)

    def getreply(self) -> tuple[int, bytes]:
        """Read one answer, within the limits."""
        if self.file is None and self.sock is not None:
            self.file = _Answers(self.sock, self._limit)
        return super().getreply()


class Encrypted(Plain, smtplib.SMTP_SSL):
    """A connection that is encrypted from its first byte."""
