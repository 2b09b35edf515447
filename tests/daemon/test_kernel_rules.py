"""Rules inside the kernel: they stop a process before it reads, and change while events flow."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from bpfd import sparing
from bpfd.api.address import parse_address
from bpfd.api.client import connect
from bpfd.containers.cgroups import find_hierarchy
from tests.containers.cgroup_dirs import own_cgroup
from tests.daemon.running import RunningDaemon, until

PROCESSES = {"is": 1000, "glob": 200, "regex": 200}
"""How many open a forbidden file, by how the rule tells it."""
OPENS_A_SECOND = 10_000
SWAPS = 1000

KILL = """
tracer = "open"
actions = ["kill", "stdout"]
where = "kernel"
[filterEvents.path]
{operator} = ['{path}']
[excludeEvents.command]
is = ["head"]
"""
PATTERNS = {"is": "{folder}/forbidden", "glob": "{folder}/f?r[a-c]*en", "regex": "^{folder}/for(bid|give)d?en$"}


@pytest.fixture
def forbidden(tmp_path: Path) -> Path:
    path = tmp_path / "forbidden"
    path.write_text("secret\n")
    return path


def kill_rule(forbidden: Path, operator: str = "is") -> str:
    return KILL.format(operator=operator, path=PATTERNS[operator].format(folder=forbidden.parent))


@pytest.mark.parametrize("operator", PATTERNS)
def test_a_thousand_processes_that_open_a_forbidden_file_print_no_byte_of_it(
    daemon: RunningDaemon, forbidden: Path, operator: str
) -> None:
    """Fewer where a pattern tells the file; a command that the rule excepts reads it, and a file beside it is free."""
    daemon.write_rule("guard", kill_rule(forbidden, operator))
    daemon.start()
    processes = PROCESSES[operator]
    link = forbidden.with_name("innocent")
    link.symlink_to(forbidden)
    names = [str(forbidden), "./forbidden", "innocent", f"/proc/self/root{forbidden}"]
    printed, statuses = b"", set()
    for first in range(0, processes, 20):
        batch = [
            subprocess.Popen(
                ["cat", names[number % len(names)]],
                cwd=forbidden.parent,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for number in range(first, first + 20)
        ]
        for process in batch:
            printed += process.communicate()[0]
            statuses.add(process.returncode)
    assert (printed, statuses) == (b"", {-9})
    until(lambda: daemon.rule("guard")["matched"] == processes, lambda: daemon.rule("guard"))
    [event] = daemon.wait_for(lambda event: event["rule"] == "guard")[:1]
    assert event["data"]["kernelAction"] == "kill"
    assert subprocess.run(["head", "-1", str(forbidden)], capture_output=True).stdout == b"secret\n"
    beside = forbidden.with_name("forbidden-no-more")
    beside.write_text("free\n")
    assert subprocess.run(["cat", str(beside)], capture_output=True).stdout == b"free\n"


def test_a_name_too_long_for_another_rule_is_no_way_round(daemon: RunningDaemon, forbidden: Path) -> None:
    """The kernel leaves the other rule to Python, and it alone."""
    daemon.write_rule("guard", kill_rule(forbidden))
    daemon.write_rule("names", 'tracer = "open"\n[filterEvents.filename]\nsuffix = ["/forbidden"]\n')
    daemon.start()
    result = subprocess.run(["cat", "/" * 600 + str(forbidden)], capture_output=True)
    assert (result.returncode, result.stdout) == (-9, b"")
    daemon.wait_for(lambda event: event["rule"] == "names" and event["data"]["kernelAction"] == "kill")


def test_a_rule_that_looks_at_a_text_too_long_for_the_kernel_is_left_to_python(
    daemon: RunningDaemon, forbidden: Path
) -> None:
    spared = '[excludeEvents.filename]\nprefix = ["//"]\n'
    daemon.write_rule("guard", kill_rule(forbidden) + spared)
    daemon.start()
    assert subprocess.run(["cat", "/" * 600 + str(forbidden)], capture_output=True).stdout == b"secret\n"
    assert subprocess.run(["cat", str(forbidden)], capture_output=True).returncode == -9


@pytest.mark.parametrize(
    ("clause", "reason"),
    [
        ('[filterEvents.user]\nis = ["root"]', "user is"),
        ('[filterEvents.flags]\nvalues = ["O_WRONLY"]', "flags contains"),
        ("[filterEvents.path]\nglob = ['/etc/*a??????????????b']", "path glob: the kernel searches for a part of"),
        ("[filterEvents.path]\nregex = ['[a-m][a-z]{14}[n-z]']", "path regex: the kernel can't search for"),
    ],
)
def test_the_kernel_does_not_act_on_what_it_cannot_decide_and_says_which_clause_is_in_the_way(
    daemon: RunningDaemon, tmp_path: Path, clause: str, reason: str
) -> None:
    daemon.start()
    rule = tmp_path / "guess.toml"
    rule.write_text(f'tracer = "open"\nactions = ["kill"]\nwhere = "kernel"\n{clause}\n')
    said = daemon.bpfd("create", str(rule), code=1)
    assert f'where: is "kernel", but the kernel does not decide the rule alone: {reason}' in said
    assert "guess" not in daemon.bpfd("ls")


@pytest.mark.serial
def test_a_thousand_changes_of_the_rules_lose_no_open_of_a_watched_file(
    daemon: RunningDaemon, tmp_path: Path, brief: Path
) -> None:
    """A loop opens it while rules come and go; the rule that is always there fires for every single open."""
    watched = tmp_path / "watched"
    watched.write_text("")
    daemon.write_rule("always", f'tracer = "open"\n[filterEvents.filename]\nvalues = ["{watched}"]\n')
    daemon.start()
    opener = subprocess.Popen(
        ["taskset", "-c", "1", str(brief), "pace", str(watched), str(OPENS_A_SECOND)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    slowest = 0.0
    try:
        with connect(parse_address(daemon.address)) as client:
            for number in range(SWAPS):
                text = f'name = "r{number}"\ntracer = "open"\n[filterEvents.filename]\nvalues = ["/never/{number}/"]\n'
                before = time.monotonic()
                client.create_rule(text, "api", replace=False)
                slowest = max(slowest, time.monotonic() - before)
            for number in range(SWAPS):
                client.remove_rule(f"r{number}", "")
    finally:
        made = int(opener.communicate(timeout=60)[0])
    print(f"{made} opens during {2 * SWAPS} changes; the slowest took {slowest * 1000:.0f} ms")
    assert made > SWAPS
    until(lambda: daemon.rule("always")["matched"] >= made, lambda: (made, daemon.rule("always")))
    assert daemon.rule("always")["matched"] == made
    assert daemon.tracer("open")["lost"] == 0


def reads(program: Path | str, forbidden: Path, **options: Any) -> int:
    """The status of a program that reads the file."""
    return subprocess.run([str(program), str(forbidden)], capture_output=True, **options).returncode


def copied(path: Path) -> Path:
    """A program of its own that does what cat does: another file, so no hard link."""
    path.parent.mkdir(exist_ok=True)
    shutil.copy(shutil.which("cat") or "", path)
    return path


def test_what_is_protected_lives_and_what_is_not_dies(daemon: RunningDaemon, forbidden: Path, tmp_path: Path) -> None:
    """Programs by path and by name, those of container runtimes, and the daemon's ancestors: this test is one."""
    by_path, by_name = copied(tmp_path / "keeper"), copied(tmp_path / "bin" / "guarded")
    runtime, other = copied(tmp_path / "bin" / "conmon"), copied(tmp_path / "bin" / "other")
    daemon.environment["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    daemon.write_rule("guard", kill_rule(forbidden).split("[excludeEvents")[0])
    daemon.start(config=f'protected = ["{by_path}", "guarded"]\n')
    assert [reads(program, forbidden) for program in (by_path, by_name, runtime)] == [0, 0, 0]
    assert [reads(program, forbidden) for program in (other, "cat", "head")] == [-9, -9, -9]
    assert forbidden.read_text() == "secret\n"
    until(lambda: daemon.rule("guard")["matched"] >= 7, lambda: daemon.rule("guard"))
    assert daemon.process is not None
    assert daemon.process.poll() is None


def test_a_protected_program_that_is_replaced_is_protected_soon(
    daemon: RunningDaemon, forbidden: Path, tmp_path: Path
) -> None:
    keeper = copied(tmp_path / "keeper")
    daemon.write_rule("guard", kill_rule(forbidden))
    daemon.start(config=f'protected = ["{keeper}"]\n')
    assert reads(keeper, forbidden) == 0
    new = copied(tmp_path / "new")
    new.rename(keeper)
    until(lambda: reads(keeper, forbidden) == 0, lambda: "it is killed", 2 * sparing.REFRESH_S + 5)
    gone = copied(tmp_path / "gone")
    assert reads(gone, forbidden) == -9


def test_a_protected_container_lives(daemon: RunningDaemon, forbidden: Path) -> None:
    """As Docker names its cgroups."""
    saved, lost = "5a" * 32, "1c" * 32
    with own_cgroup(find_hierarchy().mount) as own:
        groups = [own / "docker" / container for container in (saved, lost)]
        for group in groups:
            group.mkdir(parents=True)
        daemon.write_rule("guard", kill_rule(forbidden))
        daemon.start(config=f'protected = ["container:{saved}"]\n')

        def reads_in(group: Path) -> int:
            command = f'echo $$ > "{group}/cgroup.procs" && exec cat "{forbidden}"'
            return subprocess.run(["sh", "-c", command], capture_output=True).returncode

        assert [reads_in(group) for group in groups] == [0, -9]
