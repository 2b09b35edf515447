"""otlp sends alerts to an OpenTelemetry collector."""

from __future__ import annotations

import gzip
import time
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from bpfd.actions.otlp import Otlp
from bpfd.alert import Alert
from bpfd.errors import ActionError, RejectedError
from bpfd.rules.model import SEVERITIES
from tests.actions.collector import collector
from tests.actions.receivers import HttpReceiver, answer


def sent(http: HttpReceiver, alert: Alert) -> ExportLogsServiceRequest:
    """What a collector reads of it."""
    http.reply = answer("200 OK", b"{}")
    Otlp({"url": http.url + "/v1/logs"}).send(alert)
    request = http.requests[-1]
    assert request.line == "POST /v1/logs HTTP/1.1"
    assert request.headers["content-type"] == "application/json"
    return json_format.Parse(request.body, ExportLogsServiceRequest())


def test_a_collector_reads_the_alert_as_a_log_record(http: HttpReceiver, alert: Alert) -> None:
    logs = sent(http, alert).resource_logs[0]
    assert {a.key: a.value.string_value for a in logs.resource.attributes} == {
        "service.name": "bpfd",
        "host.name": "here",
    }
    record = logs.scope_logs[0].log_records[0]
    assert record.time_unix_nano == alert.event.time
    assert record.severity_number == 10
    attributes = {a.key: a.value.string_value for a in record.attributes}
    assert attributes["bpfd.alert.id"] == alert.id
    assert attributes["process.pid"] == "42"
    assert attributes["container.id"] == alert.event.container.id
    assert attributes["bpfd.data.filename"].startswith('/etc/"<!channel>')
    assert "\n" not in record.body.string_value


def test_a_real_collector_takes_the_alert_and_passes_it_on(http: HttpReceiver, alert: Alert, tmp_path: Path) -> None:
    http.reply = answer("200 OK", b"", "Content-Type: application/x-protobuf\r\n")
    with collector(tmp_path, http.url) as url:
        Otlp({"url": url}).send(replace(alert, severity="critical"))
        deadline = time.monotonic() + 20
        while not http.requests:
            assert time.monotonic() < deadline, (tmp_path / "collector.log").read_text()
            time.sleep(0.02)
    [request] = http.requests
    body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    logs = ExportLogsServiceRequest.FromString(body).resource_logs[0]
    record = logs.scope_logs[0].log_records[0]
    attributes = {a.key: a.value.string_value for a in record.attributes}
    assert record.time_unix_nano == alert.event.time
    assert (record.severity_number, record.severity_text) == (18, "critical")
    assert attributes["bpfd.alert.id"] == alert.id
    assert attributes["bpfd.data.filename"].startswith('/etc/"<!channel>')
    assert {a.key for a in logs.resource.attributes} >= {"service.name", "host.name"}


def test_every_severity_of_a_rule_has_its_number(http: HttpReceiver, alert: Alert) -> None:
    records = [
        sent(http, replace(alert, severity=name)).resource_logs[0].scope_logs[0].log_records[0] for name in SEVERITIES
    ]
    numbers = [record.severity_number for record in records]
    assert numbers == sorted(set(numbers), reverse=True)


def test_what_the_collector_refuses_is_not_sent_again(http: HttpReceiver, alert: Alert) -> None:
    http.reply = answer("200 OK", orjson.dumps({"partialSuccess": {"rejectedLogRecords": "1"}}))
    with pytest.raises(RejectedError, match="refused the record"):
        Otlp({"url": http.url}).send(alert)
    for body in (b"", b"{}", b"[]", b"garbage", b'{"partialSuccess": {"rejectedLogRecords": "0"}}'):
        http.reply = answer("200 OK", body)
        Otlp({"url": http.url}).send(alert)
    http.reply = answer("503 No")
    with pytest.raises(ActionError):
        Otlp({"url": http.url}).send(alert)
