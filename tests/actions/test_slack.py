"""slack posts alerts to a channel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from bpfd.actions.slack import Slack, blocks
from bpfd.alert import Alert
from bpfd.errors import ActionError, RejectedError, RetryLaterError
from bpfd.event import Event
from tests.actions.receivers import HttpReceiver, answer

TOKEN = "xoxb-hunter2"


@pytest.fixture
def bot(http: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> Slack:
    monkeypatch.setenv("BPFD_TEST_TOKEN", TOKEN)
    http.reply = answer("200 OK", b'{"ok": true, "ts": "1.5"}')
    return Slack({"token_env": "BPFD_TEST_TOKEN", "channel": "C1", "api": http.url + "/api/", "timeout": 2})


def texts(blocks: Any) -> list[str]:
    if isinstance(blocks, dict):
        return (
            [blocks["text"]] if isinstance(blocks.get("text"), str) else [t for b in blocks.values() for t in texts(b)]
        )
    return [t for b in blocks for t in texts(b)] if isinstance(blocks, list) else []


def test_a_webhook_gets_the_event_in_blocks(http: HttpReceiver, alert: Alert, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPFD_TEST_HOOK", http.url + "/services/hunter2")
    Slack({"webhook_env": "BPFD_TEST_HOOK"}).send(alert)
    request = http.requests[0]
    assert request.line == "POST /services/hunter2 HTTP/1.1"
    message = orjson.loads(request.body)
    shown = texts(message["blocks"])
    assert shown[0] == "secrets on here"
    assert {"process\nc\\nat [42]", "user\n1000:1001", "container\ndocker web", "returned\nENOENT"} <= set(shown)
    assert alert.id in shown[-1]


def test_nothing_that_a_process_says_is_read_as_markup(bot: Slack, http: HttpReceiver, alert: Alert) -> None:
    bot.send(alert)
    message = orjson.loads(http.requests[0].body)
    assert "<" not in message["text"]
    kinds = {b.get("type") for b in message["blocks"]}
    assert kinds == {"header", "section", "context"}
    assert b"mrkdwn" not in http.requests[0].body
    assert message["unfurl_links"] is False


def test_a_bot_posts_to_its_channel_with_its_token(bot: Slack, http: HttpReceiver, alert: Alert) -> None:
    bot.send(alert)
    request = http.requests[0]
    assert request.line == "POST /api/chat.postMessage HTTP/1.1"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert orjson.loads(request.body)["channel"] == "C1"


def test_repeats_go_into_the_thread_of_the_first(bot: Slack, http: HttpReceiver, alert: Alert) -> None:
    other = replace(alert, event=alert.event._replace(rule="other"))
    for one in (alert, alert, other, alert):
        bot.send(one)
    assert [orjson.loads(r.body).get("thread_ts") for r in http.requests] == [None, "1.5", None, "1.5"]


def test_an_alert_that_slack_does_not_take_into_a_thread_begins_a_new_one(
    bot: Slack, http: HttpReceiver, alert: Alert
) -> None:
    bot.send(alert)
    http.plan = [answer("200 OK", b'{"ok": false, "error": "restricted_action_thread_locked"}')]
    with pytest.raises(ActionError, match="thread_locked"):
        bot.send(alert)
    bot.send(alert)
    bot.send(alert)
    assert [orjson.loads(r.body).get("thread_ts") for r in http.requests] == [None, "1.5", None, "1.5"]


def test_a_huge_event_fits_into_slacks_limits(bot: Slack, http: HttpReceiver, alert: Alert) -> None:
    data = {f"field{number}": "x" * 4096 for number in range(40)}
    event = alert.event._replace(data=data, rule="r" * 300, command="")
    bot.send(replace(alert, event=event, text="t" * 9000))
    message = orjson.loads(http.requests[0].body)
    assert len(message["blocks"][2]["fields"]) == 10
    assert all(len(text) <= 3000 for text in texts(message["blocks"]))


@pytest.mark.parametrize(
    ("reply", "error", "text"),
    [
        (answer("200 OK", b'{"ok": false, "error": "channel_not_found"}'), ActionError, "channel_not_found"),
        (answer("200 OK", b'{"ok": false, "error": "invalid_blocks"}'), RejectedError, "invalid_blocks"),
        (answer("200 OK", b'{"ok": false, "error": "\\u001b[2J"}'), ActionError, "\\x1b[2J"),
        (answer("200 OK", b"<html>"), ActionError, "not that of Slack's API"),
        (answer("200 OK", b"[]"), ActionError, "not that of Slack's API"),
        (answer("200 OK", b'{"ok": true}'), ActionError, "not that of Slack's API"),
        (answer("429 No", b"", "Retry-After: 30\r\n"), RetryLaterError, "429"),
        (answer("500 No"), ActionError, "500"),
    ],
)
def test_what_slack_refuses_is_an_error_without_the_token(
    bot: Slack, http: HttpReceiver, alert: Alert, reply: bytes, error: type[ActionError], text: str
) -> None:
    http.reply = reply
    with pytest.raises(ActionError) as caught:
        bot.send(alert)
    assert type(caught.value) is error
    assert text in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "webhook_env: set it (or webhook_file), or else token_env (or token_file) and channel"),
        ({"token_env": "BPFD_TEST_TOKEN"}, "channel: is missing; set it"),
        ({"token_env": "BPFD_TEST_BAD", "channel": "c"}, "token_env: holds characters that no token has"),
        ({"webhook_env": "BPFD_TEST_TOKEN"}, "url: must be https://HOST/… (or http://), without a user"),
    ],
)
def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], text: str) -> None:
    monkeypatch.setenv("BPFD_TEST_TOKEN", TOKEN)
    monkeypatch.setenv("BPFD_TEST_BAD", "hunter2\u00e4")
    with pytest.raises(ActionError) as caught:
        Slack(settings)
    assert str(caught.value) == text


def test_what_happened_before_is_shown_line_by_line_and_cut_at_its_oldest_end() -> None:
    event = Event(0, "open", 1, 1, 1, 0, 0, "cat", 0, {"filename": "/etc/shadow"})
    earlier = tuple(event._replace(pid=pid, command="a\nb", data={"n": "x" * 300}) for pid in range(20))
    [shown] = [
        block["text"]["text"]
        for block in (made.to_dict() for made in blocks(Alert(event, context=earlier)))
        if block["type"] == "section" and block.get("text", {}).get("text", "").startswith("before:")
    ]
    assert len(shown) <= 3000
    assert "[19]" in shown.splitlines()[-1]
    assert "a\\nb" in shown
