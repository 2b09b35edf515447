"""What the commands say of responses, trials, dead letters and mutes."""

from __future__ import annotations

import json

import pytest

from bpfd.control import DeadLetter, Trial
from bpfd.errors import RuleNotFoundError
from bpfd.ledger import Entry
from tests.api.fake_control import EVENT, FakeControl
from tests.cli.program import Bpfd

pytestmark = pytest.mark.usefixtures("server")

NOW = 1_700_000_000 * 10**9
ENTRY = Entry(NOW, "kill", "shadow", "process 41 (cat)", "gone", "it has \x1b[31mended", EVENT.as_dict())


def test_the_log_shows_what_was_done_to_whom(bpfd: Bpfd, control: FakeControl) -> None:
    control.acting.entries = [ENTRY]
    assert bpfd("actions", "log").splitlines() == [
        "TIME                  ACTION  RULE    TARGET            RESULT  DETAIL",
        "2023-11-14T22:13:20Z  kill    shadow  process 41 (cat)  gone    it has \\x1b[31mended",
    ]
    [entry] = json.loads(bpfd("actions", "log", "--json", "-n", "1"))
    assert entry["event"] == json.loads(EVENT.to_json())
    assert (entry["time"], entry["result"], entry["detail"]) == (NOW, "gone", "it has \x1b[31mended")


def test_the_log_is_as_long_as_one_asks(bpfd: Bpfd, control: FakeControl) -> None:
    control.acting.entries = [ENTRY] * 200
    assert len(bpfd("actions", "log").splitlines()) == 101
    assert len(bpfd("actions", "log", "-n", "3").splitlines()) == 4
    assert len(bpfd("actions", "log", "-n", "1000").splitlines()) == 201
    for wrong in ("0", "1001", "many"):
        assert "-n" in bpfd("actions", "log", "-n", wrong, code=2)


def test_a_trial_says_how_it_went(bpfd: Bpfd, control: FakeControl) -> None:
    control.acting.trials = {"hook": Trial(True, "", 0.25), "slack": Trial(False, "slack.com: no_\x1bauth", 1.5)}
    assert bpfd("actions", "test", "hook") == "hook: delivered in 0.25 s\n"
    said = bpfd("actions", "test", "slack", code=1)
    assert said == "slack: not delivered, after 1.50 s: slack.com: no_\\x1bauth\n"


def test_dead_letters_are_listed_and_sent_again(bpfd: Bpfd, control: FakeControl) -> None:
    control.acting.letters = [
        DeadLetter("a1", "hook", "shadow", NOW, 50, "503"),
        DeadLetter("b2", "slack", "x", NOW, 1, ""),
    ]
    assert bpfd("actions", "dead").splitlines()[1].split() == [
        "2023-11-14T22:13:20Z",
        "hook",
        "shadow",
        "50",
        "a1",
        "503",
    ]
    [letter] = json.loads(bpfd("actions", "dead", "slack", "--json"))
    assert letter == {"id": "b2", "action": "slack", "rule": "x", "time": NOW, "tries": 1, "problem": ""}
    assert bpfd("actions", "retry", "hook") == "1 alert will be sent again\n"
    assert bpfd("actions", "retry") == "1 alert will be sent again\n"
    assert bpfd("actions", "retry") == "0 alerts will be sent again\n"


def test_a_mute_is_made_listed_and_ended(bpfd: Bpfd, control: FakeControl) -> None:
    said = bpfd("mute", "shadow", "command=cron", "path=/a=b", "--for", "7d", "--why", "we know")
    assert said == "m0: shadow is muted until 2023-11-21T22:13:20Z; bpfd unmute m0 ends it\n"
    assert control.acting.muted[0].where == {"command": "cron", "path": "/a=b"}
    words = ["m0", "shadow", "command=cron", "path=/a=b", "2023-11-21T22:13:20Z", "0", "we", "know"]
    assert bpfd("mutes").splitlines()[1].split() == words
    [mute] = json.loads(bpfd("mutes", "--json"))
    assert (mute["why"], mute["hidden"], mute["where"]) == ("we know", 0, {"command": "cron", "path": "/a=b"})
    assert bpfd("unmute", "m9", "m0", code=1) == 'there is no mute "m9"; bpfd mutes lists them\n'
    assert control.acting.muted == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["command", "--for", "7d", "--why", "x"], "bpfd mute: command: is no FIELD=VALUE; write such as command=cron"),
        (["--for", "soon", "--why", "x"], "bpfd mute: --for: is no length of time"),
        (["--why", "x"], "bpfd mute: the following arguments are required: --for"),
        (["--for", "7d"], "bpfd mute: the following arguments are required: --why"),
    ],
)
def test_a_mute_that_cannot_be_is_a_wrong_command_line(bpfd: Bpfd, words: list[str], said: str) -> None:
    assert bpfd("mute", "shadow", *words, code=2).startswith(said)


def test_what_the_daemon_refuses_is_said(bpfd: Bpfd, control: FakeControl) -> None:
    control.error = RuleNotFoundError(['there is no rule "shado"; bpfd ls lists the rules'])
    said = bpfd("mute", "shado", "--for", "1h", "--why", "x", code=1)
    assert said == 'there is no rule "shado"; bpfd ls lists the rules\n'
