"""Alerts reach their receiver, also over its failures and the daemon's own end."""

from __future__ import annotations

import json
from pathlib import Path

from tests.actions.receivers import HttpReceiver, answer, http_receiver
from tests.daemon.running import RunningDaemon, until

RULE = """
tracer = "open"
actions = ["hook"]
severity = "critical"
output = "{{command}} opened {{filename}}"
{more}
[filterEvents.filename]
is = ["{path}"]
"""


def told(receiver: HttpReceiver) -> dict[str, bytes]:
    """The alerts that arrived, by their ids."""
    return {request.headers["webhook-id"]: request.body for request in receiver.requests}


def config(receiver: HttpReceiver) -> str:
    return f'[actions.hook]\ntype = "webhook"\nurl = "{receiver.url}"\n'


def test_an_alert_arrives_with_its_severity_and_message(daemon: RunningDaemon, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("")
    with http_receiver() as receiver:
        daemon.write_rule("secret", RULE.format(path=secret, more=""))
        daemon.start(config=config(receiver))
        secret.read_text()
        until(lambda: len(told(receiver)) == 1, lambda: daemon.log)
        [body] = told(receiver).values()
    event = json.loads(body)
    assert event["alert"]["severity"] == "critical"
    assert event["alert"]["text"].endswith(f"opened {secret}")


def test_an_alert_that_could_not_be_told_is_told_after_a_kill_and_a_restart(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("")
    with http_receiver() as receiver:
        receiver.reply = answer("503 Service Unavailable")
        daemon.write_rule("secret", RULE.format(path=secret, more=""))
        daemon.start(config=config(receiver))
        secret.read_text()
        until(lambda: receiver.requests, lambda: daemon.log)
        [before] = told(receiver)
        daemon.kill()
        receiver.requests.clear()
        receiver.reply = answer("200 OK")
        daemon.start(config=config(receiver))
        until(lambda: told(receiver), lambda: daemon.log, 40)
        assert list(told(receiver)) == [before]


def test_a_rule_that_only_observes_reports_and_tells_nobody(daemon: RunningDaemon, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("")
    with http_receiver() as receiver:
        daemon.write_rule("secret", RULE.format(path=secret, more='mode = "observe"'))
        daemon.start(config=config(receiver))
        trace = daemon.trace()
        secret.read_text()
        trace.wait_for(lambda event: event["rule"] == "secret")
        assert daemon.rule("secret")["matched"] == 1
        assert not receiver.requests
