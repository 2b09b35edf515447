"""`bpfd check` and `bpfd why`, which need neither a daemon nor root."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bpfd.cli.main import main
from bpfd.event import Event
from bpfd.plugin import Action, BPFTracer, Field
from bpfd.plugins import Plugins

EVENT = {"tracer": "open", "pid": 7, "uid": 0, "command": "cat", "data": {"path": "/etc/\x1bshadow"}}
RULE = 'tracer = "open"\nactions = ["kill"]\n[filterEvents.path]\nprefix = ["/etc/"]\n'
TEST = '[[tests]]\nevent = { path = "/etc/x" }\nexpect = "match"\n'


class Open(BPFTracer):
    """Files opened."""

    name = "open"
    fields = (Field("path", "The file", length=4096, example="/etc/shadow"),)
    program = Path("open.c")


class Kill(Action):
    """Kills the process."""

    name = "kill"
    responds = True

    def act(self, event: Event) -> None:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugins = Plugins(tracers={"open": Open}, actions={"kill": Kill})
    monkeypatch.setitem(sys.modules, "bpfd.plugins", SimpleNamespace(load_plugins=lambda: plugins))
    (tmp_path / "bpfd.toml").write_text("[actions.to-slack]\n")
    monkeypatch.setattr("bpfd.settings.DEFAULT_PATH", tmp_path / "bpfd.toml")


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    directory = tmp_path / "rules"
    directory.mkdir()
    (directory / "etc.toml").write_text(RULE + TEST)
    return directory


def test_good_rules_are_counted_with_their_tests(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (rules / "library.toml").write_text('[macros]\nroot = "uid = 0"')
    (rules / "root.toml").write_text('tracer = "open"\nactions = ["to-slack"]\ncondition = "root"')
    for path in (rules, rules / "root.toml", rules / "library.toml"):
        assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 good rules, 1 test passed, 0 warnings",
        "1 good rule, 0 tests passed, 0 warnings",
        "0 good rules, 0 tests passed, 0 warnings",
    ]


def test_every_problem_of_every_file_is_shown(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (rules / "bad.toml").write_text('tracer = "opn"\nname = 3\n')
    (rules / "fails.toml").write_text(RULE.replace("/etc/", "/tmp/") + TEST)
    assert main(["check", str(rules), str(rules / "gone.toml")]) == 1
    output, errors = capsys.readouterr()
    assert output == "1 good rule, 1 test passed, 0 warnings\n"
    assert errors.splitlines() == [
        f"{rules}/gone.toml: cannot be read: No such file or directory",
        f'{rules}/bad.toml:1: tracer: there is no tracer "opn"; did you mean "open"?',
        f'{rules}/bad.toml:2: name: is a number, not a string; write name = "bad"',
        f'{rules}/fails.toml:5: tests[1]: the rule does not match this event (wanted: path starts with "/tmp/"; '
        'there: path = "/etc/x"); mend the rule or the test',
    ]


def test_warnings_fail_only_where_asked(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (rules / "narrow.toml").write_text(
        RULE.replace("/etc/", "/etc/ssh/") + '[filterEvents.command]\nis = "sixteen-bytes-16"'
    )
    assert main(["check", str(rules)]) == 0
    assert main(["check", "--strict", str(rules)]) == 1
    output = capsys.readouterr().out.splitlines()
    assert output[:3] == [
        f'{rules}/narrow.toml:6: warning: filterEvents.command.is: "sixteen-bytes-16" is longer than that: "command" '
        "keeps 15 bytes; it never matches, shorten it",
        f'{rules}/narrow.toml: warning: rule "etc" of {rules}/etc.toml matches all that this rule does; '
        "remove one of them",
        "2 good rules, 1 test passed, 2 warnings",
    ]


def test_a_file_name_that_holds_escapes_is_shown_escaped(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (rules / "a\x1b[31m.toml").write_text("")
    assert main(["check", str(rules)]) == 1
    assert "\x1b" not in capsys.readouterr().err


def event(tmp_path: Path, table: object) -> str:
    file = tmp_path / "event.json"
    file.write_text(json.dumps(table))
    return str(file)


def test_why_shows_each_clause_of_each_rule(rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (rules / "tmp.toml").write_text(
        'tracer = "open"\ncount = 3\nwithin = "1s"\n[filterEvents]\npath.is = "/tmp"\nuid.is = 0'
    )
    assert main(["why", event(tmp_path, EVENT), "--rules-dir", str(rules)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "etc: match",
        r'  yes path starts with "/etc/": path = "/etc/\x1bshadow"',
        "tmp: no match (fires on 3 matches within 1 s)",
        "  no  all of:",
        r'  no    path is "/tmp": path = "/etc/\x1bshadow"',
        '  yes   uid is "0": uid = "0"',
    ]


def test_why_takes_what_trace_prints_of_near_misses_and_of_what_the_kernel_did(
    rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = {**EVENT, "missed": "a clause", "data": {"path": "/etc/x", "kernelAction": "kill"}}
    assert main(["why", event(tmp_path, printed), "--rules-dir", str(rules)]) == 0
    assert "etc: match" in capsys.readouterr().out


def test_why_takes_the_name_or_the_file_of_one_rule(
    rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["why", event(tmp_path, EVENT), "etc", "--rules-dir", str(rules)]) == 0
    named = capsys.readouterr().out
    assert main(["why", event(tmp_path, EVENT), str(rules / "etc.toml")]) == 0
    assert capsys.readouterr().out == named
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(json.dumps(EVENT).encode())))
    assert main(["why", "-", str(rules / "etc.toml")]) == 0
    assert capsys.readouterr().out == named


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"{", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "is no JSON object"),
        (b"{}", 'has no "tracer" that is installed here; tracers are open'),
        (b'{"tracer": "open", "pth": "/x", "pid": "x"}', 'pid: "x" is no whole number'),
        (b" " * (1 << 20) + b"{}", "is larger than"),
    ],
)
def test_an_event_that_is_none_is_an_error(
    content: bytes, error: str, rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (rules / "other.toml").write_text('tracer = "open"')
    (tmp_path / "event.json").write_bytes(content)
    assert main(["why", str(tmp_path / "event.json"), "--rules-dir", str(rules)]) == 1
    assert error in capsys.readouterr().err


def test_a_rule_that_is_not_there_is_an_error_with_the_nearest(
    rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["why", event(tmp_path, EVENT), "ect", "--rules-dir", str(rules)]) == 1
    assert capsys.readouterr().err == f'there is no rule "ect" in {rules}; did you mean "etc"?\n'
