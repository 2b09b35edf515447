"""Every action that posts over HTTP, against receivers that do all they should not."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from bpfd.actions.otlp import Otlp
from bpfd.actions.slack import Slack
from bpfd.actions.webhook import Webhook
from bpfd.alert import Alert
from bpfd.errors import ActionError, RejectedError, RetryLaterError
from bpfd.plugin import Action
from tests.actions.receivers import HttpReceiver, answer, drip, flood, hang, http_receiver

SECRET = "xoxb-hunter2"
KINDS: dict[str, Callable[[str], tuple[type[Action], dict[str, Any]]]] = {
    "webhook": lambda url: (Webhook, {"url": url, "bearer_env": "BPFD_TEST_SECRET", "secret_env": "BPFD_TEST_SECRET"}),
    "otlp": lambda url: (Otlp, {"url": url, "bearer_env": "BPFD_TEST_SECRET"}),
    "slack's webhook": lambda url: (Slack, {"webhook_env": "BPFD_TEST_URL"}),
    "slack's bot": lambda url: (Slack, {"token_env": "BPFD_TEST_SECRET", "channel": "C1", "api": url}),
}

Make = Callable[..., Action]


@pytest.fixture(params=list(KINDS))
def make(request: pytest.FixtureRequest, http: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes each action in turn, with a secret, for the test's receiver."""

    def _make(timeout: float = 5) -> Action:
        url = f"{http.url}/hunter2"
        monkeypatch.setenv("BPFD_TEST_SECRET", SECRET)
        monkeypatch.setenv("BPFD_TEST_URL", url)
        kind, settings = KINDS[request.param](url)
        return kind({**settings, "timeout": timeout})

    return _make


def refused(action: Action, alert: Alert) -> ActionError:
    """The error of sending `alert`, which came in good time and holds no secret."""
    began = time.monotonic()
    with pytest.raises(ActionError) as caught:
        action.send(alert)
    assert time.monotonic() - began < 5
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).isprintable()
    return caught.value


@pytest.mark.parametrize("reply", [hang, drip], ids=["hangs", "drips"])
def test_a_receiver_that_hangs_is_left_and_tried_again(
    make: Make, http: HttpReceiver, alert: Alert, reply: Callable[[socket.socket], None]
) -> None:
    http.reply = reply
    error = refused(make(0.3), alert)
    assert type(error) is ActionError
    assert "no answer within 0.3 s" in str(error)


def test_a_receiver_that_is_busy_is_left_alone_for_as_long_as_it_asks(
    make: Make, http: HttpReceiver, alert: Alert
) -> None:
    for status in ("429 Slow", "503 Busy"):
        http.reply = answer(status, headers="Retry-After: 17\r\n")
        error = refused(make(), alert)
        assert isinstance(error, RetryLaterError)
        assert error.after_s == 17
    for value in ("soon", "-5", "9" * 400, "\xff"):
        http.reply = answer("429 Slow", headers=f"Retry-After: {value}\r\n")
        assert type(refused(make(), alert)) is ActionError


@pytest.mark.parametrize("status", ["500 No", "502 No", "401 No", "403 No", "404 No", "408 No", "599 No", "999 No"])
def test_an_error_that_may_pass_is_tried_again(make: Make, http: HttpReceiver, alert: Alert, status: str) -> None:
    http.reply = answer(status, b"\x1b[2Jhunter2")
    error = refused(make(), alert)
    assert type(error) is ActionError
    assert status[:3] in str(error)


def test_an_alert_that_will_never_be_taken_is_given_up(make: Make, http: HttpReceiver, alert: Alert) -> None:
    for status in ("400 No", "413 No", "422 No"):
        http.reply = answer(status)
        assert isinstance(refused(make(), alert), RejectedError)


@pytest.mark.parametrize("status", ["301 No", "302 No", "303 No", "307 No", "308 No"])
def test_a_receiver_that_sends_us_elsewhere_is_not_followed(
    make: Make, http: HttpReceiver, alert: Alert, status: str
) -> None:
    with http_receiver() as elsewhere:
        http.reply = answer(status, headers=f"Location: {elsewhere.url}/\r\n")
        assert "redirects are not followed" in str(refused(make(), alert))
        assert elsewhere.requests == []
    assert len(http.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"garbage\r\n\r\n",
        b"\0" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 " + b"9" * 100 + b" OK\r\n\r\n",
    ],
)
def test_a_receiver_that_talks_nonsense_or_goes_half_way_is_tried_again(
    make: Make, http: HttpReceiver, alert: Alert, reply: bytes
) -> None:
    http.reply = reply
    assert type(refused(make(), alert)) is ActionError


def test_an_answer_without_an_end_is_not_kept(make: Make, http: HttpReceiver, alert: Alert) -> None:
    http.reply = flood
    began = time.monotonic()
    try:
        make().send(alert)  # it said 200, which is enough for those who need to know no more
    except ActionError as error:
        text = str(error)
    else:
        text = ""
    assert time.monotonic() - began < 5
    assert text == "" or "its answer is not that of Slack's API" in text


def test_a_receiver_that_is_not_there_is_tried_again(
    make: Make, http: HttpReceiver, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "url", "http://127.0.0.1:1")
    error = refused(make(), alert)
    assert type(error) is ActionError
    assert "127.0.0.1:1: Connection refused" in str(error)


def test_deeply_nested_json_is_no_trouble(make: Make, http: HttpReceiver, alert: Alert) -> None:
    http.reply = answer("200 OK", b"[" * 60_000)
    try:
        make().send(alert)
    except ActionError as error:
        assert "its answer is not that of Slack's API" in str(error)  # noqa: PT017 - some need no answer
