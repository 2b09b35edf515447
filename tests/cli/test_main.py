"""The command line, exit statuses, and how commands end."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from bpfd.cli.main import main, parser
from tests.api.fake_control import EVENT, FakeControl
from tests.cli.program import Bpfd, wait_until_ready

COMMANDS = ("create", "daemon", "ls", "rm", "trace", "tracers", "actions", "status", "version")


def test_help_names_every_command(bpfd: Bpfd) -> None:
    shown = bpfd.run("--help")
    assert shown.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^    {command} ", shown.stdout, re.MULTILINE)
        assert "--grpc-addr" in bpfd.run(command, "-h").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required: COMMAND"),
        (["lss"], "invalid choice: 'lss'"),
        (["create"], "required: FILE"),
        (["rm"], "required: NAME"),
        (["ls", "--jso"], "unrecognized arguments: --jso"),
        (["ls", "a\n\x1b[2J"], "unrecognized arguments: a\\n\\x1b[2J"),
        (["ls", "--grpc-addr"], "expected one argument"),
        (["ls", "--grpc-addr", ""], "not an address"),
        (["daemon", "--grpc-addr", "http://x"], "not an address"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(bpfd: Bpfd, arguments: list[str], said: str) -> None:
    result = bpfd.run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["-d", "--grpc-addr", "/x", "ls"],
        ["ls", "-d", "--grpc-addr", "/x"],
        ["--grpc-addr=/x", "ls", "--debug"],
        ["-debug", "-grpc-addr", "/x", "ls"],
        ["-grpc-addr=/x", "ls", "-d"],
    ],
)
def test_common_flags_stand_anywhere_and_in_gos_style(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    seen = []
    monkeypatch.setattr("bpfd.cli.ls.run", lambda args: seen.append(args) or 0)
    assert main(arguments) == 0
    assert (seen[0].debug, seen[0].grpc_addr) == (True, "/x")


def test_what_follows_two_dashes_is_no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("bpfd.cli.rm.run", lambda args: seen.append(args.names) or 0)
    assert main(["rm", "--", "-debug"]) == 0
    assert seen == [["-debug"]]


def test_the_seeds_flags_of_the_daemon_are_valid() -> None:
    args = parser().parse_args(["-d", "daemon", "--rules-dir", "/r", "--config", "/c", "--strict"])
    assert (args.debug, args.rules_dir, args.config, args.strict) == (True, Path("/r"), Path("/c"), True)


@pytest.mark.parametrize("command", [["create", "/dev/null"], ["ls"], ["rm", "x"], ["trace"], ["status"], ["tracers"]])
def test_no_daemon_is_one_line_that_says_how_to_start_it(bpfd: Bpfd, command: list[str]) -> None:
    assert bpfd(*command, code=1) == f"{bpfd.address}: no bpfd daemon runs there; start it with: bpfd daemon\n"


def test_version_is_told_without_a_daemon_and_quickly(bpfd: Bpfd) -> None:
    assert bpfd.run("version").stdout == "bpfd 0.1.0\n"
    before = os.times()
    for _ in range(5):
        bpfd.run("version")
    after = os.times()
    # Processor time, which does not depend on what else runs: 0.07 s each.
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    assert spent / 5 < 0.15


def test_the_program_loads_no_more_than_its_command_line_wants(bpfd: Bpfd) -> None:
    loaded = bpfd.run("version", env={"PYTHONPROFILEIMPORTTIME": "1"}).stderr
    assert "bpfd.cli.version" in loaded
    for module in ("bpfd.control", "bpfd.rules.plan", "bpfd.watching", "asyncio"):
        assert not re.search(rf"\| +{module}$", loaded, re.M), module


def test_a_command_without_a_daemon_does_not_load_grpc(bpfd: Bpfd) -> None:
    result = bpfd.run("ls", "--grpc-addr", bpfd.address, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert "bpfd.cli.ls" in result.stderr
    assert "grpc._cython" not in result.stderr


def test_a_bug_is_one_line_and_a_traceback_only_for_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: object) -> int:
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr("bpfd.cli.ls.run", fail)
    assert main(["ls"]) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 2
    assert errors.startswith("bpfd: internal error: ZeroDivisionError: oh")
    assert main(["ls", "-d"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_ends_a_trace_at_once_and_quietly(bpfd: Bpfd, server: object, control: FakeControl) -> None:
    process = bpfd.start("trace", "--grpc-addr", bpfd.address)
    wait_until_ready(process, "following")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, errors) == (130, "", "")
    assert time.monotonic() - began < 2
    control.wait_for_clients(0)


def test_ctrl_c_ends_a_command_that_waits_for_the_daemon(bpfd: Bpfd, server: object, control: FakeControl) -> None:
    control.gate.clear()
    process = bpfd.start("create", "--grpc-addr", bpfd.address, __file__)
    deadline = time.monotonic() + 20
    while control.waiting == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=5)
    assert (process.returncode, output, errors) == (130, "", "")


def test_a_reader_that_goes_away_is_no_error(bpfd: Bpfd, server: object, control: FakeControl) -> None:
    read, write = os.pipe()
    process = bpfd.start("trace", "--json", "--grpc-addr", bpfd.address, stdout=write)
    os.close(write)
    wait_until_ready(process, "following")
    os.close(read)
    control.publish(EVENT)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


def test_a_terminal_that_is_not_utf8_gets_escapes(bpfd: Bpfd, server: object, control: FakeControl) -> None:
    control.create_rule('name = "日"\ntracer = "open"', "x", False)
    result = bpfd.run("ls", "--grpc-addr", bpfd.address, env={"PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stderr) == (0, "")
    assert "\\u65e5" in result.stdout
