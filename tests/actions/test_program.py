"""program runs a program for each alert."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from bpfd.actions.program import Program
from bpfd.alert import Alert
from bpfd.errors import ActionError, TargetGoneError
from bpfd.process import read_stat

Write = Callable[[str], str]


@pytest.fixture
def script(tmp_path: Path) -> Write:
    def _script(text: str) -> str:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return _script


def test_the_program_reads_the_alert(script: Write, alert: Alert, tmp_path: Path) -> None:
    command = [script(f'cat > {tmp_path}/got; echo "$1" > {tmp_path}/arg; env > {tmp_path}/env'), "$(id) ;x"]
    Program({"command": command}).send(alert)
    assert orjson.loads((tmp_path / "got").read_bytes()) == alert.as_dict()
    assert (tmp_path / "arg").read_text() == "$(id) ;x\n"
    names = {row.partition("=")[0] for row in (tmp_path / "env").read_text().splitlines()}
    assert names <= {"PATH", "LANG", "PWD", "SHLVL", "_", "OLDPWD"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo fine; exit 0", ""),
        ("echo it broke '\x1b[2J'; exit 3", "ended with status 3: it broke \\x1b[2J"),
        ("kill -9 $$", "ended by signal SIGKILL"),
        ("sleep 60", "did not end within 0.5 s"),
        ("yes", "wrote more than 65536 bytes: y"),
        ("exec 1>&- 2>&-; sleep 60", "did not end within 0.5 s"),
    ],
)
def test_a_program_that_fails_never_ends_or_talks_too_much_is_an_error(
    script: Write, alert: Alert, text: str, message: str
) -> None:
    action = Program({"command": [script(text)], "timeout": 0.5 if "did not end" in message else 30})
    began = time.monotonic()
    if message:
        with pytest.raises(ActionError) as caught:
            action.send(alert)
        assert str(caught.value).endswith(f": {message}")
    else:
        action.send(alert)
    assert time.monotonic() - began < 5


def test_what_the_program_left_running_is_ended(script: Write, alert: Alert, tmp_path: Path) -> None:
    Program({"command": [script(f"sleep 60 & echo $! > {tmp_path}/pid")]}).send(alert)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 20
    with suppress(TargetGoneError):
        while not read_stat(pid).is_dead:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_program_that_is_taken_away_later_is_an_error(script: Write, alert: Alert) -> None:
    path = Path(script("exit 0"))
    action = Program({"command": [str(path)]})
    path.unlink()
    with pytest.raises(ActionError, match="program: cannot be run: No such file or directory"):
        action.send(alert)
    path.write_text("no program")
    path.chmod(0o755)
    with pytest.raises(ActionError, match="program: cannot be run: Exec format error"):
        action.send(alert)
    path.chmod(0o644)
    with pytest.raises(ActionError, match="program: cannot be run: Permission denied"):
        action.send(alert)


def test_a_program_that_prints_a_gigabyte_is_ended_at_its_limit(script: Write, alert: Alert) -> None:
    action = Program({"command": [script("head -c 1073741824 /dev/zero; echo done")], "timeout": 30})
    began = time.monotonic()
    with pytest.raises(ActionError, match="wrote more than 65536 bytes") as caught:
        action.send(alert)
    assert time.monotonic() - began < 10
    assert len(str(caught.value)) < 500


def test_a_program_that_is_deaf_to_signals_is_ended(script: Write, alert: Alert) -> None:
    action = Program({"command": [script("trap '' TERM INT HUP; while :; do sleep 0.01; done")], "timeout": 0.3})
    began = time.monotonic()
    with pytest.raises(ActionError, match=r"did not end within 0\.3 s"):
        action.send(alert)
    assert time.monotonic() - began < 5


def test_a_program_that_reads_nothing_is_none_the_worse(script: Write, alert: Alert) -> None:
    Program({"command": [script("exec 0<&-; exit 0")]}).send(replace(alert, text="x" * 5_000_000))


def test_what_goes_on_in_a_session_of_its_own_holds_up_nothing(script: Write, alert: Alert, tmp_path: Path) -> None:
    until = f"until [ -s {tmp_path}/pid ]; do sleep 0.01; done"
    action = Program({"command": [script(f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' & {until}")]})
    began = time.monotonic()
    action.send(alert)
    assert time.monotonic() - began < 5
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_it_can_run_as_another_user(script: Write, alert: Alert, tmp_path: Path) -> None:
    with pytest.raises(ActionError, match="status 9: 65534 65534 65534"):
        Program({"command": ["/bin/sh", "-c", "echo $(id -u) $(id -g) $(id -G); exit 9"], "user": "nobody"}).send(alert)
    with pytest.raises(ActionError, match="there is no user 'nobody-at-all'"):
        Program({"command": ["/bin/true"], "user": "nobody-at-all"}).send(alert)


def test_no_descriptor_is_left(script: Write, alert: Alert) -> None:
    action = Program({"command": ["/bin/true"]})
    action.send(alert)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        action.send(alert)
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("command", [[], ["relative"], ["/no/such/program"], ["/bin/true", "\0"], "text"])
def test_a_command_that_is_none_is_refused_at_the_start(command: object) -> None:
    with pytest.raises(ActionError, match=r"^command: "):
        Program({"command": command})
