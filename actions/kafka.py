"""kafka: writes alerts to a Kafka topic."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bpfd import options
from bpfd.actions import tls
from bpfd.alert import Alert
from bpfd.errors import ActionError, RejectedError
from bpfd.event import Event, printable, utf8
from bpfd.plugin import Action

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

_BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_KEYS = ("rule", "container", "host", "id", "none")
_MECHANISMS = ("scram-sha-512", "scram-sha-256", "plain")
_ANSWER_BYTES = 16 << 20
_GRACE_S = 1.0
"""How much longer than the library we wait for its word that the time is over."""


class Kafka(Action):
    """Write each alert as JSON to a Kafka topic, by an idempotent producer; needs `pip install bpfd[kafka]`.

    It is taken once all in-sync replicas have it. The header `bpfd-alert-id` carries the alert's id: what is sent
    again after a failure may be there twice.
    """

    name = "kafka"
    settings = {
        "brokers": 'a list of those to ask for the others: ["one:9093", "two:9093"]',
        "topic": "where to; bpfd-alerts",
        "key": "what is kept in order, by its partition: rule (the default), container, host, id, or none",
        "tls": "tls (the default) or none",
        "user": "the user to log in as by SASL; left out: no log-in",
        "password_env": "the environment variable that holds the password",
        "password_file": "the file that holds it",
        "mechanism": "how to log in: scram-sha-512 (the default), scram-sha-256 or plain",
        **tls.SETTINGS,
        "timeout": "how long one alert may take, connecting included; 10s",
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        brokers = options.texts(settings, "brokers")
        if not brokers or not all(_BROKER.fullmatch(one) for one in brokers):
            raise ActionError('brokers: must be a list of HOST:PORT, such as ["kafka:9093"]')
        self._topic = options.text(settings, "topic", "bpfd-alerts")
        if not _TOPIC.fullmatch(self._topic):
            raise ActionError("topic: must be letters, digits, dots, _ and -, at most 249")
        self._key = options.choice(settings, "key", _KEYS, "rule")
        self._timeout_s = options.seconds(settings, "timeout", 10, 0.1, 300)
        self._where = brokers[0]
        self._config = {
            "bootstrap.servers": ",".join(brokers),
            "client.id": "bpfd",
            "enable.idempotence": True,
            "linger.ms": 0,
            "message.timeout.ms": int(self._timeout_s * 1000),
            "receive.message.max.bytes": _ANSWER_BYTES,
            "log_level": 0,  # it would write to the daemon's standard error; what matters is raised
            **_security(settings, brokers),
        }
        try:
            import confluent_kafka  # 13 MB, for those who use it
        except ImportError:
            raise ActionError("kafka: the package confluent-kafka is missing; install bpfd[kafka]") from None
        self._never = frozenset(
            getattr(confluent_kafka.KafkaError, name)
            for name in ("MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD", "INVALID_MSG")
        )
        self._producer: Producer | None = None
        self._problem = ""
        self._make()  # what the library does not take of all this is found out at the start
        self.close()

    def act(self, event: Event) -> None:
        """Write one event."""
        self.send(Alert(event))

    def send(self, alert: Alert) -> None:
        """Write `alert`, and wait until all in-sync replicas have it."""
        from confluent_kafka import KafkaException

        producer = self._producer or self._make()
        outcomes: list[KafkaError | None] = []

        def told(error: KafkaError | None, message: Message) -> None:
            outcomes.append(error)

        try:
            producer.produce(
                self._topic,
                alert.to_json(),
                key=_key(alert, self._key),
                headers={"bpfd-alert-id": alert.id},
                timestamp=alert.event.time // 1_000_000,
                on_delivery=told,
            )
        except KafkaException as error:
            self._fail(error.args[0])
        deadline = time.monotonic() + self._timeout_s + _GRACE_S
        while not outcomes and (left_s := deadline - time.monotonic()) > 0:
            producer.poll(left_s)
        if not outcomes:
            self.close()
            raise ActionError(f"{self._where}: no answer within {self._timeout_s:g} s{self._why()}")
        if outcomes[0] is not None:
            self._fail(outcomes[0])
        self._problem = ""

    def close(self) -> None:
        """Close the connections; what is still on its way is dropped, and sent again by whoever keeps it."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.poll(0)
            self._producer = None

    def _make(self) -> Producer:
        from confluent_kafka import KafkaException, Producer

        try:
            self._producer = Producer({**self._config, "error_cb": self._note})
        except KafkaException as error:
            said = _short(error.args[0].str())
            raise ActionError(f"{'ca_file' if 'ssl' in said else 'brokers'}: {said}") from None
        return self._producer

    def _note(self, error: KafkaError) -> None:
        """Keep the last thing that went wrong with a connection; called within `poll`."""
        from confluent_kafka import KafkaError

        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._problem = _short(error.str())

    def _fail(self, error: KafkaError) -> None:
        from confluent_kafka import KafkaError

        if error.fatal():
            self.close()
        if error.code() in self._never:
            raise RejectedError(f"{self._where}: {_short(error.str())}")
        if error.code() == KafkaError._MSG_TIMED_OUT:
            raise ActionError(f"{self._where}: no answer within {self._timeout_s:g} s{self._why()}")
        raise ActionError(f"{self._where}: topic {self._topic}: {_short(error.str())}")

    def _why(self) -> str:
        return f": {self._problem}" if self._problem else ""


def _security(settings: Mapping[str, Any], brokers: tuple[str, ...]) -> dict[str, str]:
    """What the library is to be told of TLS and the log-in. Raises `ActionError`, naming the key."""
    encrypted = options.choice(settings, "tls", ("tls", "none"), "tls") == "tls"
    user = options.text(settings, "user") if "user" in settings else ""
    password = options.secret(settings, "password", required=bool(user)) or ""
    mechanism = options.choice(settings, "mechanism", _MECHANISMS, "scram-sha-512")
    if user and not encrypted and not all(tls.is_here(one.rpartition(":")[0].strip("[]")) for one in brokers):
        raise ActionError("tls: must not be none with a user: the password would travel in the clear")
    config = {"security.protocol": ("sasl_" if user else "") + ("ssl" if encrypted else "plaintext")}
    if user:
        config |= {"sasl.mechanism": mechanism.upper(), "sasl.username": user, "sasl.password": password}
    if encrypted:
        tls.context(settings)  # says what is wrong with the files in our words
        found = tls.files(settings)
        config["ssl.ca.location"] = found.get("ca_file") or tls.system_authorities()
        if "cert_file" in found:
            config |= {"ssl.certificate.location": found["cert_file"], "ssl.key.location": found["key_file"]}
    return config


def _key(alert: Alert, kind: str) -> str | None:
    event = alert.event
    keys = {"rule": event.rule, "container": event.container.id, "host": event.host, "id": alert.id}
    return utf8(keys[kind]) if kind in keys else None


def _short(text: str) -> str:
    """The library's words without its counters and states, for one line of a log."""
    return printable(re.sub(r" \((?:after )?\d+ms in state [^)]*\)", "", text))[:200]
