"""notify tells any service that apprise knows."""

from __future__ import annotations

import sys

import orjson
import pytest

from bpfd.actions.notify import Notify
from bpfd.alert import Alert
from bpfd.errors import ActionError
from tests.actions.receivers import HttpReceiver, answer

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise's


def test_a_service_is_told(http: HttpReceiver, alert: Alert, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPFD_TEST_URL", http.url.replace("http://", "json://me:hunter2@"))
    Notify({"url_env": "BPFD_TEST_URL"}).send(alert)
    told = orjson.loads(http.requests[0].body)
    assert told["title"] == "secrets on here"
    assert alert.id in told["message"]
    assert "\x1b" not in told["message"]


def test_a_service_that_refuses_is_an_error_without_the_secret(
    http: HttpReceiver, alert: Alert, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    http.reply = answer("500 No")
    monkeypatch.setenv("BPFD_TEST_URL", http.url.replace("http://", "json://me:hunter2@"))
    with pytest.raises(ActionError, match="did not take it"):
        Notify({"url_env": "BPFD_TEST_URL"}).send(alert)
    assert "hunter2" not in caplog.text


def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ActionError, match="url_env: is missing"):
        Notify({})
    monkeypatch.setenv("BPFD_TEST_URL", "hunter2")
    with pytest.raises(ActionError, match="url_env: is not a URL that apprise knows") as caught:
        Notify({"url_env": "BPFD_TEST_URL"})
    assert "hunter2" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ActionError, match=r"install bpfd\[notify\]"):
        Notify({"url_env": "BPFD_TEST_URL"})
