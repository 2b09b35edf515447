"""nats publishes alerts to a real nats-server."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme
from nats.aio.client import Client

from bpfd.actions.nats import Nats
from bpfd.alert import Alert
from bpfd.errors import ActionError, RejectedError
from tests.actions.nats_server import NatsServer, nats_server
from tests.actions.receivers import line_receiver, serving

Make = Callable[..., Nats]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path / "nats") as running:
        yield running


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Nats] = []

    def _make(address: str, scheme: str = "nats", **settings: Any) -> Nats:
        made.append(Nats({"servers": [f"{scheme}://{address}"], "timeout": 5, **settings}))
        return made[-1]

    yield _make
    for action in made:
        action.close()


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


def tls_of(authority: trustme.CA, place: Path, name: str = "localhost") -> str:
    """What makes nats-server speak TLS, with a certificate for `name`."""
    issued = authority.issue_cert(name)
    issued.private_key_and_cert_chain_pem.write_to_path(str(place / "server.pem"))
    return f'tls {{ cert_file: "{place}/server.pem", key_file: "{place}/server.pem" }}'


def test_jetstream_keeps_the_alert_and_drops_what_is_sent_twice(server: NatsServer, make: Make, alert: Alert) -> None:
    server.add_stream("bpfd.>")
    action = make(server.address)
    action.send(alert)
    action.send(alert)
    other = replace(alert, id="0" * 32)
    action.send(other)
    kept = server.kept()
    assert [(subject, headers["Nats-Msg-Id"]) for subject, headers, _ in kept] == [
        ("bpfd.alerts", alert.id),
        ("bpfd.alerts", other.id),
    ]
    assert orjson.loads(kept[0][2]) == alert.as_dict()


def test_an_alert_that_no_stream_keeps_is_an_error(server: NatsServer, make: Make, alert: Alert) -> None:
    action = make(server.address)
    with pytest.raises(ActionError, match=r"127.0.0.1:\d+: no stream keeps bpfd.alerts; make one, or set jetstream"):
        action.send(alert)
    server.add_stream("bpfd.>")
    action.send(alert)
    assert len(server.kept()) == 1


def test_the_subject_tells_the_rule_whatever_its_name(server: NatsServer, make: Make, alert: Alert) -> None:
    server.add_stream("fleet.>")
    action = make(server.address, subject="fleet.{host}.{severity}.{rule}")
    action.send(replace(alert, event=alert.event._replace(rule="a.b > *\r\nPUB x 0\r\n")))
    action.send(replace(alert, id="2", event=alert.event._replace(rule="", host="")))
    assert [subject for subject, _, _ in server.kept()] == [
        "fleet.here.notice.a_b______PUB_x_0__",
        "fleet._.notice._",
    ]


def test_without_jetstream_a_subscriber_gets_it(server: NatsServer, make: Make, alert: Alert) -> None:
    action = make(server.address, jetstream=False)

    async def heard(client: Client) -> bytes:
        listening = await client.subscribe("bpfd.alerts")
        await client.flush()
        sender = threading.Thread(target=action.send, args=(alert,))
        sender.start()
        message = await listening.next_msg(timeout=20)
        sender.join()
        assert message.headers == {"Nats-Msg-Id": alert.id}
        return message.data

    assert orjson.loads(server.ask(heard)) == alert.as_dict()


def test_an_alert_that_is_too_large_is_not_tried_again(tmp_path: Path, make: Make, alert: Alert) -> None:
    large = replace(alert, text="x" * 5000)
    with nats_server(tmp_path / "nats", "max_payload: 4096") as server, pytest.raises(RejectedError) as caught:
        make(server.address).send(large)
    assert "larger than the server takes" in str(caught.value)
    with nats_server(tmp_path / "other") as server:
        server.add_stream("bpfd.>", max_msg_size=2048)
        action = make(server.address)
        action.send(alert)
        with pytest.raises(RejectedError, match="message size exceeds maximum allowed"):
            action.send(replace(large, id="2"))


def test_a_full_stream_is_tried_again(server: NatsServer, make: Make, alert: Alert) -> None:
    server.add_stream("bpfd.>", max_msgs=1, discard="new")
    action = make(server.address)
    action.send(alert)
    with pytest.raises(ActionError, match="maximum messages exceeded") as caught:
        action.send(replace(alert, id="2"))
    assert type(caught.value) is ActionError


@pytest.mark.parametrize(
    ("config", "settings", "good"),
    [
        ('authorization { user: "me", password: "hunter2" }', {"user": "me", "password_env": "BPFD_TEST_SECRET"}, True),
        ('authorization { token: "hunter2" }', {"token_env": "BPFD_TEST_SECRET"}, True),
        ('authorization { user: "me", password: "other" }', {"user": "me", "password_env": "BPFD_TEST_SECRET"}, False),
        ('authorization { token: "other" }', {"token_env": "BPFD_TEST_SECRET"}, False),
        ('authorization { token: "other" }', {}, False),
    ],
)
def test_who_may_log_in_is_taken_and_nobody_else(
    tmp_path: Path, make: Make, alert: Alert, monkeypatch: pytest.MonkeyPatch, config: str, settings: Any, good: bool
) -> None:
    monkeypatch.setenv("BPFD_TEST_SECRET", "hunter2")
    with nats_server(tmp_path / "nats", config) as server:
        action = make(server.address, jetstream=False, **settings)
        if good:
            action.send(alert)
        else:
            with pytest.raises(ActionError, match="Authorization Violation") as caught:
                action.send(alert)
            assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("jetstream", [True, False])
def test_a_subject_that_we_may_not_publish_at_is_an_error_at_once(
    tmp_path: Path, make: Make, alert: Alert, monkeypatch: pytest.MonkeyPatch, jetstream: bool
) -> None:
    monkeypatch.setenv("BPFD_TEST_SECRET", "hunter2")
    rights = '{user: "me", password: "hunter2", permissions: { publish: "else" }}'
    with nats_server(tmp_path / "nats", f"authorization {{ users: [{rights}] }}") as server:
        action = make(server.address, jetstream=jetstream, user="me", password_env="BPFD_TEST_SECRET")
        began = time.monotonic()
        with pytest.raises(ActionError, match="permissions violation for publish"):
            action.send(alert)
        assert time.monotonic() - began < 4


def test_the_password_travels_encrypted(
    tmp_path: Path, make: Make, alert: Alert, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BPFD_TEST_SECRET", "hunter2")
    config = 'authorization { user: "me", password: "hunter2" }\n' + tls_of(authority, tmp_path)
    with nats_server(tmp_path / "nats", config) as server:
        where = f"localhost:{server.port}"
        more = {"jetstream": False, "user": "me", "password_env": "BPFD_TEST_SECRET"}
        make(where, "tls", ca_file=str(tmp_path / "ca.pem"), **more).send(alert)
        with pytest.raises(ActionError, match="its certificate is not valid"):
            make(where, "tls", **more).send(alert)


def test_a_certificate_for_another_host_is_not_taken(
    tmp_path: Path, make: Make, alert: Alert, authority: trustme.CA
) -> None:
    with nats_server(tmp_path / "nats", tls_of(authority, tmp_path, "example.org")) as server:
        action = make(f"localhost:{server.port}", "tls", ca_file=str(tmp_path / "ca.pem"), jetstream=False)
        with pytest.raises(ActionError, match="its certificate is not valid: Hostname mismatch"):
            action.send(alert)


def test_a_server_that_wants_a_certificate_gets_ours(
    tmp_path: Path, make: Make, alert: Alert, authority: trustme.CA
) -> None:
    authority.issue_cert("bpfd").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
    config = tls_of(authority, tmp_path).replace("}", f', ca_file: "{tmp_path}/ca.pem", verify: true }}')
    ours = {"cert_file": str(tmp_path / "own.pem"), "key_file": str(tmp_path / "own.pem")}
    with nats_server(tmp_path / "nats", config) as server:
        where, more = f"localhost:{server.port}", {"ca_file": str(tmp_path / "ca.pem"), "jetstream": False}
        make(where, "tls", **more, **ours).send(alert)
        with pytest.raises(ActionError):
            make(where, "tls", **more).send(alert)


@pytest.mark.parametrize("secret", [True, False], ids=["with a password", "without"])
def test_nothing_is_said_to_a_server_that_denies_it_speaks_tls(
    make: Make, alert: Alert, monkeypatch: pytest.MonkeyPatch, secret: bool
) -> None:
    monkeypatch.setenv("BPFD_TEST_SECRET", "hunter2")
    settings = {"user": "me", "password_env": "BPFD_TEST_SECRET"} if secret else {}
    said = [b'INFO {"headers":true,"max_payload":1048576,"auth_required":true}\r\n', b"PONG\r\n"]
    with line_receiver(said) as liar, pytest.raises(ActionError, match="does not offer TLS"):
        make(liar.address, "tls", jetstream=False, **settings).send(alert)
    assert b"hunter2" not in liar.heard
    assert b"PUB" not in liar.heard


def test_a_server_that_came_back_is_connected_again(tmp_path: Path, make: Make, alert: Alert) -> None:
    with nats_server(tmp_path / "nats") as server:
        server.add_stream("bpfd.>")
        action = make(server.address)
        action.send(alert)
    began = time.monotonic()
    with pytest.raises(ActionError):
        action.send(replace(alert, id="2"))
    assert time.monotonic() - began < 6
    with nats_server(tmp_path / "nats", port=server.port) as server:
        action.send(replace(alert, id="2"))
        action.send(alert)
        assert len(server.kept()) == 2


def test_the_next_server_is_asked_when_one_is_away(server: NatsServer, alert: Alert) -> None:
    with line_receiver([]) as silent:
        action = Nats({"servers": ["nats://127.0.0.1:1", f"nats://{silent.address}", f"nats://{server.address}"]})
        action._timeout_s = 4.0
        server.add_stream("bpfd.>")
        action.send(alert)
        action.close()
    assert len(server.kept()) == 1


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([], "no answer within 0.5 s"),
        ([b""], "empty response from server when expecting INFO message"),
        ([b"garbage\r\n"], "empty response from server"),
        ([b"INFO nonsense\r\n"], "json parse error"),
        ([b"INFO []\r\n"], ""),
        ([b'INFO {"max_payload":"x"}\r\n', b"PONG\r\n"], ""),
        ([b"INFO " + b"x" * 200_000 + b"\r\n"], ""),
        ([b"INFO {}\r\n", b"-ERR 'no \x1b[2J'\r\n"], r"no \x1b[2J"),
        ([b"INFO {}\r\n", b""], ""),
        ([b"INFO {}\r\n", b"PONG\r\n"], "no answer within 0.5 s"),
        ([b"INFO {}\r\n", b"PONG\r\n", b""], ""),
        ([b"INFO {}\r\n", b"PONG\r\n", b"garbage" * 1000], ""),
    ],
)
def test_a_server_that_hangs_talks_nonsense_or_goes_half_way_is_an_error(
    make: Make, alert: Alert, said: list[bytes], text: str
) -> None:
    with line_receiver(said) as receiver:
        action = make(receiver.address, timeout=30 if text and "no answer" not in text else 0.5)
        began = time.monotonic()
        with pytest.raises(ActionError) as caught:
            action.send(alert)
        assert time.monotonic() - began < 4
    assert str(caught.value).startswith(f"{receiver.address}: ")
    assert text in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_server_whose_message_has_no_end_is_left_before_it_fills_the_memory(make: Make, alert: Alert) -> None:
    sent = 0

    def talk(client: socket.socket) -> None:
        nonlocal sent
        client.sendall(b"INFO {}\r\n")
        client.recv(4096)
        client.sendall(b"PONG\r\nMSG _INBOX.x 1 9999999999\r\n")
        while True:
            sent += client.send(b"x" * 65536)

    with serving(talk) as port, pytest.raises(ActionError, match=r"Protocol Error|closed the connection"):
        make(f"127.0.0.1:{port}", timeout=8).send(alert)
    assert sent < 64 << 20


def test_it_goes_to_no_server_that_another_names(make: Make, alert: Alert, server: NatsServer) -> None:
    server.add_stream("bpfd.>")
    names = f'INFO {{"headers":true,"connect_urls":["{server.address}"]}}\r\n'.encode()
    with line_receiver([names, b"PONG\r\n", b""]) as first, pytest.raises(ActionError):
        make(first.address).send(alert)
    assert server.kept() == []


def test_a_server_that_is_not_there_is_an_error(make: Make, alert: Alert) -> None:
    with pytest.raises(ActionError, match=r"127.0.0.1:1: .*Connect"):
        make("127.0.0.1:1").send(alert)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"servers": []}, "servers: must name one at least"),
        ({"servers": "nats://h"}, "servers: must be a list of texts"),
        ({"servers": ["http://h"]}, "servers: each must be tls://HOST:PORT"),
        ({"servers": ["nats://me:hunter2@h"]}, "servers: each must be tls://HOST:PORT"),
        ({"servers": ["nats://h:hunter2"]}, "servers: each must be tls://HOST:PORT"),
        ({"subject": "a b"}, "subject: must be words"),
        ({"subject": "a.>"}, "subject: must be words"),
        ({"subject": "a.{command}"}, "subject: must be words"),
        ({"subject": "a..b"}, "subject: must be words"),
        ({"jetstream": "yes"}, "jetstream: must be true or false"),
        ({"user": "me"}, "password_env: is missing"),
        (
            {"user": "me", "password_env": "BPFD_TEST_SECRET", "token_env": "BPFD_TEST_SECRET"},
            "token_env: stands besid",
        ),
        ({"user": "me", "password_env": "BPFD_TEST_SECRET"}, "servers: must be tls:// with a user or a token"),
        ({"token_env": "BPFD_TEST_SECRET"}, "servers: must be tls:// with a user or a token"),
        ({"ca_file": "/no/such/file"}, "ca_file: No such file or directory"),
        ({"ca_file": "relative"}, "ca_file: must be the absolute path"),
        ({"ca_file": "/etc/passwd"}, "ca_file: TLS failed"),
        ({"cert_file": "/etc/passwd"}, "cert_file: goes with key_file"),
        ({"timeout": 0}, "timeout: must be a time"),
    ],
)
def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], text: str) -> None:
    monkeypatch.setenv("BPFD_TEST_SECRET", "hunter2")
    with pytest.raises(ActionError) as caught:
        Nats({"servers": ["nats://nats.example.org"], **change})
    assert str(caught.value).startswith(text)
    assert "hunter2" not in str(caught.value)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(ActionError, match=r"install bpfd\[nats\]"):
        Nats({"servers": ["nats://h"]})


def test_it_is_opened_and_closed_ten_times_and_leaves_nothing(server: NatsServer, make: Make, alert: Alert) -> None:
    for _ in range(10):
        action = make(server.address, jetstream=False)
        action.send(alert)
        action.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "nats"]
