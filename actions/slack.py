"""slack: posts alerts to a channel."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from bpfd import options
from bpfd.actions.http import TIMEOUT_S, Answer, Poster
from bpfd.alert import Alert
from bpfd.errors import ActionError, RejectedError
from bpfd.event import NOT_FOUND, Event, printable
from bpfd.format import clock, line, returned
from bpfd.plugin import Action

if TYPE_CHECKING:
    from slack_sdk.models.blocks import Block, PlainTextObject

API = "https://slack.com/api"
_NEVER = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_too_long", "no_text", "msg_blocks_too_long"})
_MOST_THREADS = 1000
_MOST_FIELDS = 10  # a section takes no more
_FIELD_TEXT = 500
_CONTEXT_TEXT = 2900


class Slack(Action):
    """Post each alert to Slack, by an incoming webhook or a bot token; repeats go into the thread of the first.

    The messages are made of the SDK's blocks and sent by ourselves: its transport follows redirects with the token in
    its hand and reads an answer of any size.
    """

    name = "slack"
    settings = {
        "webhook_env": "the environment variable that holds the URL of an incoming webhook",
        "webhook_file": "the file that holds it",
        "token_env": "the environment variable that holds a bot token (xoxb-…), with the scope chat:write",
        "token_file": "the file that holds it",
        "channel": "with a token: the channel's id or name",
        "thread": "with a token: how long alerts of the same rule and container go into one thread; 1h, 0 for never",
        "api": "the base of Slack's web API; https://slack.com/api",
        "timeout": "how long one post may take; 10s",
    }
    per_rule = ("channel", "thread")

    def __init__(self, settings: Mapping[str, Any]) -> None:
        webhook, token = options.secret(settings, "webhook"), options.secret(settings, "token")
        if (webhook is None) == (token is None):
            raise ActionError("webhook_env: set it (or webhook_file), or else token_env (or token_file) and channel")
        timeout_s = options.seconds(settings, "timeout", TIMEOUT_S, 0.1, 300)
        self._headers = {"Content-Type": "application/json; charset=utf-8"}
        self._channel = ""
        if token is not None:
            if not token.isascii() or not token.isprintable():
                raise ActionError("token_env: holds characters that no token has")
            self._channel = options.text(settings, "channel")
            self._headers["Authorization"] = f"Bearer {token}"
            webhook = options.text(settings, "api", API).rstrip("/") + "/chat.postMessage"
        self._poster = Poster(webhook or "", timeout_s)
        self._thread_s = options.seconds(settings, "thread", 3600, 0, 30 * 86400)
        self._threads: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    def act(self, event: Event) -> None:
        """Post one event."""
        self.send(Alert(event))

    def send(self, alert: Alert) -> None:
        """Post `alert`. Slack knows no ids of ours: a repeat can be told by the id in the message's last line."""
        message: dict[str, Any] = {
            "text": fallback(alert),
            "blocks": [block.to_dict() for block in blocks(alert)],
            "unfurl_links": False,
            "unfurl_media": False,
        }
        if not self._channel:
            self._poster.check(self._poster.post(orjson.dumps(message), self._headers))
            return
        key = (alert.event.rule, alert.event.container.id)
        message["channel"] = self._channel
        if thread := self._thread_of(key):
            message["thread_ts"] = thread
        answer = self._poster.post(orjson.dumps(message), self._headers)
        self._poster.check(answer)
        try:
            stamp = self._accepted(answer)
        except ActionError:
            self._threads.pop(key, None)  # it may be the thread, which was locked or removed: the next try begins one
            raise
        if not thread:
            self._threads[key] = (stamp, time.monotonic())
            if len(self._threads) > _MOST_THREADS:
                self._threads.popitem(last=False)

    def _thread_of(self, key: tuple[str, str]) -> str:
        stamp, since_s = self._threads.get(key, ("", 0.0))
        if stamp and time.monotonic() - since_s < self._thread_s:
            return stamp
        self._threads.pop(key, None)
        return ""

    def _accepted(self, answer: Answer) -> str:
        """The message's time stamp, which names its thread. The web API says what went wrong in a 200."""
        try:
            table = orjson.loads(answer.body)
            if table["ok"] is True:
                return str(table["ts"])
            error = printable(str(table["error"]))[:100]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise ActionError(f"{self._poster.where}: its answer is not that of Slack's API") from None
        if error in _NEVER:
            raise RejectedError(f"{self._poster.where}: {error}")
        raise ActionError(f"{self._poster.where}: {error}")


def fallback(alert: Alert) -> str:
    """The message where blocks are not shown. It is read as markup, and what a process said must not be."""
    text = alert.text or line(alert.event)
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")[:3000]


def blocks(alert: Alert) -> list[Block]:
    """The message: plain text throughout, so that nothing that a process said is read as markup or mentions anybody."""
    from slack_sdk.models.blocks import ContextBlock, HeaderBlock, SectionBlock  # 8 MB, for those who use it

    event = alert.event
    made: list[Block] = [HeaderBlock(text=_plain(f"{event.rule or event.tracer} on {event.host or 'this host'}", 150))]
    if alert.text:
        made.append(SectionBlock(text=_plain(alert.text, 3000)))
    fields = {"process": f"{event.command} [{event.pid}]", "user": f"{event.uid}:{event.gid}"}
    if event.container.runtime != NOT_FOUND:
        container = event.container
        fields["container"] = " ".join(filter(None, (container.runtime, container.name or container.id[:12])))
        if container.image:
            fields["image"] = container.image
    if event.return_value:
        fields["returned"] = returned(event.return_value)
    listed = [*fields.items(), *((key, value) for key, value in event.data.items() if value)][:_MOST_FIELDS]
    made.append(SectionBlock(fields=[_plain(f"{key}\n{value}", _FIELD_TEXT) for key, value in listed]))
    if alert.context:
        rows = "\n".join(printable(line(before)) for before in alert.context)
        made.append(SectionBlock(text=_rows(f"before:\n{rows[-_CONTEXT_TEXT:]}", 3000)))
    made.append(
        ContextBlock(elements=[_plain(f"{clock(event.time)} · {event.tracer} · {alert.severity} · {alert.id}", 300)])
    )
    return made


def _rows(text: str, most: int) -> PlainTextObject:
    """Lines that are printable already."""
    from slack_sdk.models.blocks import PlainTextObject

    return PlainTextObject(text=text[:most], emoji=False)


def _plain(text: str, most: int) -> PlainTextObject:
    from slack_sdk.models.blocks import PlainTextObject

    safe = "\n".join(printable(row) for row in text.split("\n", 1))
    return PlainTextObject(text=safe if len(safe) <= most else safe[: most - 1] + "…", emoji=False)
