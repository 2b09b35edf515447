"""syslog sends alerts to a syslog server."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from bpfd.actions.syslog import Syslog, rfc5424
from bpfd.alert import Alert
from bpfd.errors import ActionError
from tests.actions.receivers import send_for_ever, serving

FORM = re.compile(
    rb"<\d{1,3}>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ bpfd \d+ \S+"
    rb' (-|\[bpfd@32473( [!-<>-\\^-~]{1,32}="([^"\\\]]|\\["\\\]])*")+\]) \xef\xbb\xbf[^\0-\x1f]*'
)


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        yield server


def test_a_message_has_the_form_of_the_rfc(alert: Alert) -> None:
    message = rfc5424(alert, 84)
    assert FORM.fullmatch(message)
    assert message.startswith(b"<84>1 2025-11-24T16:00:00.123456Z here bpfd ")
    assert b' rule="secrets" tracer="open" pid="42" ' in message
    assert b'filename="/etc/\\"<!channel>`*_\\]\\\\\\\\xff\\\\x1b[2J' in message


def test_a_long_message_is_cut_between_characters(alert: Alert) -> None:
    for data in ({"k": "x" * 9000}, {f"k{n}": "ä" * 300 for n in range(12)}, {"k": "ä" * 3500}):
        message = rfc5424(replace(alert, event=alert.event._replace(data=data, host="")), 84)
        assert len(message) <= 8192
        assert message.decode()
        assert FORM.fullmatch(message)


def test_a_unix_socket_gets_a_datagram(tmp_path: Path, alert: Alert) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        server.settimeout(5)
        action = Syslog({"address": str(tmp_path / "log"), "facility": "local0", "severity": "critical"})
        action.send(alert)
        action.close()
        assert server.recv(65536) == rfc5424(alert, 16 * 8 + 2)


def test_udp_gets_a_datagram(alert: Alert) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        action = Syslog({"address": f"udp://127.0.0.1:{server.getsockname()[1]}"})
        action.act(alert.event)
        action.close()
        assert server.recv(65536).startswith(b"<85>1 ")


def test_tcp_gets_counted_messages_and_is_connected_again_after_the_server_closed(
    tcp: socket.socket, alert: Alert
) -> None:
    action = Syslog({"address": f"tcp://127.0.0.1:{tcp.getsockname()[1]}"})
    message = rfc5424(alert, 10 * 8 + 5)
    framed = b"%d %s" % (len(message), message)
    action.send(alert)
    action.send(alert)
    client, _ = tcp.accept()
    with client:
        assert client.recv(2 * len(framed), socket.MSG_WAITALL) == framed * 2
        client.shutdown(socket.SHUT_RDWR)
    action.send(alert)
    client, _ = tcp.accept()
    with client:
        assert client.recv(len(framed), socket.MSG_WAITALL) == framed
    action.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_server_that_reads_nothing_is_given_up(kind: str, tmp_path: Path, tcp: socket.socket, alert: Alert) -> None:
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    large = replace(alert, text="x" * 7000)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        address = str(tmp_path / "log") if kind == "unix" else f"tcp://127.0.0.1:{tcp.getsockname()[1]}"
        action = Syslog({"address": address, "timeout": 0.2})
        began = time.monotonic()
        with pytest.raises(ActionError, match="cannot be reached: no answer in time"):
            send_for_ever(action, large)  # as many as the buffers on the way take
        assert time.monotonic() - began < 15
        action.close()


def test_a_server_that_goes_half_way_is_tried_anew(alert: Alert) -> None:
    def reset(client: socket.socket) -> None:
        client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with serving(reset) as port:
        action = Syslog({"address": f"tcp://127.0.0.1:{port}", "timeout": 2})
        with pytest.raises(ActionError, match="cannot be reached"):
            # What a reset takes with it is lost; TCP says so with a later one, which a look before it may find first.
            send_for_ever(action, replace(alert, text="x" * 7000))
        action.send(alert)
        action.close()


@pytest.mark.parametrize("trusted", [True, False])
def test_tls_carries_counted_messages_to_a_server_whose_certificate_is_good(
    tcp: socket.socket, alert: Alert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    if trusted:
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    heard: list[bytes] = []

    def listen() -> None:
        client, _ = tcp.accept()
        client.settimeout(20)
        try:
            with context.wrap_socket(client, server_side=True) as encrypted:
                heard.append(encrypted.recv(65536))
        except OSError:
            client.close()

    listener = threading.Thread(target=listen)
    listener.start()
    action = Syslog({"address": f"tls://localhost:{tcp.getsockname()[1]}", "timeout": 5})
    try:
        if trusted:
            action.send(alert)
        else:
            with pytest.raises(ActionError, match="cannot be reached"):
                action.send(alert)
    finally:
        action.close()
        listener.join()
    message = rfc5424(alert, 10 * 8 + 5)
    assert heard == ([b"%d %s" % (len(message), message)] if trusted else [])


def test_a_server_that_is_not_there_is_an_error(tmp_path: Path, alert: Alert, tcp: socket.socket) -> None:
    with pytest.raises(ActionError, match="cannot be reached: No such file or directory"):
        Syslog({"address": str(tmp_path / "log")}).send(alert)
    port = tcp.getsockname()[1]
    tcp.close()
    with pytest.raises(ActionError, match="cannot be reached: Connection refused"):
        Syslog({"address": f"tcp://127.0.0.1:{port}"}).send(alert)


def test_a_tls_server_that_says_nothing_is_given_up(tcp: socket.socket, alert: Alert) -> None:
    assert ssl.HAS_TLSv1_2
    with pytest.raises(ActionError, match="cannot be reached"):
        Syslog({"address": f"tls://127.0.0.1:{tcp.getsockname()[1]}", "timeout": 0.2}).send(alert)


@pytest.mark.parametrize("address", ["log", "http://host/", "tcp://", "udp://host:x", "tcp://host/path"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ActionError, match="address: must be a path"):
        Syslog({"address": address})
