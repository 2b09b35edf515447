"""kill and interrupt hit the process that acted, and nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.running import RunningDaemon, open_rule, opened, until


@pytest.fixture
def readers() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def read_on(path: Path, readers: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """A process that opens `path` and lives on."""
    path.touch()
    process = subprocess.Popen(["tail", "-f", str(path)], stdout=subprocess.DEVNULL)
    readers.append(process)
    return process


@pytest.mark.parametrize(("action", "number"), [("kill", signal.SIGKILL), ("interrupt", signal.SIGINT)])
def test_the_process_that_matched_is_hit_and_nobody_else(
    shared: RunningDaemon, tmp_path: Path, readers: list[subprocess.Popen[bytes]], action: str, number: int
) -> None:
    shared.create(action, open_rule(f"{tmp_path}/forbidden", actions=f'"{action}", "stdout"'))
    bystanders = [read_on(tmp_path / f"allowed-{n}", readers) for n in range(5)]
    for process in bystanders:
        until(lambda pid=process.pid: b"tail" in Path(f"/proc/{pid}/comm").read_bytes(), lambda: "tail has not started")
    offenders = [read_on(tmp_path / "forbidden", readers) for _ in range(3)]
    assert [process.wait(30) for process in offenders] == [-number] * 3
    more = [read_on(tmp_path / f"late-{n}", readers) for n in range(3)]
    until(lambda: shared.rule(action)["matched"] >= 3, lambda: shared.log)
    assert [process.poll() for process in bystanders + more] == [None] * 8
    until(lambda: shared.json("status")["counters"][f"action.{action}.done"] == 3, lambda: shared.json("status"))
    pids = {event["pid"] for event in shared.wait_for(lambda event: event["rule"] == action, 3)}
    assert pids >= {process.pid for process in offenders}
    shared.bpfd("rm", action)


def test_the_tests_own_process_is_hit_by_no_rule_that_it_does_not_match(shared: RunningDaemon, tmp_path: Path) -> None:
    """A rule on the command hits the children that were started for it, and not the parent that made them."""
    shared.create("tails", f'tracer = "exec"\nactions = ["kill"]\n[filterEvents.argv]\nvalues = ["{tmp_path}/"]\n')
    victim = subprocess.Popen(["tail", "-f", f"{tmp_path}/none"], stderr=subprocess.DEVNULL)
    assert victim.wait(30) in {-signal.SIGKILL, 1}
    shared.create("alive", open_rule(f"{tmp_path}/alive"))
    descriptor = os.open(tmp_path / "alive", os.O_CREAT | os.O_WRONLY, 0o600)
    os.close(descriptor)
    assert shared.wait_for(opened(tmp_path / "alive"))[0]["pid"] == os.getpid()
    shared.bpfd("rm", "tails")


def test_a_rule_that_matches_the_daemon_itself_does_not_end_it(shared: RunningDaemon) -> None:
    shared.write_rule("reread", open_rule("nothing is named like this either"))
    shared.create("own", open_rule(f"{shared.rules_dir}/", actions='"kill"'))
    assert shared.process is not None
    shared.process.send_signal(signal.SIGHUP)
    until(lambda: [rule for rule in shared.json("ls") if rule["name"] == "reread"], lambda: shared.log)
    assert shared.process.poll() is None
    assert shared.rule("own")["matched"] == 0
    shared.bpfd("rm", "own")
