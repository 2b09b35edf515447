"""A post to a receiver that may do anything."""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from bpfd.actions.http import Poster, retry_after_s
from bpfd.errors import ActionError, RejectedError, RetryLaterError
from tests.actions.receivers import HttpReceiver, answer, drip, flood, hang


def post(http: HttpReceiver, timeout_s: float = 5) -> None:
    poster = Poster(http.url + "/a/secret/path?token=secret", timeout_s)
    poster.check(poster.post(b"hello", {"X-A": "b"}))


@pytest.mark.parametrize("url", ["https://host/a b", "https://host/\u00e4", "https://host/?q=\u65e5"])
def test_a_url_that_cannot_be_asked_for_is_an_error_at_the_start(url: str) -> None:
    with pytest.raises(ActionError, match=r"^url: "):
        Poster(url)


def test_a_date_that_is_none_asks_for_no_time() -> None:
    assert retry_after_s("Mon, 01 Jan 99999999999999 00:00:00 GMT") is None


def test_what_is_posted_arrives(http: HttpReceiver) -> None:
    post(http)
    request = http.requests[0]
    assert request.line == "POST /a/secret/path?token=secret HTTP/1.1"
    assert request.body == b"hello"
    assert request.headers["x-a"] == "b"


@pytest.mark.parametrize(
    ("reply", "error", "text"),
    [
        (answer("500 No"), ActionError, "answered 500 Internal Server Error"),
        (answer("404 No"), ActionError, "answered 404 Not Found"),
        (answer("400 No"), RejectedError, "answered 400 Bad Request"),
        (answer("413 No"), RejectedError, "answered 413 Request Entity Too Large"),
        (answer("429 No"), ActionError, "answered 429 Too Many Requests"),
        (answer("302 No", headers="Location: http://169.254.169.254/\r\n"), ActionError, "redirects are not followed"),
        (b"garbage\r\n\r\n", ActionError, "its answer is not HTTP"),
        (b"\0" * 100_000, ActionError, "its answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", ActionError, "its answer is not HTTP"),
        (b"", ActionError, "closed the connection before its answer was whole"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", ActionError, "before its answer was whole"),
    ],
)
def test_every_bad_answer_is_an_error_that_does_not_show_the_url(
    http: HttpReceiver, reply: bytes, error: type[ActionError], text: str
) -> None:
    http.reply = reply
    with pytest.raises(ActionError) as caught:
        post(http)
    assert type(caught.value) is error
    assert text in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(http.requests) == 1


@pytest.mark.parametrize("reply", [hang, drip], ids=["hangs", "drips"])
def test_a_receiver_that_takes_too_long_is_cut_off(http: HttpReceiver, reply: object) -> None:
    http.reply = reply  # type: ignore[assignment]
    began = time.monotonic()
    with pytest.raises(ActionError, match=r"no answer within 0\.2 s"):
        post(http, 0.2)
    assert time.monotonic() - began < 3


def test_an_endless_answer_is_not_read_to_its_end(http: HttpReceiver) -> None:
    http.reply = flood
    post(http)


def test_a_server_that_stalls_in_the_handshake_is_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        poster = Poster(f"https://127.0.0.1:{server.getsockname()[1]}/", 0.2)
        with pytest.raises(ActionError, match=r"no answer within 0\.2 s"):
            poster.post(b"", {})


def test_a_receiver_that_is_not_there_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ActionError, match=f"127.0.0.1:{port}: Connection refused"):
        Poster(f"http://127.0.0.1:{port}/").post(b"", {})


def test_the_time_that_a_busy_receiver_asks_for_is_passed_on(http: HttpReceiver) -> None:
    http.reply = answer("429 Slow", headers="Retry-After: 17\r\n")
    with pytest.raises(RetryLaterError) as caught:
        post(http)
    assert caught.value.after_s == 17


def test_retry_after_is_a_number_a_date_or_nothing() -> None:
    assert retry_after_s("120") == 120
    soon = retry_after_s(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True))
    assert soon is not None
    assert 50 < soon <= 60
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    for garbage in ("", "soon", "-1", "1e9", "١٢", "9" * 50, "Wed, 99 Oct 2015"):
        assert retry_after_s(garbage) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ftp://secret/",
        "http://",
        "https://me:secret@host/",
        "http://host:secret/",
        "http://[secret/",
        "http://h/\nsecret",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ActionError) as caught:
        Poster(url)
    assert str(caught.value).startswith("url: ")
    assert "secret" not in str(caught.value)
