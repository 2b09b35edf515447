"""Rules: those of the directory, those of the API, and what happens where there are none."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.daemon.running import RunningDaemon, open_rule, opened, until

SEEDS_SAMPLE = """\
tracer = "exec"
actions = ["stdout"]
[filterEvents]
[filterEvents.command]
values = ["sshd", "ping"]
containerRuntimes = ["docker","kube"]
"""


def touch(path: Path) -> Path:
    """Make a file, which opens it."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    return path


def rows(listing: str) -> dict[str, list[str]]:
    """What `bpfd ls` prints, by name."""
    lines = [line.split() for line in listing.splitlines()]
    assert lines[0][:2] == ["NAME", "TRACER"]
    return {line[0]: line[1:] for line in lines[1:]}


def test_rules_are_created_listed_traced_and_removed(shared: RunningDaemon, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(open_rule(f"{tmp_path}/x"))
    (tmp_path / "named.toml").write_text(f'name = "other"\n{open_rule(f"{tmp_path}/y")}')
    created = shared.bpfd("create", str(tmp_path / "mine.toml"), str(tmp_path / "named.toml"))
    assert created == "created mine (open)\ncreated other (open)\n"
    trace = shared.trace("--rule", "other")
    touch(tmp_path / "x")
    touch(tmp_path / "y")
    (event,) = trace.wait_for(lambda event: True)
    assert (event["rule"], event["data"]["filename"]) == ("other", f"{tmp_path}/y")
    assert shared.wait_for(lambda event: event["rule"] == "mine")[0]["data"]["filename"] == f"{tmp_path}/x"
    listed = rows(shared.bpfd("ls"))
    assert (listed["mine"][0], listed["other"][0], listed["mine"][-2:]) == ("open", "open", ["1", "ok"])
    assert shared.bpfd("rm", "mine", "other") == ""
    assert not {"mine", "other"} & rows(shared.bpfd("ls")).keys()
    matched = len(shared.lines.read())
    touch(tmp_path / "x")
    shared.create("after", open_rule(f"{tmp_path}/z"))
    shared.wait_for(opened(touch(tmp_path / "z")))
    assert [event["rule"] for event in shared.lines.read()[matched:]] == ["after"]


def test_a_name_in_use_is_refused_unless_it_is_to_be_replaced(shared: RunningDaemon, tmp_path: Path) -> None:
    first, second = open_rule(f"{tmp_path}/first"), open_rule(f"{tmp_path}/second")
    shared.create("used", first)
    (tmp_path / "used.toml").write_text(second)
    refused = shared.bpfd("create", str(tmp_path / "used.toml"), code=1)
    assert refused == (
        f'{tmp_path}/used.toml: name: there is a rule "used" already; choose another name, or give --replace\n'
    )
    assert shared.wait_for(opened(touch(tmp_path / "first")))[0]["rule"] == "used"
    shared.bpfd("create", "--replace", str(tmp_path / "used.toml"))
    touch(tmp_path / "first")
    shared.wait_for(opened(touch(tmp_path / "second")))
    assert len([event for event in shared.lines.read() if opened(tmp_path / "first")(event)]) == 1


def test_removing_what_is_not_there_fails_and_removes_what_is(shared: RunningDaemon) -> None:
    shared.create("there", open_rule("there"))
    refused = shared.bpfd("rm", "nowhere", "there", "-x-", code=2)
    assert "-x-" in refused
    assert shared.bpfd("rm", "nowhere", "there", code=1) == ('there is no rule "nowhere"; did you mean "there"?\n')
    assert "there" not in rows(shared.bpfd("ls"))
    shared.create("there", open_rule("there"))
    assert 'belongs to tracer "open"' in shared.bpfd("rm", "--tracer", "exec", "there", code=1)
    assert "there" in rows(shared.bpfd("ls"))


def test_a_bad_rule_is_refused_with_all_its_problems_and_changes_nothing(shared: RunningDaemon) -> None:
    before = shared.json("ls")
    bad = shared.place / "bad.toml"
    bad.write_text('tracer = "opne"\nactions = ["stdot"]\n[filterEvents.filenam]\nvalues = ["x"]\n')
    said = shared.bpfd("create", str(bad), code=1).splitlines()
    assert [line.split(": ", 1)[0] for line in said] == [f"{bad}:1", f"{bad}:2"]
    assert 'did you mean "open"?' in said[0]
    assert 'did you mean "stdout"?' in said[1]
    assert [rule["name"] for rule in shared.json("ls")] == [rule["name"] for rule in before]


def test_a_rule_is_in_force_when_create_returns(shared: RunningDaemon, tmp_path: Path) -> None:
    for number in range(10):
        shared.create(f"at-once-{number}", open_rule(f"{tmp_path}/{number}-"))
        touch(tmp_path / f"{number}-")
    events = shared.wait_for(lambda event: event["rule"].startswith("at-once-"), 10)
    assert [event["data"]["filename"] for event in events] == [f"{tmp_path}/{number}-" for number in range(10)]


def test_every_rule_that_matches_fires(shared: RunningDaemon, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shared.create(f"both-{name}", open_rule(f"{tmp_path}/both"))
    touch(tmp_path / "both")
    events = shared.wait_for(opened(tmp_path / "both"), 2)
    assert {event["rule"] for event in events} == {"both-one", "both-two"}


def test_a_sequence_fires_each_time_its_rules_matched_in_order_however_close(
    shared: RunningDaemon, tmp_path: Path
) -> None:
    """One ring's batch has many pairs, and a pair may lie in the rings of two tracers."""
    for name in ("first", "second"):
        shared.create(name, open_rule(f"{tmp_path}/{name}"))
    shared.create("pair", 'sequence = ["first", "second"]\nwithin = "10s"\n')
    for _ in range(50):
        touch(tmp_path / "first")
        touch(tmp_path / "second")
    until(lambda: shared.rule("pair")["matched"] == 50, lambda: shared.json("ls"))
    shared.create("program", f'tracer = "exec"\n[filterEvents.filename]\nis = ["{tmp_path}/cat"]\n')
    shared.create("reads", 'sequence = ["program", "first"]\nwithin = "10s"\n')
    shutil.copy(shutil.which("cat") or "", tmp_path / "cat")
    for _ in range(20):
        subprocess.run([tmp_path / "cat", tmp_path / "first"], check=True)
    until(lambda: shared.rule("reads")["matched"] == 20, lambda: shared.json("ls"))
    shared.bpfd("rm", "reads", "pair", "program", "first", "second")


def test_a_sequence_whose_step_is_removed_or_disabled_says_what_is_missing_until_the_step_is_there_again(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    file = daemon.write_rule("first", open_rule(f"{tmp_path}/first"))
    daemon.start()
    daemon.create("second", open_rule(f"{tmp_path}/second"))
    daemon.create("pair", 'sequence = ["first", "second"]\nwithin = "10s"\n')
    daemon.create("outer", 'sequence = ["pair", "first"]\nwithin = "10s"\n')

    def shown() -> tuple[str, str]:
        rule = daemon.rule("pair")
        return rule["state"], rule["problem"]

    daemon.bpfd("rm", "second")
    missing = f'{daemon.place}/pair.toml:1: sequence[2]: there is no rule "second"; rules are first, outer, pair'
    assert shown() == ("not running", missing)
    assert 'sequence[1]: rule "pair" can\'t fire' in daemon.rule("outer")["problem"]
    assert missing in daemon.bpfd("ls")
    assert missing in daemon.json("status")["problems"]
    assert daemon.log.count(f"ERROR bpfd: {missing}\n") == 1, daemon.log
    daemon.create("second", open_rule(f"{tmp_path}/second"))
    assert (shown(), daemon.rule("outer")["state"]) == (("ok", ""), "ok")
    file.write_text(open_rule(f"{tmp_path}/first", more="enabled = false"))
    until(lambda: shown()[0] == "not running", shown)
    assert 'rule "first" is not enabled' in shown()[1]
    file.unlink()
    until(lambda: 'there is no rule "first"' in shown()[1], shown)
    daemon.stop()
    daemon.start()
    assert 'there is no rule "first"' in shown()[1]
    daemon.write_rule("first", open_rule(f"{tmp_path}/first"))
    until(lambda: shown() == ("ok", ""), shown)
    touch(tmp_path / "first")
    touch(tmp_path / "second")
    until(lambda: daemon.rule("pair")["matched"] == 1, lambda: daemon.json("ls"))
    assert daemon.json("status")["problems"] == []


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_rules_of_the_api_survive_the_daemons_end(daemon: RunningDaemon, tmp_path: Path, end: str) -> None:
    daemon.write_rule("file", open_rule(f"{tmp_path}/file"))
    daemon.start()
    daemon.create("kept", open_rule(f"{tmp_path}/kept"))
    daemon.create("removed", open_rule(f"{tmp_path}/removed"))
    daemon.bpfd("rm", "removed")
    getattr(daemon, end)()
    daemon.start("--strict")
    assert [(rule["name"], rule["state"]) for rule in daemon.json("ls")] == [("file", "ok"), ("kept", "ok")]
    assert daemon.wait_for(opened(touch(tmp_path / "kept")))[0]["rule"] == "kept"


def test_a_rule_of_the_api_uses_the_directorys_macros_as_they_are_now_and_after_a_restart(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    library = daemon.write_rule("library", f'[macros]\nwatched = "filename contains {tmp_path.name}/one"\n')
    daemon.start()
    daemon.create("mine", 'tracer = "open"\ncondition = "watched"\n')
    daemon.stop()
    daemon.start("--strict")
    daemon.wait_for(opened(touch(tmp_path / "one-a")))
    library.write_text(f'[macros]\nwatched = "filename contains {tmp_path.name}/two"\n')
    until(lambda: "two" in daemon.bpfd("explain", "mine"), lambda: daemon.bpfd("explain", "mine"))
    daemon.wait_for(opened(touch(tmp_path / "two-a")))
    library.write_text('[macros]\nother = "uid = 0"\n')
    until(lambda: daemon.rule("mine")["state"] == "kept", lambda: daemon.rule("mine"))
    assert 'there is no macro "watched"' in daemon.rule("mine")["problem"]
    daemon.wait_for(opened(touch(tmp_path / "two-b")))
    daemon.stop()
    daemon.start()
    assert daemon.rule("mine")["state"] == "bad"
    library.write_text(f'[macros]\nwatched = "filename contains {tmp_path.name}/three"\n')
    until(lambda: daemon.rule("mine")["state"] == "ok", lambda: daemon.rule("mine"))
    daemon.wait_for(opened(touch(tmp_path / "three-a")))
    assert daemon.json("status")["problems"] == []


def test_a_rule_of_the_api_that_became_bad_is_named_and_can_be_removed_or_replaced(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    """Its action is gone from the configuration, say."""
    daemon.write_rule("file", open_rule("nothing is named like this"))
    daemon.start(config='[actions.told]\ntype = "file"\npath = "/dev/null"\n')
    for name in ("removed", "replaced"):
        daemon.create(name, open_rule(f"{tmp_path}/{name}", actions='"told"'))
    daemon.stop()
    daemon.start()
    for name in ("removed", "replaced"):
        rule = daemon.rule(name)
        assert (rule["state"], 'there is no action "told"' in rule["problem"]) == ("bad", True), rule
    assert len(daemon.json("status")["problems"]) == 2
    daemon.bpfd("rm", "removed")
    daemon.create("replaced", open_rule(f"{tmp_path}/replaced"))
    assert daemon.json("status")["problems"] == []
    daemon.stop()
    daemon.start("--strict")
    assert [(rule["name"], rule["state"]) for rule in daemon.json("ls")] == [("file", "ok"), ("replaced", "ok")]


def test_without_a_rule_the_default_tracers_tell_everything(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.start()
    assert "tracers exec, open; 0 rules" in daemon.log
    touched = touch(tmp_path / "touched")
    true = subprocess.Popen(["/bin/true"])
    true.wait()
    (event,) = daemon.wait_for(opened(touched))
    assert event["rule"] == ""
    (started,) = daemon.wait_for(lambda event: event["tracer"] == "exec" and event["pid"] == true.pid)
    assert (started["rule"], started["data"]["argv"]) == ("", "/bin/true")


def test_a_configured_tracer_without_a_rule_tells_everything_to_the_default_actions(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    daemon.write_rule("narrow", open_rule(f"{tmp_path}/wanted"))
    told = tmp_path / "told"
    config = f'tracers = ["exec"]\ndefault_actions = ["told"]\n[actions.told]\ntype = "file"\npath = "{told}"\n'
    daemon.start(config=config)
    true = subprocess.Popen(["/bin/true", tmp_path.name])
    true.wait()
    touch(tmp_path / "unwanted")
    touch(tmp_path / "wanted")
    until(lambda: told.exists() and b'/wanted"' in told.read_bytes(), lambda: daemon.log)
    until(lambda: f'"/bin/true {tmp_path.name}"'.encode() in told.read_bytes(), lambda: daemon.log)
    assert b"unwanted" not in told.read_bytes()
    assert daemon.lines.read() == []


def test_a_directory_without_rules_may_be_filled_later(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.write_rule("first", open_rule(f"{tmp_path}/first"))
    daemon.start()
    daemon.write_rule("second", open_rule(f"{tmp_path}/second"))
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: "second" in rows(daemon.bpfd("ls")), lambda: daemon.log)
    assert daemon.wait_for(opened(touch(tmp_path / "second")))[0]["rule"] == "second"


BAD_FILES = {
    "broken": (b'tracer = "open"\n[filterEvents\n', ":2: not TOML"),
    "types": (b'tracer = 7\nactions = "stdout"\n', ":1: tracer"),
    "binary": (bytes(range(256)) * 16, "not "),
    "huge": (b"#" * (1 << 20) + b"\n", "at most 1 MiB"),
    "slash": (b'name = "a/b"\ntracer = "open"\n', ":1: name"),
    "control": (b'name = "a\\u001bb"\ntracer = "open"\n', ":1: name"),
    "empty": (b'name = ""\ntracer = "open"\n', ":1: name"),
    "tracer": (b'tracer = "opne"\n', 'did you mean "open"?'),
    "action": (b'tracer = "open"\nactions = ["stdot"]\n', 'did you mean "stdout"?'),
    "runtime": (b'tracer = "open"\ncontainerRuntimes = ["dokcer"]\n', 'did you mean "docker"?'),
    "field": (b'tracer = "open"\n[filterEvents.filenam]\nvalues = ["x"]\n', 'did you mean "filename"?'),
    "misplaced": (b'tracer = "open"\n[filterEvents.filename]\nvalues = ["x"]\nactions = ["stdout"]\n', ":4: "),
}


def test_bad_files_are_told_of_everywhere_and_the_good_ones_run(daemon: RunningDaemon, tmp_path: Path) -> None:
    for name, (content, _) in BAD_FILES.items():
        (daemon.rules_dir / f"{name}.toml").write_bytes(content)
    os.mkfifo(daemon.rules_dir / "pipe.toml")
    (daemon.rules_dir / "gone.toml").symlink_to("/nowhere")
    daemon.write_rule("good", open_rule(f"{tmp_path}/good"))
    wrong = {**{name: text for name, (_, text) in BAD_FILES.items()}, "pipe": "no regular file", "gone": "No such"}
    daemon.start()
    assert f"1 rule, {len(wrong)} bad files" in daemon.log
    listed = {rule["name"]: rule for rule in daemon.json("ls")}
    table = rows(daemon.bpfd("ls"))
    problems = daemon.json("status")["problems"]
    for name, text in wrong.items():
        path = str(daemon.rules_dir / f"{name}.toml")
        assert [line for line in daemon.log.splitlines() if path in line and text in line], (name, daemon.log)
        assert (listed[name]["state"], text in listed[name]["problem"]) == ("bad", True)
        assert [problem for problem in problems if path in problem and text in problem], (name, problems)
        assert name in table
    assert listed["good"]["state"] == "ok"
    assert daemon.wait_for(opened(touch(tmp_path / "good")))[0]["rule"] == "good"
    daemon.stop()
    said = daemon.fail_to_start("--strict")
    assert all(any(f"/{name}.toml" in line and text in line for line in said) for name, text in wrong.items()), said


def test_the_sample_of_the_seed_does_what_its_text_says(daemon: RunningDaemon, tmp_path: Path) -> None:
    """In no container: nothing. tests/daemon/test_containers.py has the other half."""
    daemon.write_rule("sample", SEEDS_SAMPLE)
    daemon.write_rule("mark", 'tracer = "exec"\n[filterEvents.argv]\nvalues = ["the-mark"]\n')
    daemon.start("--strict")
    (tmp_path / "ping").symlink_to("/bin/true")
    subprocess.run([tmp_path / "ping"], check=True)
    subprocess.run(["/bin/true", "the-mark"], check=True)
    (mark,) = daemon.wait_for(lambda event: event["rule"] == "mark")
    # A test beside this one may run ping in a container.
    assert [event for event in daemon.events("sample", mark) if not event["containerID"]] == []
    assert daemon.rule("sample")["containerRuntimes"] == ["docker", "kube"]


def test_commands_without_a_daemon_say_so_in_a_line(daemon: RunningDaemon) -> None:
    for command in ("ls", "status", "trace", "rm x"):
        said = daemon.bpfd(*command.split(), code=1)
        assert said == f"{daemon.address}: no bpfd daemon runs there; start it with: bpfd daemon\n"
