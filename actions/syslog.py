"""syslog: sends alerts to a syslog server."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from bpfd import options
from bpfd.alert import Alert
from bpfd.errors import ActionError
from bpfd.event import Event, printable, utf8
from bpfd.format import line
from bpfd.plugin import Action
from bpfd.rules.model import SEVERITIES  # in the order of RFC 5424

FACILITIES = (
    "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp audit alert clock "
    "local0 local1 local2 local3 local4 local5 local6 local7"
).split()
_MOST_BYTES = 8192  # RFC 5425 asks receivers to take that much; datagrams that are cut on the way are their loss
_ID_AND_ENTERPRISE = "bpfd@32473"  # 32473 is the number for those who have none, RFC 5612


class Syslog(Action):
    """Send each alert to syslog in the form of RFC 5424, over a Unix socket, UDP, TCP or TLS."""

    name = "syslog"
    settings = {
        "address": "/dev/log (the default), udp://HOST:514, tcp://HOST:601 or tls://HOST:6514",
        "facility": "authpriv (the default), daemon, local0 …",
        "severity": "critical, warning, notice …; left out: the severity of the rule",
        "timeout": "how long one step of sending may take; 10s",
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        facility = options.choice(settings, "facility", FACILITIES, "authpriv")
        self._facility = FACILITIES.index(facility)
        self._severity = options.choice(settings, "severity", ("", *SEVERITIES), "")
        self._timeout_s = options.seconds(settings, "timeout", 10, 0.1, 300)
        self._address = options.text(settings, "address", "/dev/log")
        self._kind, self._host, self._port = _address(self._address)
        self._tls = ssl.create_default_context() if self._kind == "tls" else None
        self._socket: socket.socket | None = None

    def act(self, event: Event) -> None:
        """Send one event."""
        self.send(Alert(event))

    def send(self, alert: Alert) -> None:
        """Send `alert`. Raises `ActionError`; syslog never says what it did with a message that arrived."""
        message = rfc5424(alert, self._facility * 8 + SEVERITIES.index(self._severity or alert.severity))
        if self._kind in {"tcp", "tls"}:
            message = b"%d %s" % (len(message), message)  # octet counting, RFC 6587 and RFC 5425
        try:
            if self._socket is not None and self._has_ended(self._socket):
                self.close()
            if self._socket is None:
                self._socket = self._connect()
            self._socket.sendall(message)
        except OSError as error:
            self.close()
            raise ActionError(f"{self._address}: cannot be reached: {error.strerror or 'no answer in time'}") from None

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        if self._kind == "unix":
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            made.settimeout(self._timeout_s)
            try:
                made.connect(self._host)
            except OSError:
                made.close()
                raise
            return made
        if self._kind == "udp":
            family, _, _, _, target = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
            made = socket.socket(family, socket.SOCK_DGRAM)
            made.settimeout(self._timeout_s)
            made.connect(target)
            return made
        made = socket.create_connection((self._host, self._port), self._timeout_s)
        if self._tls is None:
            return made
        try:
            return self._tls.wrap_socket(made, server_hostname=self._host)
        except OSError:
            made.close()
            raise

    def _has_ended(self, connection: socket.socket) -> bool:
        """True if the server closed the stream: the first send after that would be lost without an error."""
        if self._kind not in {"tcp", "tls"}:
            return False
        connection.settimeout(0)
        try:
            return connection.recv(4096) == b""
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        finally:
            connection.settimeout(self._timeout_s)


def rfc5424(alert: Alert, priority: int) -> bytes:
    """One message, with the event's fields as structured data and the readable line as text."""
    event = alert.event
    stamp = datetime.fromtimestamp(event.time // 1000 / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    named = {
        "id": alert.id,
        "kind": alert.kind,
        "rule": event.rule,
        "tracer": event.tracer,
        "pid": str(event.pid),
        "uid": str(event.uid),
        "command": event.command,
        "containerID": event.container.id,
        "containerRuntime": event.container.runtime,
        **event.data,
    }
    data = " ".join(f'{_param_name(key)}="{_param_value(value)}"' for key, value in named.items())
    header = f"<{priority}>1 {stamp} {_word(event.host, 255)} bpfd {os.getpid()} {_word(event.tracer, 32)} "
    text = printable(alert.text) or line(event)
    return _cut(f"{header}[{_ID_AND_ENTERPRISE} {data}]".encode(), f" \ufeff{text}".encode())


def _cut(head: bytes, text: bytes) -> bytes:
    """Head and text in what a receiver must take; without its data if those alone are too long."""
    if len(head) > _MOST_BYTES - 512:
        head = head[: head.index(b"[")] + b"-"
    whole = head + text
    if len(whole) <= _MOST_BYTES:
        return whole
    return whole[:_MOST_BYTES].decode("utf-8", "ignore").encode()


def _word(text: str, most: int) -> str:
    return "".join(c for c in text if "!" <= c <= "~")[:most] or "-"


def _param_name(key: str) -> str:
    return "".join(c for c in _word(key, 32) if c not in '=]"') or "-"


def _param_value(value: str) -> str:
    return printable(utf8(value)).replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _address(address: str) -> tuple[str, str, int]:
    if address.startswith("/"):
        return "unix", address, 0
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"udp", "tcp", "tls"} or not parts.hostname or parts.path:
        raise ActionError("address: must be a path such as /dev/log, or udp://HOST:PORT, tcp://… or tls://…")
    return parts.scheme, parts.hostname, port or {"udp": 514, "tcp": 601, "tls": 6514}[parts.scheme]
