"""`bpfd trace --near-miss`: what the kernel drops is there while somebody asks for it, and nothing acts on it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.daemon.running import RunningDaemon, open_rule, opened, until
from tests.daemon.test_rules import touch

RULE = """
tracer = "open"
actions = ["stdout"]
[filterEvents.filename]
prefix = ["{prefix}"]
suffix = [".key"]
[excludeEvents.command]
is = ["cat"]
"""


def test_events_that_fail_exactly_one_clause_are_shown_with_it_and_nothing_acts_on_them(
    shared: RunningDaemon, tmp_path: Path
) -> None:
    shared.create("keys", RULE.format(prefix=f"{tmp_path}/secret-"))
    trace = shared.trace("--near-miss", "keys")
    matches = shared.trace("--rule", "keys")
    touch(tmp_path / "secret-a.txt")  # fails the suffix
    touch(tmp_path / "public.txt")  # fails both
    touch(tmp_path / "secret-b.key")  # matches
    subprocess.run(["cat", tmp_path / "secret-b.key"], check=True)  # fails the exception
    touch(tmp_path / "public.key")  # fails the prefix
    (last,) = trace.wait_for(opened(tmp_path / "public.key"))
    assert last["rule"] == "keys"
    near = {
        (os.path.basename(event["data"]["filename"]), event["missed"].split(";")[0].split(' "/')[0])
        for event in trace.read()
        if event["data"]["filename"].startswith(str(tmp_path))
    }
    assert near == {
        ("secret-a.txt", 'filename ends with ".key"'),
        ("secret-b.key", 'not command is "cat"'),
        ("public.key", "filename starts with"),
    }
    matches.wait_for(opened(tmp_path / "secret-b.key"))
    assert [event["command"] for event in matches.read()] == [last["command"]]
    assert shared.rule("keys")["matched"] == 1
    shared.wait_for(opened(tmp_path / "secret-b.key"))
    assert len([event for event in shared.lines.read() if event["rule"] == "keys"]) == 1
    shared.bpfd("rm", "keys")


def test_what_nobody_follows_any_longer_is_dropped_in_the_kernel_again(shared: RunningDaemon, tmp_path: Path) -> None:
    shared.create("quiet", RULE.format(prefix=f"{tmp_path}/secret-"))

    def passed() -> int:
        before = shared.json("explain", "quiet")["passed"]
        for _ in range(50):
            touch(tmp_path / "secret-a.txt")
        return int(shared.json("explain", "quiet")["passed"]) - before

    assert passed() == 0
    trace = shared.trace("--near-miss", "quiet")
    touch(tmp_path / "secret-a.txt")
    trace.wait_for(opened(tmp_path / "secret-a.txt"))
    assert passed() >= 50
    shared.end_followers()
    until(lambda: passed() == 0, lambda: "it still passes")
    shared.bpfd("rm", "quiet")


def test_a_rule_that_changes_is_followed_as_it_is_now(shared: RunningDaemon, tmp_path: Path) -> None:
    shared.create("moving", RULE.format(prefix=f"{tmp_path}/old-"))
    trace = shared.trace("--near-miss", "moving")
    touch(tmp_path / "old-1")
    trace.wait_for(opened(tmp_path / "old-1"))
    shared.create("moving", RULE.format(prefix=f"{tmp_path}/new-"), "--replace")
    touch(tmp_path / "old-2")
    touch(tmp_path / "new-1")
    trace.wait_for(opened(tmp_path / "new-1"))
    assert not [event for event in trace.read() if opened(tmp_path / "old-2")(event)]
    shared.bpfd("rm", "moving")


def test_a_near_miss_of_a_rule_that_kills_in_the_kernel_kills_nobody(shared: RunningDaemon, tmp_path: Path) -> None:
    guard = open_rule(f"{tmp_path}/forbidden", actions='"kill"', more='where = "kernel"')
    shared.create("guard", f'{guard}\n[excludeEvents.command]\nis = ["cat"]\n')
    trace = shared.trace("--near-miss", "guard")
    touch(tmp_path / "allowed")
    assert subprocess.run(["cat", tmp_path / "forbidden"], capture_output=True).returncode == 1
    trace.wait_for(lambda event: event["command"] == "cat" and opened(tmp_path / "forbidden")(event))
    assert subprocess.run(["head", tmp_path / "forbidden"], capture_output=True).returncode == -9
    shared.bpfd("rm", "guard")


def test_a_rule_that_cannot_be_missed_is_refused(shared: RunningDaemon) -> None:
    shared.create("all", 'tracer = "open"\nactions = ["journald"]\n')
    assert "matches every event" in shared.bpfd("trace", "--near-miss", "all", code=1)
    shared.bpfd("rm", "all")
    shared.create("off", 'tracer = "open"\nenabled = false\n')
    said = shared.bpfd("trace", "--near-miss", "off", code=1)
    assert said == 'rule "off": is not enabled; see bpfd ls\n'
    shared.bpfd("rm", "off")
    said = shared.bpfd("trace", "--near-miss", "nowhere", code=1)
    assert said == 'there is no rule "nowhere"; bpfd ls lists the rules\n'
