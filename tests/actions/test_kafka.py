"""kafka writes alerts to brokers that speak Kafka's protocol."""

from __future__ import annotations

import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme

from bpfd.actions.kafka import Kafka
from bpfd.alert import Alert
from bpfd.errors import ActionError, RejectedError
from tests.actions.kafka_brokers import (
    API_VERSIONS,
    SASL_AUTHENTICATE,
    SASL_HANDSHAKE,
    Brokers,
    kafka_brokers,
    log_in_broker,
)
from tests.actions.receivers import line_receiver

Make = Callable[..., Kafka]


@pytest.fixture
def brokers() -> Iterator[Brokers]:
    with kafka_brokers() as running:
        yield running


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Kafka] = []

    def _make(*addresses: str, **settings: Any) -> Kafka:
        made.append(Kafka({"brokers": list(addresses), "tls": "none", "timeout": 8, **settings}))
        return made[-1]

    yield _make
    for action in made:
        action.close()


def test_the_topic_has_the_alert_with_its_id_key_and_time(brokers: Brokers, make: Make, alert: Alert) -> None:
    make(*brokers.addresses).send(alert)
    [message] = brokers.read("bpfd-alerts", 1)
    assert orjson.loads(message.value()) == alert.as_dict()
    assert message.headers() == [("bpfd-alert-id", alert.id.encode())]
    assert message.key() == b"secrets"
    assert message.timestamp()[1] == alert.event.time // 1_000_000


@pytest.mark.parametrize(
    ("key", "expected"),
    [("rule", b"secrets"), ("container", b"0123456789ab" * 5 + b"cdef"), ("host", b"here"), ("id", b"f" * 32)],
)
def test_the_key_is_what_is_asked_for(brokers: Brokers, make: Make, alert: Alert, key: str, expected: bytes) -> None:
    make(*brokers.addresses, key=key, topic="other").send(alert)
    [message] = brokers.read("other", 1)
    assert message.key() == expected


def test_without_a_key_there_is_none(brokers: Brokers, make: Make, alert: Alert) -> None:
    make(*brokers.addresses, key="none").send(alert)
    [message] = brokers.read("bpfd-alerts", 1)
    assert message.key() is None


def test_alerts_of_a_rule_stay_in_order_and_none_is_there_twice(brokers: Brokers, make: Make, alert: Alert) -> None:
    action = make(brokers.addresses[0])
    ids = [f"{number:032x}" for number in range(200)]
    for one in ids:
        action.send(replace(alert, id=one))
    found = brokers.read("bpfd-alerts", len(ids))
    assert len({message.partition() for message in found}) == 1
    assert [orjson.loads(message.value())["alert"]["id"] for message in found] == ids


def test_an_alert_that_is_too_large_is_not_tried_again(brokers: Brokers, make: Make, alert: Alert) -> None:
    action = make(*brokers.addresses)
    with pytest.raises(RejectedError, match="Message size too large"):
        action.send(replace(alert, text="x" * 2_000_000))
    action.send(alert)
    assert len(brokers.read("bpfd-alerts", 1)) == 1


def test_brokers_that_went_away_and_came_back_are_found_again(make: Make, alert: Alert) -> None:
    with kafka_brokers() as before:
        action = make(*before.addresses, timeout=4)
        action.send(alert)
    with pytest.raises(ActionError, match="no answer within 4 s"):
        action.send(replace(alert, id="2"))
    with kafka_brokers() as after:
        action._config["bootstrap.servers"] = ",".join(after.addresses)  # the mock can't have its ports again
        action.close()
        action.send(replace(alert, id="2"))
        assert len(after.read("bpfd-alerts", 1)) == 1


def test_a_broker_that_is_not_there_is_an_error_that_says_so(
    make: Make, alert: Alert, capfd: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    with pytest.raises(ActionError) as caught:
        make("127.0.0.1:1", timeout=2).send(alert)
    assert time.monotonic() - began < 5
    assert str(caught.value).startswith("127.0.0.1:1: no answer within 2 s: ")
    assert str(caught.value).endswith("Connect to ipv4#127.0.0.1:1 failed: Connection refused")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "said", [[], [b""], [b"garbage" * 1000], [b"\xff\xff\xff\x7f" + b"x" * 100], [b"\0\0\0\4\0\0\0\1"], [b"\0\0\0\0"]]
)
def test_a_broker_that_hangs_talks_nonsense_or_goes_half_way_is_an_error(
    make: Make, alert: Alert, said: list[bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    with line_receiver(said) as receiver:
        action = make(receiver.address, timeout=1)
        began = time.monotonic()
        with pytest.raises(ActionError, match="no answer within 1 s") as caught:
            action.send(alert)
        assert time.monotonic() - began < 5
        action.close()
    assert str(caught.value).isprintable()
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    monkeypatch.setenv("BPFD_TEST_SECRET", "hunter2")
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


def certificate_for(name: str, authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_a_broker_hears_the_log_in_inside_tls_and_its_refusal_is_told(
    make: Make, alert: Alert, tmp_path: Path, authority: trustme.CA
) -> None:
    log_in = {"user": "me", "password_env": "BPFD_TEST_SECRET", "mechanism": "plain"}
    with log_in_broker(certificate_for("localhost", authority)) as broker:
        action = make(f"localhost:{broker.port}", tls="tls", timeout=3, ca_file=str(tmp_path / "ca.pem"), **log_in)
        with pytest.raises(ActionError) as caught:
            action.send(alert)
        action.close()
    heard = [rest for key, rest in broker.heard if key == SASL_AUTHENTICATE]
    assert heard[0].endswith(b"\0me\0hunter2")
    assert "no such user" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert {key for key, _ in broker.heard} == {API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE}


@pytest.mark.parametrize(("name", "trusted"), [("localhost", False), ("example.org", True)])
def test_not_a_word_is_said_to_a_broker_whose_certificate_is_not_good(
    make: Make, alert: Alert, tmp_path: Path, authority: trustme.CA, name: str, trusted: bool
) -> None:
    settings: dict[str, Any] = {"ca_file": str(tmp_path / "ca.pem")} if trusted else {}
    settings |= {"user": "me", "password_env": "BPFD_TEST_SECRET", "mechanism": "plain"}
    with log_in_broker(certificate_for(name, authority)) as broker:
        action = make(f"localhost:{broker.port}", tls="tls", timeout=2, **settings)
        with pytest.raises(ActionError, match="certificate verify failed"):
            action.send(alert)
        action.close()
    assert broker.heard == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"brokers": []}, "brokers: must be a list of HOST:PORT"),
        ({"brokers": ["me:hunter2@h"]}, "brokers: must be a list of HOST:PORT"),
        ({"brokers": ["http://h"]}, "brokers: must be a list of HOST:PORT"),
        ({"brokers": ["a,b"]}, "brokers: must be a list of HOST:PORT"),
        ({"topic": "a b"}, "topic: must be letters"),
        ({"key": "pid"}, "key: must be one of rule, container"),
        ({"tls": "maybe"}, "tls: must be one of tls, none"),
        ({"tls": "none", "user": "me", "password_env": "BPFD_TEST_SECRET"}, "tls: must not be none with a user"),
        ({"user": "me"}, "password_env: is missing"),
        ({"user": "me", "password_env": "BPFD_TEST_SECRET", "mechanism": "md5"}, "mechanism: must be one of scram"),
        ({"ca_file": "/no/such/file"}, "ca_file: No such file or directory"),
        ({"cert_file": "/etc/passwd", "key_file": "/etc/passwd"}, "cert_file: TLS failed"),
        ({"timeout": 0}, "timeout: must be a time"),
    ],
)
def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], text: str) -> None:
    monkeypatch.setenv("BPFD_TEST_SECRET", "hunter2")
    with pytest.raises(ActionError) as caught:
        Kafka({"brokers": ["kafka.example.org:9093"], **change})
    assert str(caught.value).startswith(text)
    assert "hunter2" not in str(caught.value)


def test_every_way_to_log_in_is_one_that_the_library_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPFD_TEST_SECRET", "hunter2")
    for mechanism in ("scram-sha-512", "scram-sha-256", "plain"):
        Kafka(
            {"brokers": ["localhost:1"], "user": "me", "password_env": "BPFD_TEST_SECRET", "mechanism": mechanism}
        ).close()


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ActionError, match=r"install bpfd\[kafka\]"):
        Kafka({"brokers": ["h"]})


def test_it_is_opened_and_closed_ten_times_and_leaves_nothing(brokers: Brokers, make: Make, alert: Alert) -> None:
    def left() -> tuple[int, int]:
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    action = make(*brokers.addresses)
    action.send(alert)
    action.close()
    before = left()
    for _ in range(10):
        action.send(alert)
        action.close()
    deadline = time.monotonic() + 20
    while any(
        now > then for now, then in zip(left(), before, strict=True)
    ):  # the brokers close their ends when they see ours closed
        assert time.monotonic() < deadline, (before, left())
        time.sleep(0.02)
