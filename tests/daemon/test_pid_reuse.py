"""kill never hits a stranger that was given the pid of the process that acted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.running import RunningDaemon, until
from tests.daemon.test_reactions import rule

PROCESSES = 1000
LIMITS = '[limits]\nresponses_per_rule = 100000\nresponses = 100000\nexpire = "10m"\n'
ENDS = ("done", "gone", "failed", "refused", "expired", "withheld", "dropped")


@pytest.fixture(scope="module")
def reuse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of reuse.c."""
    program = tmp_path_factory.mktemp("reuse") / "reuse"
    source = Path(__file__).with_name("reuse.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", str(program), str(source)], check=True)
    return program


@pytest.fixture
def strangers(reuse: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Makes the pids of a thousand processes that opened `forbidden` those of strangers, once it gets a line."""
    command = [str(reuse), str(tmp_path / "forbidden"), str(PROCESSES)]
    started = subprocess.Popen(
        ["sh", "-c", 'read line && exec "$@"', "sh", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield started
    finally:
        started.communicate(timeout=60)


@pytest.mark.parametrize("more", ["", "tree = true"], ids=["the process", "its tree"])
def test_of_a_thousand_pids_that_are_reused_at_once_no_stranger_is_killed(
    daemon: RunningDaemon, tmp_path: Path, strangers: subprocess.Popen[bytes], more: str
) -> None:
    (tmp_path / "forbidden").write_text("")
    daemon.write_rule("forbidden", rule(tmp_path / "forbidden", '"kill"', more))
    daemon.start(config=LIMITS)
    assert strangers.stdin
    assert strangers.stdout
    strangers.stdin.write(b"\n")
    strangers.stdin.flush()
    made = int(strangers.stdout.readline())
    assert made > 0.9 * PROCESSES, "few pids were reused"

    def became() -> dict[str, int]:
        table = daemon.json("status")["counters"]
        return {end: count for end in ENDS if (count := table.get(f"action.kill.{end}"))}

    until(lambda: sum(became().values()) == PROCESSES, lambda: (became(), daemon.log), 60)
    alive = int(strangers.communicate(timeout=60)[0])
    print(f"{made} pids reused; what became of the responses: {became()}")
    assert alive == made
    assert set(became()) <= {"done", "gone"}
    assert became()["gone"] > PROCESSES // 2, "the daemon was too quick for this to mean much"
    details = {entry["detail"] for entry in daemon.json("actions", "log", "-n", "1000") if entry["result"] == "gone"}
    assert any("its pid is another process's by now" in detail for detail in details), details
