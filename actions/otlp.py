"""otlp: sends alerts to an OpenTelemetry collector."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from bpfd import options
from bpfd.actions.http import TIMEOUT_S, Poster, url_of
from bpfd.alert import Alert
from bpfd.errors import ActionError, RejectedError
from bpfd.event import Event, printable, utf8
from bpfd.format import line
from bpfd.plugin import Action

_NUMBERS = {
    "emergency": 21,
    "alert": 19,
    "critical": 18,
    "error": 17,
    "warning": 13,
    "notice": 10,
    "informational": 9,
    "debug": 5,
}
"""Syslog's severities as OpenTelemetry's: specification, logs data model, appendix B."""


class Otlp(Action):
    """Send each alert as a log record to an OpenTelemetry collector, by OTLP over HTTP in JSON."""

    name = "otlp"
    settings = {
        "url": "where to, such as http://collector:4318/v1/logs",
        "url_env": "the environment variable that holds the URL",
        "url_file": "the file that holds the URL",
        "headers": "a table of more header lines",
        "bearer_env": "the environment variable that holds a token for the Authorization header",
        "bearer_file": "the file that holds that token",
        "timeout": "how long one post may take; 10s",
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._poster = Poster(url_of(settings), options.seconds(settings, "timeout", TIMEOUT_S, 0.1, 300))
        self._headers = {"Content-Type": "application/json", **options.headers(settings, "headers")}
        if (token := options.secret(settings, "bearer")) is not None:
            if not token.isascii() or not token.isprintable():
                raise ActionError("bearer_env: the token holds characters that a header can't")
            self._headers["Authorization"] = f"Bearer {token}"

    def act(self, event: Event) -> None:
        """Send one event."""
        self.send(Alert(event))

    def send(self, alert: Alert) -> None:
        """Send `alert`; its id is the attribute `bpfd.alert.id`."""
        answer = self._poster.post(orjson.dumps(request(alert)), self._headers)
        self._poster.check(answer)
        try:
            refused = int(orjson.loads(answer.body or b"{}").get("partialSuccess", {}).get("rejectedLogRecords", 0))
        except (ValueError, TypeError, AttributeError):
            return  # it said that it took it, in whatever words
        if refused:
            raise RejectedError(f"{self._poster.where}: the collector refused the record")


def request(alert: Alert) -> dict[str, Any]:
    """An ExportLogsServiceRequest in the JSON form of OTLP 1.x, with one record."""
    event = alert.event
    record = {
        "timeUnixNano": str(event.time),
        "observedTimeUnixNano": str(time.time_ns()),
        "severityNumber": _NUMBERS[alert.severity],
        "severityText": alert.severity,
        "body": {"stringValue": utf8(printable(alert.text) or line(event))},
        "attributes": [_text(key, value) for key, value in _attributes(alert).items() if value],
    }
    return {
        "resourceLogs": [
            {
                "resource": {"attributes": [_text("service.name", "bpfd"), _text("host.name", event.host)]},
                "scopeLogs": [{"scope": {"name": "bpfd"}, "logRecords": [record]}],
            }
        ]
    }


def _attributes(alert: Alert) -> dict[str, str]:
    """Names of OpenTelemetry's semantic conventions where there are any."""
    event = alert.event
    return {
        "bpfd.alert.id": alert.id,
        "bpfd.alert.kind": alert.kind,
        "bpfd.rule": event.rule,
        "bpfd.tracer": event.tracer,
        "process.pid": str(event.pid),
        "process.parent_pid": str(event.ppid),
        "thread.id": str(event.tid),
        "process.command": event.command,
        "process.user.id": str(event.uid),
        "process.group.id": str(event.gid),
        "container.id": event.container.id,
        "container.name": event.container.name,
        "container.image.name": event.container.image,
        "container.runtime": event.container.runtime,
        "bpfd.returnValue": str(event.return_value),
        **{f"bpfd.data.{key}": value for key, value in event.data.items()},
    }


def _text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": utf8(value)}}
