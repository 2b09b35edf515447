"""The rules directory changes while the daemon runs: what is in it is in force soon, and without a signal."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.daemon.running import RunningDaemon, open_rule, opened, until
from tests.daemon.test_rules import touch

pytestmark = pytest.mark.serial
"""A second is promised, on a machine that does something else beside."""

BAD = 'tracer = "opne"\n'


def fires_soon(daemon: RunningDaemon, path: Path, rule: str, within_s: float = 1.0) -> None:
    """See that opening `path` fires `rule` before `within_s` have passed."""
    began = time.monotonic()

    def fired() -> bool:
        touch(path)
        return any(opened(path)(event) and event["rule"] == rule for event in daemon.lines.read())

    until(fired, lambda: daemon.log)
    assert time.monotonic() - began < within_s


@pytest.fixture
def running(daemon: RunningDaemon) -> RunningDaemon:
    daemon.write_rule("never", open_rule("nothing is named like this"))
    return daemon.start()


def test_a_file_that_is_dropped_in_is_in_force_within_a_second(running: RunningDaemon, tmp_path: Path) -> None:
    running.write_rule("new", open_rule(f"{tmp_path}/new"))
    fires_soon(running, tmp_path / "new", "new")
    assert running.rule("new")["state"] == "ok"


def test_a_file_that_is_removed_is_in_force_no_longer(running: RunningDaemon, tmp_path: Path) -> None:
    file = running.write_rule("going", open_rule(f"{tmp_path}/x"))
    fires_soon(running, tmp_path / "x", "going")
    file.unlink()
    until(lambda: [rule["name"] for rule in running.json("ls")] == ["never"], lambda: running.json("ls"), 2)


def test_a_file_that_became_bad_keeps_its_last_good_version_and_is_reported(
    running: RunningDaemon, tmp_path: Path
) -> None:
    file = running.write_rule("mine", open_rule(f"{tmp_path}/x"))
    fires_soon(running, tmp_path / "x", "mine")
    file.write_text(BAD)
    rule = until(
        lambda: next((rule for rule in running.json("ls") if rule["state"] == "kept"), None), lambda: running.log
    )
    problem = f'{file}:1: tracer: there is no tracer "opne"; did you mean "open"?'
    assert (rule["name"], rule["problem"], rule["tracer"]) == ("mine", problem, "open")
    assert len(running.json("ls")) == 2
    status = running.json("status")
    assert (status["problems"], status["rules"]) == ([problem], {"kept": 1, "ok": 1})
    assert problem in running.log
    assert f"{file}: its last good version stays in force" in running.log
    fires_soon(running, tmp_path / "x-again", "mine")
    file.write_text(open_rule(f"{tmp_path}/y"))
    fires_soon(running, tmp_path / "y", "mine")
    assert running.json("status")["problems"] == []
    assert f"{file}: is no longer bad" in running.log


def test_a_rule_that_is_half_written_matches_nothing_that_the_whole_would_not(
    running: RunningDaemon, tmp_path: Path
) -> None:
    """Its first half is a rule too: every open."""
    text = open_rule(f"{tmp_path}/wanted")
    half = text.index("[filterEvents")
    with (running.rules_dir / "slow.toml").open("w") as file:
        file.write(text[:half])
        file.flush()
        running.write_rule("other", open_rule(f"{tmp_path}/other"))  # has the directory read meanwhile
        fires_soon(running, tmp_path / "other", "other")
        assert {rule["name"] for rule in running.json("ls")} == {"never", "other"}
        file.write(text[half:])
    fires_soon(running, tmp_path / "wanted", "slow")
    assert {event["data"]["filename"] for event in running.lines.read() if event["rule"] == "slow"} == {
        f"{tmp_path}/wanted"
    }
    assert "slow.toml" not in running.log


def test_an_editor_that_renames_its_new_file_over_the_old_changes_the_rule_in_one_step(
    running: RunningDaemon, tmp_path: Path
) -> None:
    file = running.write_rule("edited", open_rule(f"{tmp_path}/old"))
    fires_soon(running, tmp_path / "old", "edited")
    new = file.with_name(".edited.toml.tmp")
    new.write_text(open_rule(f"{tmp_path}/new"))
    new.rename(file)
    fires_soon(running, tmp_path / "new", "edited")
    before = running.rule("edited")["matched"]
    touch(tmp_path / "old")
    fires_soon(running, tmp_path / "new", "edited")
    events = [event for event in running.lines.read() if event["rule"] == "edited"]
    assert events[-1]["data"]["filename"] == f"{tmp_path}/new"
    assert running.rule("edited")["matched"] == before + 1


def test_a_thousand_files_at_once_are_all_in_force_soon(running: RunningDaemon, tmp_path: Path) -> None:
    began = time.monotonic()
    for number in range(1000):
        running.write_rule(f"r{number}", open_rule(f"{tmp_path}/{number}-"))
    written_s = time.monotonic() - began
    fires_soon(running, tmp_path / "999-", "r999", 5.0)
    took_s = time.monotonic() - began
    print(f"1,000 files written in {written_s:.2f} s, in force after {took_s:.2f} s")
    until(lambda: running.json("status")["rules"] == {"ok": 1001}, lambda: running.json("status")["rules"])
    for number in (0, 500):
        fires_soon(running, tmp_path / f"{number}-", f"r{number}")
    running.write_rule("one-more", open_rule(f"{tmp_path}/more"))
    fires_soon(running, tmp_path / "more", "one-more")
    for number in range(1000):
        (running.rules_dir / f"r{number}.toml").unlink()
    until(lambda: running.json("status")["rules"] == {"ok": 2}, lambda: running.json("status")["rules"], 5)


def test_a_directory_that_was_not_there_at_the_start_is_read_once_it_is(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.rules_dir.rmdir()
    daemon.start(config='tracers = ["open"]\ndefault_actions = []\n')
    assert "the rules directory cannot be read" in daemon.json("status")["problems"][0]
    daemon.rules_dir.mkdir()
    daemon.write_rule("late", open_rule(f"{tmp_path}/late", actions='"stdout"'))
    fires_soon(daemon, tmp_path / "late", "late")
    assert daemon.json("status")["problems"] == []


def test_a_rule_that_was_removed_by_command_stays_away_until_its_file_changes(
    running: RunningDaemon, tmp_path: Path
) -> None:
    file = running.write_rule("gone", open_rule(f"{tmp_path}/x"))
    fires_soon(running, tmp_path / "x", "gone")
    running.bpfd("rm", "gone")
    running.write_rule("other", open_rule(f"{tmp_path}/other"))
    fires_soon(running, tmp_path / "other", "other")
    assert {rule["name"] for rule in running.json("ls")} == {"never", "other"}
    os.utime(file)
    file.write_text(open_rule(f"{tmp_path}/y"))
    fires_soon(running, tmp_path / "y", "gone")


def test_warnings_modes_and_severities_are_shown(running: RunningDaemon, tmp_path: Path) -> None:
    long = "a command of more than fifteen bytes"
    running.write_rule("odd", f'tracer = "open"\nseverity = "alert"\n[filterEvents.command]\nvalues = ["{long}"]\n')
    running.write_rule("off", open_rule(f"{tmp_path}/off", more="enabled = false"))
    running.write_rule("watching", open_rule(f"{tmp_path}/seen", more='mode = "observe"'))
    until(lambda: len(running.json("ls")) == 4, lambda: running.log)
    listed = {rule["name"]: rule for rule in running.json("ls")}
    assert {name: rule["state"] for name, rule in listed.items()} == {
        "never": "ok",
        "odd": "ok",
        "off": "disabled",
        "watching": "observe",
    }
    assert (listed["odd"]["severity"], listed["off"]["severity"]) == ("alert", "notice")
    (warning,) = listed["odd"]["warnings"]
    assert warning.startswith(f"{running.rules_dir}/odd.toml:4: warning: filterEvents.command.values")
    assert running.json("status")["warnings"] == [warning]
    assert warning in running.bpfd("status")
