"""The ledger, trials, dead letters and mutes of a running daemon."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

from tests.actions.receivers import answer, http_receiver
from tests.daemon.running import RunningDaemon, until
from tests.daemon.test_reactions import config, rule, told


def read(path: Path) -> None:
    """By a process of its own, that may be ended."""
    subprocess.run(["cat", str(path)], check=False, stdout=subprocess.DEVNULL)


def test_every_response_is_in_the_ledger_with_its_event(daemon: RunningDaemon, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("")
    daemon.write_rule("secret", rule(secret, '"kill"'))
    daemon.start(config='[limits]\nexpire = "5m"\n')
    reader = subprocess.Popen(["tail", "-f", str(secret)])
    try:
        assert reader.wait(60) == -signal.SIGKILL
    finally:
        reader.kill()
        reader.wait()
    until(lambda: daemon.json("actions", "log"), lambda: daemon.log)
    [entry] = daemon.json("actions", "log")
    assert (entry["action"], entry["rule"], entry["result"]) == ("kill", "secret", "done")
    assert (entry["target"], entry["event"]["pid"]) == (f"process {reader.pid} (tail)", reader.pid)
    daemon.stop()
    daemon.start()
    assert daemon.json("actions", "log") == [entry]


def test_a_notifier_is_tried_and_what_is_wrong_is_said(daemon: RunningDaemon) -> None:
    with http_receiver() as receiver:
        daemon.start(config=config(receiver))
        assert re.fullmatch(r"hook: delivered in \d+\.\d\d s\n", daemon.bpfd("actions", "test", "hook"))
        [alert] = told(receiver)
        assert (alert["tracer"], alert["alert"]["kind"]) == ("test", "notice")
        receiver.reply = answer("418 Teapot")
        assert " s: " in daemon.bpfd("actions", "test", "hook", code=1)
        assert "unknown action" in daemon.bpfd("actions", "test", "hok", code=1)
        assert "only what tells somebody can be tried" in daemon.bpfd("actions", "test", "kill", code=1)


def test_dead_letters_are_sent_again_when_one_asks(daemon: RunningDaemon, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("")
    with http_receiver() as receiver:
        receiver.reply = answer("500 No")
        daemon.write_rule("secret", rule(secret, '"hook"'))
        daemon.start(config=f"{config(receiver)}retries = 2\nretry_first = 0.05\n")
        read(secret)
        until(lambda: daemon.json("actions", "dead"), lambda: daemon.log)
        [letter] = daemon.json("actions", "dead")
        assert (letter["action"], letter["rule"], letter["tries"]) == ("hook", "secret", 2)
        assert "500" in letter["problem"]
        receiver.requests.clear()
        receiver.reply = answer("200 OK")
        assert daemon.bpfd("actions", "retry", "hook") == "1 alert will be sent again\n"
        until(lambda: receiver.requests, lambda: daemon.log)
        assert receiver.requests[0].headers["webhook-id"] == letter["id"]
        until(lambda: not daemon.json("actions", "dead"), lambda: daemon.log)


def test_what_is_not_there_is_an_error_that_names_the_nearest(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.write_rule("secret", rule(tmp_path / "secret", '"hook"'))
    with http_receiver() as receiver:
        daemon.start(config=config(receiver))
        for words in (("retry",), ("dead",), ("dead", "--json")):
            assert daemon.bpfd("actions", *words, "hok", code=1) == 'there is no action "hok"; did you mean "hook"?\n'
        assert daemon.bpfd("actions", "retry", "NO\x1b", code=1).startswith(
            'there is no action "NO\\x1b"; actions are container_checkpoint, '
        )
        assert daemon.bpfd("actions", "retry", "hook") == "0 alerts will be sent again\n"
        nearest = 'there is no rule "secre"; did you mean "secret"?\n'
        for command in ("rm secre", "explain secre", "mute secre --for 1h --why x", "trace --near-miss secre"):
            assert daemon.bpfd(*command.split(), code=1) == nearest, command
        assert daemon.bpfd("explain", "x", code=1) == 'there is no rule "x"; bpfd ls lists the rules\n'
        assert daemon.bpfd("trace", "--tracer", "opne", code=1) == 'there is no tracer "opne"; did you mean "open"?\n'
        assert daemon.bpfd("unmute", "x", code=1) == 'there is no mute "x"; bpfd mutes lists them\n'


def test_a_mute_hides_matches_from_actions_and_not_from_the_trace_also_after_a_restart(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("")
    with http_receiver() as receiver:
        daemon.write_rule("secret", rule(secret, '"hook", "kill"'))
        daemon.start(config=config(receiver))
        assert 'there is no rule "secre"' in daemon.bpfd("mute", "secre", "--for", "1h", "--why", "x", code=1)
        said = daemon.bpfd("mute", "secret", "comand=tail", "--for", "1h", "--why", "x", code=1)
        assert 'did you mean "command"?' in said
        daemon.bpfd("mute", "secret", "command=tail", "--for", "1h", "--why", "we know")
        daemon.stop()
        daemon.start(config=config(receiver))
        trace = daemon.trace()
        reader = subprocess.Popen(["tail", "-f", str(secret)])
        try:
            trace.wait_for(lambda event: event["command"] == "tail")
            until(lambda: daemon.json("mutes")[0]["hidden"], lambda: daemon.json("mutes"))
            [mute] = daemon.json("mutes")
            assert (mute["hidden"], mute["where"], mute["why"]) == (1, {"command": "tail"}, "we know")
            assert daemon.rule("secret")["matched"] == 1
            assert reader.poll() is None
        finally:
            reader.kill()
            reader.wait()
        read(secret)
        until(lambda: receiver.requests, lambda: daemon.log)
        assert {event["command"] for event in told(receiver)} == {"cat"}
        daemon.bpfd("unmute", mute["id"])
        assert daemon.json("mutes") == []
