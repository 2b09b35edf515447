"""What each command prints, and how it fails."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

import pytest

from bpfd.control import RuleStatus
from bpfd.errors import LoadError, RuleError
from bpfd.event import Container
from tests.api.fake_control import EVENT, FakeControl
from tests.cli.program import Bpfd, wait_until_ready, write

pytestmark = pytest.mark.usefixtures("server")

RULE = 'name = "shadow"\ntracer = "open"\nactions = ["kill"]\n[filterEvents.filename]\nvalues = ["/etc/shadow"]\n'


def test_create_takes_several_files_and_names_what_it_made(bpfd: Bpfd, control: FakeControl, tmp_path: Path) -> None:
    first = write(tmp_path / "a.toml", RULE)
    second = write(tmp_path / "b.toml", 'name = "b"\ntracer = "exec"\n')
    assert bpfd("create", first, second) == "created shadow (open)\ncreated b (exec)\n"
    assert control.rules["shadow"].source == first


def test_create_refuses_a_name_in_use_unless_replace(bpfd: Bpfd, tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", RULE)
    bpfd("create", file)
    assert "is in use" in bpfd("create", file, code=1)
    assert bpfd("create", "--replace", file) == "created shadow (open)\n"


def test_create_makes_the_good_rules_and_reports_each_bad_one(bpfd: Bpfd, control: FakeControl, tmp_path: Path) -> None:
    good = write(tmp_path / "good.toml", RULE)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"# fine\n\xff")
    large = write(tmp_path / "large.toml", "#" * (2 << 20) + "##")
    missing = f"{tmp_path}/missing\n\x1b[2J.toml"
    result = bpfd("create", str(binary), missing, large, str(tmp_path), good, code=1)
    shown = missing.replace("\n", "\\n").replace("\x1b", "\\x1b")
    assert result.splitlines() == [
        f"{binary}:2: not UTF-8 text; a rule is a TOML file",
        f"{shown}: cannot be read: No such file or directory; give the path of a rule file",
        f"{large}: larger than 2097152 bytes; split it into several rules",
        f"{tmp_path}: cannot be read: Is a directory; give the path of a rule file",
    ]
    assert list(control.rules) == ["shadow"]


def test_create_prints_a_line_for_each_problem_of_the_daemon(bpfd: Bpfd, control: FakeControl, tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", RULE)
    control.error = RuleError([f"{file}:1: x: bad \x1b[31m", f"{file}:2: y: bad"])
    assert bpfd("create", file, code=1) == f"{file}:1: x: bad \\x1b[31m\n{file}:2: y: bad\n"
    control.error = LoadError("open: the verifier says no")
    assert bpfd("create", file, code=1) == "open: the verifier says no\n"


def test_a_file_name_that_is_not_utf8_is_escaped(bpfd: Bpfd, control: FakeControl, tmp_path: Path) -> None:
    file = os.path.join(os.fsencode(tmp_path), b"a\xff.toml")
    with open(file, "w") as stream:
        stream.write(RULE)
    bpfd("create", file)
    assert control.rules["shadow"].source == f"{tmp_path}/a\\xff.toml"


def test_rm_removes_each_name_and_fails_for_unknown_ones(bpfd: Bpfd, control: FakeControl, tmp_path: Path) -> None:
    bpfd("create", write(tmp_path / "a.toml", RULE))
    assert bpfd("rm", "nope", "shadow", code=1) == "nope: no rule of that name; see bpfd ls\n"
    assert control.rules == {}


def test_ls_prints_a_table_that_begins_with_name_and_tracer(bpfd: Bpfd, control: FakeControl, tmp_path: Path) -> None:
    assert bpfd("ls") == "NAME  TRACER  RUNTIMES  FILTERS  ACTIONS  SEVERITY  MATCHED  STATE\n"
    bpfd("create", write(tmp_path / "a.toml", RULE))
    control.bad.append(RuleStatus("b\n\x1b", "", None, "/r/b.toml", problem="/b.toml:1: bad\n/b.toml:2: worse"))
    rule = control.rules["shadow"]
    control.bad.append(RuleStatus("c", "exec", rule, "/r/c.toml", problem="exec: no tracefs"))
    control.bad.append(RuleStatus("d", "open", rule, "/r/d.toml", problem="/d.toml:1: bad", kept=True))
    control.bad.append(RuleStatus("e", "open", dataclasses.replace(rule, enabled=False), "/r/e.toml"))
    observing = dataclasses.replace(rule, mode="observe", severity="critical", warnings=("/f.toml:3: warning: odd",))
    control.bad.append(RuleStatus("f", "open", observing, "/r/f.toml"))
    of = "open    -         filename=/etc/shadow  kill     notice  "
    assert bpfd("ls").splitlines() == [
        "NAME     TRACER  RUNTIMES  FILTERS               ACTIONS  SEVERITY  MATCHED  STATE",
        f"shadow   {of}  3        ok",
        "b\\n\\x1b  -       -         -                     -        -         0        "
        "bad: /b.toml:1: bad | /b.toml:2: worse",
        f"c        {of.replace('open', 'exec')}  0        not running: exec: no tracefs",
        f"d        {of}  0        kept: /d.toml:1: bad",
        f"e        {of}  0        disabled",
        f"f        {of.replace('notice  ', 'critical')}  0        observe: /f.toml:3: warning: odd",
    ]
    shadow, bad, *_ = json.loads(bpfd("ls", "--json"))
    assert shadow == {
        "name": "shadow",
        "tracer": "open",
        "containerRuntimes": [],
        "filterEvents": {"filename": ["/etc/shadow"]},
        "actions": ["kill"],
        "severity": "notice",
        "matched": 3,
        "state": "ok",
        "problem": "",
        "warnings": [],
        "source": str(tmp_path / "a.toml"),
    }
    assert (bad["name"], bad["state"]) == ("b\n\x1b", "bad")


def test_tracers_has_a_line_for_each_with_its_state(bpfd: Bpfd) -> None:
    head, *rows = bpfd("tracers").splitlines()
    assert re.split("  +", head) == ["NAME", "STATE", "WHAT IT SEES", "ATTACHES TO"]
    assert [re.split("  +", row) for row in rows[:2]] == [
        ["exec", "failed: exec: no tracefs; mount it", "Files opened", "syscalls:sys_exit_openat"],
        ["open", "running", "Files opened", "syscalls:sys_exit_openat"],
    ]
    assert [row.split()[0] for row in rows[2:]] == ["syscall:…", "tracepoint:…"]


def test_tracers_shows_all_about_one_as_the_daemon_tells_it(bpfd: Bpfd) -> None:
    lines = bpfd("tracers", "open").splitlines()
    assert lines[:4] == ["open: running", "7 events received, 1 lost", "", "Files opened."]
    for line in (
        "    tracepoint:syscalls:sys_exit_openat",
        "    filename  text       The name as passed; such as /etc/shadow",
        "    size      number     Bytes; not in every event",
        '    is = ["/etc/shadow"]',
        "Fields of every event:",
    ):
        assert line in lines
    (tracer,) = json.loads(bpfd("tracers", "--json", "open"))
    assert tracer["fields"][1]["type"] == "u64"
    assert bpfd("tracers", "opem", code=1) == 'there is no tracer "opem"; did you mean "open"?\n'


def test_actions_lists_the_settings_of_each(bpfd: Bpfd) -> None:
    assert bpfd("actions") == "kill (responder): Kills the process\nlog (notifier): Tells\n  path: Where\n"
    assert json.loads(bpfd("actions", "--json"))[1] == {
        "name": "log",
        "kind": "notifier",
        "doc": "Tells",
        "settings": {"path": "Where"},
    }


def test_status_shows_every_loss_and_problem(bpfd: Bpfd) -> None:
    assert bpfd("status").splitlines() == [
        "bpfd 0.1.0 on box, kernel 6.1",
        "running since 2023-11-14 22:13:20 UTC",
        "",
        "TRACER  STATE    RECEIVED  LOST",
        "open    running  7         1",
        "",
        "COUNTER     COUNT",
        "trace.lost  5",
        "",
        "rules: none",
        "",
        "problems:",
        "  rules/x.toml: bad",
    ]
    status = json.loads(bpfd("status", "--json"))
    assert (status["counters"], status["tracers"][0]["lost"]) == ({"trace.lost": 5}, 1)


def test_status_counts_the_rules_and_shows_what_lint_says_of_them(
    bpfd: Bpfd, control: FakeControl, tmp_path: Path
) -> None:
    bpfd("create", write(tmp_path / "a.toml", RULE))
    odd = dataclasses.replace(control.rules["shadow"], warnings=("/b.toml:3: warning: odd\x1b",))
    control.bad.append(RuleStatus("b", "open", odd, "/b.toml"))
    control.bad.append(RuleStatus("c", "", None, "/c.toml", problem="bad"))
    said = bpfd("status").splitlines()
    assert "rules: 1 bad, 2 ok" in said
    assert said[-2:] == ["warnings:", "  /b.toml:3: warning: odd\\x1b"]
    status = json.loads(bpfd("status", "--json"))
    assert (status["rules"], status["warnings"]) == ({"ok": 2, "bad": 1}, ["/b.toml:3: warning: odd\x1b"])


def test_explain_says_what_runs_where_and_how_the_rule_fared(bpfd: Bpfd, tmp_path: Path) -> None:
    bpfd("create", write(tmp_path / "a.toml", RULE))
    assert bpfd("explain", "shadow").splitlines() == [
        "shadow (open): the kernel sorts out what it can, Python decides: user is: only Python knows",
        '  kernel  path is "/etc/shadow"',
        '  Python  user is "root\\x1b": only Python knows',
        "  9 events seen, 4 passed by the kernel, 3 matched; 187 ns an event in the kernel",
    ]
    said = json.loads(bpfd("explain", "shadow", "--json"))
    assert (said["exact"], said["seen"], said["passed"], said["matched"], said["probeNs"]) == (False, 9, 4, 3, 187.4)
    assert [clause["inKernel"] for clause in said["clauses"]] == [True, False]
    assert bpfd("explain", "nope", code=1) == "nope: no rule of that name; see bpfd ls\n"


def test_trace_prints_the_daemons_json(bpfd: Bpfd, control: FakeControl) -> None:
    hostile = EVENT._replace(
        command="c\udcff\n",
        data=dict.fromkeys(("filename", "path", "flags", "mode", "also", "b", "a", "z"), "a\n\x1b[2J\u202e"),
        container=Container("c", "docker", "n\n"),
    )
    process = bpfd.start("trace", "--json", "--grpc-addr", bpfd.address)
    wait_until_ready(process, "following")
    for event in (EVENT, hostile):
        control.publish(event)
    assert process.stdout is not None
    for event in (EVENT, hostile):
        assert process.stdout.readline() == event.to_json().decode() + "\n"


def test_trace_prints_one_escaped_line_an_event(bpfd: Bpfd, control: FakeControl) -> None:
    process = bpfd.start("trace", "--grpc-addr", bpfd.address)
    wait_until_ready(process, "following")
    control.publish(EVENT._replace(command="evil\n\x1b[2J", data={"filename": "a\u202e\n"}))
    control.publish(EVENT)
    assert process.stdout is not None
    first, second = process.stdout.readline(), process.stdout.readline()
    assert "evil\\n\\x1b[2J" in first
    assert "a\\u202e\\n" in first
    assert "/etc/shadow" in second


def test_trace_follows_one_rule_or_tracer(bpfd: Bpfd, control: FakeControl) -> None:
    process = bpfd.start("trace", "--json", "--rule", "r", "--tracer", "t", "--grpc-addr", bpfd.address)
    wait_until_ready(process, "following")
    (subscription,) = control.subscriptions
    assert (subscription.rule, subscription.tracer) == ("r", "t")


def test_trace_of_near_misses_says_which_clause_failed(bpfd: Bpfd, control: FakeControl, tmp_path: Path) -> None:
    bpfd("create", write(tmp_path / "a.toml", RULE))
    missed = 'command is "catx"'
    for flags in (["--json"], []):
        process = bpfd.start("trace", "--near-miss", "shadow", *flags, "--grpc-addr", bpfd.address)
        wait_until_ready(process, "following")
        control.publish(EVENT)
        assert process.stdout is not None
        line = process.stdout.readline()
        if flags:
            assert json.loads(line) == {**json.loads(EVENT.to_json()), "missed": missed}
        else:
            assert line.endswith(f"  missed: {missed}\n")
        process.terminate()
        process.wait(10)
    assert bpfd("trace", "--near-miss", "nope", code=1) == "nope: no rule of that name; see bpfd ls\n"
    assert "leave out --rule" in bpfd("trace", "--near-miss", "shadow", "--rule", "x", code=2)


def test_trace_says_on_stderr_how_many_events_were_lost(bpfd: Bpfd, control: FakeControl) -> None:
    process = bpfd.start("trace", "--json", "--grpc-addr", bpfd.address)
    wait_until_ready(process, "following")
    (subscription,) = control.subscriptions
    with subscription._lock:
        subscription._lost = 41
    control.publish(EVENT)
    assert "41 events lost" in wait_until_ready(process, "lost")


def test_trace_fails_when_the_daemon_stops(bpfd: Bpfd, server: object) -> None:
    process = bpfd.start("trace", "--grpc-addr", bpfd.address)
    wait_until_ready(process, "following")
    server.stop()
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, output) == (1, "")
    assert errors.count("\n") == 1
    assert "the daemon is stopping" in errors
