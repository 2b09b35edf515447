"""Lines typed into interactive bash are told, wherever it runs and whenever it started."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.event import Event
from bpfd.kernel import follow
from bpfd.kernel.program import Build
from bpfd.rules.model import All
from bpfd.tracers.bashreadline import BashreadlineTracer
from tests.daemon.running import RunningDaemon, until
from tests.dockerd import Dockerd
from tests.kernel.conftest import Bench
from tests.tracers.terminal import PROMPT, ContainerShell, Shell, load_bash_image

INTERACTIVE = ["bash", "--norc", "-i"]
SENTINEL = "# that was all"

FAKE_LIBRARY = """
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
char *readline(const char *prompt) {
  static char line[256];
  fputs(prompt, stdout); fflush(stdout);
  if (!fgets(line, sizeof(line), stdin)) return 0;
  line[strcspn(line, "\\n")] = 0;
  return strdup(line);
}
"""
FAKE_SHELL = 'char *readline(const char *); int main(void) { while (readline("ready> ")) ; return 0; }'


@pytest.fixture
def lines(build: Build, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """One for each test: it follows the shells of the whole machine, and tests without it are not to notice."""
    monkeypatch.setattr(follow, "SWEEP_S", 0.2)
    bench = Bench(BashreadlineTracer, build)
    try:
        bench.judge_by([All()])
        yield bench
    finally:
        bench.close()


def typed(lines: Bench, pid: int, until_line: str = SENTINEL) -> list[str]:
    """What was told of a process, up to a line that it was given last."""
    found: list[Event] = []

    def complete() -> bool:
        found.extend(event for event, _ in lines.events() if event.pid == pid)
        return any(event.data["line"] == until_line for event in found)

    until(complete, lambda: found)
    assert {event.command for event in found} == {"bash"}
    return [event.data["line"] for event in found]


def test_every_line_typed_into_a_shell_that_starts_later_is_told(lines: Bench) -> None:
    with Shell(INTERACTIVE) as shell:
        shell.wait_for(PROMPT)
        for line in ("echo hello", "", "  cd /tmp; 'ls' | sort", "ünïcode → \\\\", SENTINEL):
            shell.type(line)
        assert typed(lines, shell.process.pid) == [
            "echo hello",
            "",
            "  cd /tmp; 'ls' | sort",
            "ünïcode → \\\\",
            SENTINEL,
        ]


def test_a_line_typed_before_the_shell_is_ready_is_told(lines: Bench) -> None:
    with Shell(INTERACTIVE) as shell:
        shell.type("echo early")
        shell.type(SENTINEL)
        assert typed(lines, shell.process.pid) == ["echo early", SENTINEL]


def test_a_shell_that_ran_before_the_tracer_is_told(build: Build) -> None:
    with Shell(INTERACTIVE) as shell:
        shell.wait_for(PROMPT)
        bench = Bench(BashreadlineTracer, build)
        try:
            bench.judge_by([All()])
            shell.type("# the line that it was waiting at")
            shell.wait_for(PROMPT)
            shell.type(SENTINEL)
            assert typed(bench, shell.process.pid)[-1] == SENTINEL
        finally:
            bench.close()


def test_a_line_that_is_longer_than_is_kept_is_cut(lines: Bench) -> None:
    # A terminal takes lines of 4,095 bytes at once (N_TTY_BUF_SIZE); readline reads them byte by byte.
    with Shell(INTERACTIVE) as shell:
        shell.wait_for(PROMPT)
        for _ in range(10):
            os.write(shell.fd, b"# " + b"x" * 498)
            time.sleep(0.05)
        shell.type("")
        shell.wait_for(PROMPT)
        shell.type(SENTINEL)
        first, last = typed(lines, shell.process.pid)
        assert (len(first), first[:4], last) == (4095, "# xx", SENTINEL)


def test_a_library_that_bash_is_linked_with_is_attached_to(lines: Bench, tmp_path: Path) -> None:
    (tmp_path / "library.c").write_text(FAKE_LIBRARY)
    (tmp_path / "shell.c").write_text(FAKE_SHELL)
    library, shell_file = tmp_path / "libreadline.so.8", tmp_path / "bash"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "library.c"], check=True)
    subprocess.run(["gcc", "-o", shell_file, tmp_path / "shell.c", library], check=True)
    follower = lines.program.follower
    assert follower is not None
    before = follower.attached
    with Shell([str(shell_file)], {"LD_LIBRARY_PATH": str(tmp_path)}) as shell:
        shell.wait_for(PROMPT)
        until(lambda: follower.attached > before, lambda: follower.attached)
        shell.type("first")  # it waits in readline, which may have been called before the probe was there
        shell.type("second")
        shell.type(SENTINEL)
        assert typed(lines, shell.process.pid)[-2:] == ["second", SENTINEL]
    # A file of this machine stays attached to for as long as it is there.
    attached = follower.attached
    library.unlink()
    until(lambda: follower.attached == attached - 1, lambda: follower.attached)


def test_scripts_pipes_and_other_programs_are_silent(lines: Bench, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("echo from a script\nread line <<< text\n")
    subprocess.run(["bash", tmp_path / "script"], check=True, capture_output=True)
    subprocess.run(["bash", "-c", "echo from an argument"], check=True, capture_output=True)
    subprocess.run(["bash"], input=b"echo from a pipe\n", check=True, capture_output=True)
    with Shell(["sh"]) as dash:
        dash.type("echo dash has no readline")
        dash.wait_for("dash has no readline\r\n")
    with Shell(INTERACTIVE) as shell:
        shell.wait_for(PROMPT)
        shell.type(SENTINEL)
        found = lines.wait_for(lambda event: event.ppid == os.getpid())  # of all that was started here
        assert (found.pid, found.data["line"]) == (shell.process.pid, SENTINEL)


def test_a_rule_on_the_line_is_judged_in_the_kernel(lines: Bench) -> None:
    from bpfd.rules.model import Test as Clause

    with Shell(INTERACTIVE) as shell:
        shell.wait_for(PROMPT)
        lines.judge_by([Clause("line", "contains", ("curl",))])
        passed = lines.program.passed
        for line in ("# wget x", "# curl x", "# nothing"):
            shell.type(line)
            shell.wait_for(line)
        assert lines.wait_for(lambda event: event.pid == shell.process.pid).data["line"] == "# curl x"
        shell.wait_for(PROMPT)
        assert lines.program.passed == passed + 1


def test_lines_in_containers_are_told_once_with_the_container(daemon: RunningDaemon, dockerd: Dockerd) -> None:
    """Two containers of one image have one file below; a third was there before the daemon."""
    load_bash_image(dockerd)
    daemon.write_rule("typed", 'tracer = "bashreadline"\n')
    daemon.environment["DOCKER_HOST"] = dockerd.address
    with ContainerShell(dockerd, name="before") as before:
        before.type("echo up")
        before.wait_for("\nup\r\n")
        daemon.start()
        with ContainerShell(dockerd, name="one") as one, ContainerShell(dockerd, name="two") as two:
            for shell in (before, one, two):
                for line in ("", f"echo in {shell.container.name}", f"# end {shell.container.name}"):
                    shell.type(line)
            for shell in (before, one, two):
                name = shell.container.name
                events = daemon.wait_for(lambda event, name=name: event["data"]["line"] == f"# end {name}")
                assert [event["container"]["name"] for event in events] == [name]
                told = [e for e in daemon.lines.read() if e["containerID"] == shell.container.id and e["data"]["line"]]
                assert [e["data"]["line"] for e in told] == [f"echo in {name}", f"# end {name}"]
                assert {(e["command"], e["containerRuntime"]) for e in told} == {("bash", "docker")}


def test_a_containers_file_is_let_go_when_no_process_runs_it(lines: Bench, dockerd: Dockerd) -> None:
    load_bash_image(dockerd)
    follower = lines.program.follower
    assert follower is not None
    before = follower.attached
    with ContainerShell(dockerd) as shell:
        shell.type("echo up")
        shell.wait_for("\nup\r\n")
        until(lambda: follower.attached == before + 1, lambda: follower.attached)
    until(lambda: follower.attached == before, lambda: follower.attached)


def test_no_more_files_are_attached_to_than_the_bound(
    lines: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = lines.program.follower
    assert follower is not None
    monkeypatch.setattr(follow, "MOST_FILES", follower.attached)
    refused = follower.refused
    copy = tmp_path / "bash"
    copy.write_bytes(Path("/bin/bash").read_bytes())
    copy.chmod(0o755)
    with Shell([str(copy), "--norc", "-i"]) as shell:
        shell.wait_for(PROMPT)
        until(lambda: follower.refused == refused + 1, lambda: follower.refused)


def test_a_line_of_a_shell_that_had_to_make_room_for_others_is_counted(lines: Bench) -> None:
    """The kernel lets those go that called longest ago; here the test does."""
    with Shell(INTERACTIVE) as shell:
        shell.wait_for(PROMPT)
        reading, before = lines.program.maps["reading"], lines.program.own_count(0)
        reading.delete(struct.pack("=I", shell.process.pid))
        shell.type(":")
        shell.wait_for(PROMPT)
        assert lines.program.own_count(BashreadlineTracer.counts.index("untracked")) == before + 1
        shell.type(SENTINEL)
        assert typed(lines, shell.process.pid) == [SENTINEL]
