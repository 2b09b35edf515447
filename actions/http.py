"""One POST, with every limit that a receiver can't talk its way around."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from bpfd import options
from bpfd.errors import ActionError, RejectedError, RetryLaterError

TIMEOUT_S = 10.0
_ANSWER_BYTES = 64 * 1024
_NEVER = frozenset({400, 406, 411, 413, 414, 415, 422, 431})
"""What a receiver answers when the message itself is wrong. Other errors may be put right without changing it."""


class Answer(NamedTuple):
    """What the receiver said; at most 64 KiB of the body."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class Poster:
    """Posts to one URL. The whole exchange has a time limit, redirects are not followed, errors never show the path."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        """Raises `ActionError` for a URL that is none; its text does not repeat it, for it may hold a secret."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ActionError("url: is not a URL") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or not url.isprintable():
            raise ActionError("url: must be https://HOST/… (or http://), without a user")
        if " " in url or not url.isascii():
            raise ActionError("url: must be ASCII without spaces; write others as %XX, and a host's as xn--…")
        self.where = parts.hostname if port is None else f"{parts.hostname}:{port}"
        """Host and port, for messages."""
        self._host, self._port = parts.hostname, port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._timeout_s = timeout_s

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send `body`. Raises `ActionError` if no whole answer came in time."""
        connection = self._connection()
        late = threading.Event()
        timer = threading.Timer(self._timeout_s, _cut, (connection, late))
        timer.daemon = True
        timer.start()
        try:
            self._open(connection)
            connection.request("POST", self._target, body, {"User-Agent": "bpfd", "Connection": "close", **headers})
            with connection.getresponse() as response:  # it has the socket, where the receiver closes the connection
                answer = response.read(_ANSWER_BYTES)
                if late.is_set() or (response.length and len(answer) < _ANSWER_BYTES):
                    raise http.client.IncompleteRead(b"")
                return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ActionError(f"{self.where}: {_reason(error, late.is_set(), self._timeout_s)}") from None
        finally:
            timer.cancel()
            connection.close()
            timer.join()

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)

    def _open(self, connection: http.client.HTTPConnection) -> None:
        """Connect by steps, so that whoever cuts the connection finds its socket, the one of a handshake too."""
        connection.sock = socket.create_connection((connection.host, connection.port), self._timeout_s)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            tls = self._tls.wrap_socket(connection.sock, server_hostname=self._host, do_handshake_on_connect=False)
            connection.sock = tls
            tls.do_handshake()

    def check(self, answer: Answer) -> None:
        """Raise what `answer` means for the alert, if it is not a success."""
        if 200 <= answer.status < 300:
            return
        if 300 <= answer.status < 400:
            raise ActionError(f"{self.where}: answered {answer.status}: redirects are not followed; set the final url")
        text = f"{self.where}: answered {answer.status} {http.client.responses.get(answer.status, '')}".rstrip()
        if answer.status in _NEVER:
            raise RejectedError(text)
        after_s = retry_after_s(answer.headers.get("retry-after", ""))
        if answer.status in {429, 503} and after_s is not None:
            raise RetryLaterError(text, after_s)
        raise ActionError(text)


def url_of(settings: Mapping[str, Any]) -> str:
    """The URL that `url` holds, or `url_env` or `url_file` name. Raises `ActionError`."""
    if "url" in settings:
        return options.text(settings, "url")
    return options.secret(settings, "url", required=True) or ""


def retry_after_s(value: str) -> float | None:
    """The seconds that a Retry-After header asks for, given as a number or as a date; None if it is neither."""
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _cut(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    """End an exchange that takes too long, whatever the receiver drips into it."""
    late.set()
    sock = connection.sock
    if sock is not None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it ended by itself


def _reason(error: Exception, late: bool, timeout_s: float) -> str:
    if late or isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead):
        return "closed the connection before its answer was whole"
    if isinstance(error, OSError):
        return error.strerror or "the connection failed"
    return "its answer is not HTTP"
