"""notify tells any service that apprise knows."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from bpfd.actions.notify import Notify
from bpfd.alert import Alert
from bpfd.errors import ActionError
from tests.actions.receivers import HttpReceiver, answer, drip, flood, hang, http_receiver

Make = Callable[..., Notify]


@pytest.fixture
def make(http: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes the action, for a service at the test's receiver."""
    made: list[Notify] = []

    def _make(**settings: object) -> Notify:
        monkeypatch.setenv("BPFD_TEST_URL", http.url.replace("http://", "json://me:hunter2@"))
        made.append(Notify({"url_env": "BPFD_TEST_URL", **settings}))
        return made[-1]

    yield _make
    for action in made:
        action.close()


def test_a_service_is_told(http: HttpReceiver, make: Make, alert: Alert) -> None:
    action = make()
    action.send(alert)
    told = orjson.loads(http.requests[0].body)
    assert told["title"] == "secrets on here"
    assert alert.id in told["message"]
    assert "\x1b" not in told["message"]
    action.send(replace(alert, id="2", text="x" * 1_000_000))
    assert len(http.requests) == 2


def test_a_service_that_refuses_is_an_error_without_the_secret(
    http: HttpReceiver, make: Make, alert: Alert, capfd: pytest.CaptureFixture[str]
) -> None:
    action = make()
    for status in ("500 No", "429 No", "404 No"):
        http.reply = answer(status)
        with pytest.raises(ActionError, match="did not take it"):
            action.send(alert)
    http.reply = answer("200 OK")
    action.send(alert)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("reply", [b"garbage\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
def test_a_service_that_talks_nonsense_or_goes_half_way_is_an_error(
    http: HttpReceiver, make: Make, alert: Alert, reply: bytes
) -> None:
    http.reply = reply
    with pytest.raises(ActionError, match="did not take it"):
        make().send(alert)


@pytest.mark.parametrize("reply", [hang, drip], ids=["hangs", "drips"])
def test_a_service_that_takes_too_long_is_left_and_the_next_alert_is_told(
    http: HttpReceiver, make: Make, alert: Alert, reply: Callable[[socket.socket], None]
) -> None:
    action = make(timeout=3)
    http.plan = [reply]
    began = time.monotonic()
    with pytest.raises(ActionError, match=r"no answer within 3 s"):
        action.send(alert)
    assert time.monotonic() - began < 10
    action.send(alert)
    assert len(http.requests) == 2


def test_a_service_that_never_stops_talking_takes_a_bounded_time_and_memory(
    http: HttpReceiver, make: Make, alert: Alert
) -> None:
    action = make(timeout=6)
    http.plan = [flood]
    began = time.monotonic()
    with pytest.raises(ActionError):
        action.send(alert)
    assert time.monotonic() - began < 20
    action.close()
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 600 * 1024
    action.send(alert)


def test_a_service_that_sends_us_elsewhere_is_not_followed(http: HttpReceiver, make: Make, alert: Alert) -> None:
    with http_receiver() as elsewhere:
        http.reply = answer("307 No", headers=f"Location: {elsewhere.url}/\r\n")
        with pytest.raises(ActionError, match="did not take it"):
            make().send(alert)
        assert elsewhere.requests == []


def test_a_child_that_was_killed_is_started_again(make: Make, alert: Alert) -> None:
    action = make()
    action.send(alert)
    assert action._child is not None
    os.kill(action._child.pid, signal.SIGKILL)
    with pytest.raises(ActionError, match="apprise ended in the middle"):
        action.send(alert)
    action.send(alert)


def test_the_secret_is_in_no_command_line_and_nothing_stays_until_the_first_alert(make: Make, alert: Alert) -> None:
    action = make()
    assert action._child is None
    action.send(alert)
    assert action._child is not None
    assert b"hunter2" not in Path(f"/proc/{action._child.pid}/cmdline").read_bytes()


def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ActionError, match="url_env: is missing"):
        Notify({})
    monkeypatch.setenv("BPFD_TEST_URL", "hunter2")
    with pytest.raises(ActionError, match="url_env: is not a URL that apprise knows") as caught:
        Notify({"url_env": "BPFD_TEST_URL"})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ActionError, match="timeout: must be a time"):
        Notify({"url_env": "BPFD_TEST_URL", "timeout": 0})
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ActionError, match=r"install bpfd\[notify\]"):
        Notify({"url_env": "BPFD_TEST_URL"})
