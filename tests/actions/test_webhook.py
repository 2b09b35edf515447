"""webhook posts alerts as JSON."""

from __future__ import annotations

import base64
import hashlib
import hmac

import orjson
import pytest

from bpfd.actions.webhook import Webhook
from bpfd.alert import Alert
from bpfd.errors import ActionError
from tests.actions.receivers import HttpReceiver


def test_the_alert_is_posted_with_its_id(http: HttpReceiver, alert: Alert) -> None:
    Webhook({"url": http.url, "headers": {"X-Team": "red"}}).send(alert)
    request = http.requests[0]
    assert orjson.loads(request.body) == alert.as_dict()
    assert request.headers["webhook-id"] == alert.id
    assert request.headers["x-team"] == "red"
    assert request.headers["content-type"] == "application/json"
    assert "webhook-signature" not in request.headers


@pytest.mark.parametrize(
    ("secret", "key"), [("plain", b"plain"), ("whsec_" + base64.b64encode(b"\1\2\3").decode(), b"\1\2\3")]
)
def test_the_signature_can_be_checked(
    http: HttpReceiver, alert: Alert, monkeypatch: pytest.MonkeyPatch, secret: str, key: bytes
) -> None:
    monkeypatch.setenv("BPFD_TEST_SECRET", secret)
    monkeypatch.setenv("BPFD_TEST_TOKEN", "token")
    Webhook({"url": http.url, "secret_env": "BPFD_TEST_SECRET", "bearer_env": "BPFD_TEST_TOKEN"}).send(alert)
    request = http.requests[0]
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    assert request.headers["authorization"] == "Bearer token"


def test_wrong_settings_are_named_and_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPFD_TEST_SECRET", "whsec_!hunter2!")
    monkeypatch.setenv("BPFD_TEST_TOKEN", "hunter2\n\x01hunter2")
    for settings, text in (
        ({}, "url_env: is missing; set it or url_file"),
        ({"url": "http://a/", "secret_env": "BPFD_TEST_SECRET"}, "secret_env: what follows whsec_ is not base64"),
        ({"url": "http://a/", "bearer_env": "BPFD_TEST_TOKEN"}, "bearer_env: the token holds"),
    ):
        with pytest.raises(ActionError) as caught:
            Webhook(settings)
        assert text in str(caught.value)
        assert "hunter2" not in str(caught.value)
