"""Where the daemon listens: `unix:///run/bpfd/bpfd.sock`, `/run/bpfd/bpfd.sock`, `tcp://[::1]:7701`, `[::1]:7701`."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from urllib.parse import quote

from bpfd.errors import ApiError

LONGEST_PATH = 107
"""Bytes of a Unix socket's path: what `struct sockaddr_un` holds, without the closing NUL."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    path: str

    def __str__(self) -> str:
        return f"unix://{self.path}"

    @property
    def target(self) -> str:
        """The name that gRPC takes: a URI, so that characters with a meaning there are escaped."""
        return "unix:" + quote(os.fsencode(self.path))

    def connect(self, timeout_s: float) -> socket.socket:
        """A connection. The caller closes it. Raises OSError."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(timeout_s)
        try:
            connection.connect(self.path)
        except BaseException:
            connection.close()
            raise
        return connection


@dataclass(frozen=True, slots=True)
class TcpAddress:
    host: str
    port: int
    """0: any that is free; for listening only."""

    def __str__(self) -> str:
        return f"tcp://{self.target}"

    @property
    def target(self) -> str:
        """The name that gRPC takes."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def connect(self, timeout_s: float) -> socket.socket:
        """A connection. The caller closes it. Raises OSError."""
        return socket.create_connection((self.host, self.port), timeout_s)


Address = UnixAddress | TcpAddress


def parse_address(text: str) -> Address:
    """Read an address in any of its forms. Raises ApiError, which names the forms."""
    if text.startswith("unix:"):
        return _unix(text, re.sub(r"^unix:(//(?=/))?", "", text))
    if text.startswith(("/", "./", "../")):
        return _unix(text, text)
    match = re.fullmatch(r"(?:tcp://)?(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise ApiError(
            f"{text!r}: not an address; write unix:///run/bpfd/bpfd.sock, /run/bpfd/bpfd.sock or 127.0.0.1:7701"
        )
    return TcpAddress(match[1] or match[2], int(match[3]))


def check_daemon(address: Address, timeout_s: float) -> None:
    """Raise ApiError if nobody answers at `address`: asked of the kernel, which gives the reason at once."""
    try:
        address.connect(timeout_s).close()
    except (FileNotFoundError, ConnectionRefusedError):
        raise ApiError(f"{address}: no bpfd daemon runs there; start it with: bpfd daemon") from None
    except PermissionError:
        raise ApiError(f"{address}: permission denied; run as root, or as a member of the socket's group") from None
    except TimeoutError:
        raise ApiError(f"{address}: no answer within {timeout_s:g} s; is bpfd daemon running there?") from None
    except OSError as error:
        reason = error.strerror or error
        raise ApiError(f"{address}: cannot connect: {reason}; start the daemon with: bpfd daemon") from None


def _unix(text: str, path: str) -> UnixAddress:
    if not path or path.endswith("/") or "\0" in path:
        raise ApiError(f"{text!r}: not an address; write a path, such as unix:///run/bpfd/bpfd.sock")
    absolute = os.path.abspath(path)
    if len(os.fsencode(absolute)) > LONGEST_PATH:
        raise ApiError(f"{text!r}: a Unix socket's path has at most {LONGEST_PATH} bytes; use a shorter one")
    return UnixAddress(absolute)
