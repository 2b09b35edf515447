"""Takes the daemon's address: a Unix socket that is never wider open than it should be, or a TCP port."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import tempfile

import grpc

from bpfd.api.address import LONGEST_PATH, Address, TcpAddress, UnixAddress
from bpfd.errors import ApiError

log = logging.getLogger(__name__)

_PROBE_S = 1.0


class UnixListener:
    """A socket file, made in a private directory and linked to its place once its permissions are right.

    `bind`, then `publish`; the owner calls `remove` at the end, also after a failure.
    """

    def __init__(self, address: UnixAddress) -> None:
        self.address: Address = address
        self._path = address.path
        self._private = ""
        self._inode: tuple[int, int] | None = None

    def bind(self, server: grpc.aio.Server) -> None:
        """Give `server` a socket that nobody else can reach yet. Raises ApiError if the address can't be had."""
        try:
            _make_parent(os.path.dirname(self._path))
            _make_room(UnixAddress(self._path))
            self._private = tempfile.mkdtemp(prefix=".", dir=os.path.dirname(self._path))
        except OSError as error:
            raise ApiError(f"{self._path}: cannot listen: {error.strerror}; {_advice(error)}") from None
        hidden = UnixAddress(os.path.join(self._private, "s"))
        if len(os.fsencode(hidden.path)) > LONGEST_PATH:
            raise ApiError(f"{self._path}: the path of the socket's directory is too long; use a shorter one")
        try:
            server.add_insecure_port(hidden.target)
        except RuntimeError as error:
            raise ApiError(f"{self._path}: cannot listen: {error}; choose another --grpc-addr") from None

    def publish(self) -> None:
        """Put the socket in its place. Raises ApiError if somebody took the place meanwhile."""
        hidden = os.path.join(self._private, "s")
        try:
            os.chmod(hidden, 0o660)
            status = os.stat(hidden)
            os.link(hidden, self._path)
        except FileExistsError:
            raise _in_use(self._path) from None
        except OSError as error:
            raise ApiError(f"{self._path}: cannot listen: {error.strerror}; {_advice(error)}") from None
        self._inode = (status.st_dev, status.st_ino)
        self._remove_private()

    def remove(self) -> None:
        """Remove the socket file, unless another daemon's stands there by now. Idempotent."""
        self._remove_private()
        if self._inode is None:
            return
        with contextlib.suppress(OSError):
            status = os.lstat(self._path)
            if (status.st_dev, status.st_ino) == self._inode:
                os.unlink(self._path)
        self._inode = None

    def _remove_private(self) -> None:
        if self._private:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._private, "s"))
            with contextlib.suppress(OSError):
                os.rmdir(self._private)
            self._private = ""


class TcpListener:
    """A TCP port without encryption."""

    def __init__(self, address: TcpAddress) -> None:
        self.address: Address = address
        self._wanted = address

    def bind(self, server: grpc.aio.Server) -> None:
        """Listen; `address` then holds the port. Raises ApiError if the address can't be had."""
        wanted = self._wanted
        if not wanted.is_loopback:
            log.warning("%s: anyone who reaches this address controls bpfd; prefer a Unix socket or loopback", wanted)
        try:
            port = server.add_insecure_port(wanted.target)
        except RuntimeError:
            raise ApiError(f"{wanted}: cannot listen: {_tcp_reason(wanted)}; choose another --grpc-addr") from None
        self.address = TcpAddress(wanted.host, port)

    def publish(self) -> None:
        """Nothing: a port is reached as soon as it is bound."""

    def remove(self) -> None:
        """Nothing: the server closes the port."""


Listener = UnixListener | TcpListener


def listener(address: Address) -> Listener:
    return UnixListener(address) if isinstance(address, UnixAddress) else TcpListener(address)


def _make_parent(parent: str) -> None:
    if not os.path.isdir(parent):
        os.makedirs(parent, mode=0o750, exist_ok=True)
        os.chmod(parent, 0o750)  # noqa: S103  # whatever the umask


def _make_room(address: UnixAddress) -> None:
    """Remove a socket that nobody answers. Raises ApiError if somebody does, or if it is no socket; OSError."""
    try:
        mode = os.lstat(address.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ApiError(f"{address.path}: exists and is not a socket; move it away, or choose another --grpc-addr")
    try:
        address.connect(_PROBE_S).close()
    except ConnectionRefusedError:
        log.info("%s: removed the socket of a daemon that is gone", address.path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address.path)
    except FileNotFoundError:
        return
    except (TimeoutError, BlockingIOError):  # its queue is full: somebody holds it
        raise _in_use(address.path) from None
    else:
        raise _in_use(address.path)


def _in_use(path: str) -> ApiError:
    return ApiError(
        f"{path}: address in use: another bpfd daemon listens there; stop it, or choose another --grpc-addr"
    )


def _advice(error: OSError) -> str:
    return (
        "run as root, or choose another --grpc-addr"
        if isinstance(error, PermissionError)
        else "choose another --grpc-addr"
    )


def _tcp_reason(address: TcpAddress) -> str:
    """Why the port can't be had; gRPC does not say."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen(1)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "the port cannot be bound"
