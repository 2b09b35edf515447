"""What keeps the daemon from starting is said in one line, with status 1."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.running import PROGRAM, RunningDaemon, open_rule

NOBODY = 65534
RULE = open_rule("nothing is named like this")


@pytest.fixture
def immutable(tmp_path: Path) -> Iterator[Path]:
    """A directory into which not even root can write."""
    place = tmp_path / "immutable"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def only_line(daemon: RunningDaemon, *flags: str, config: str = "") -> str:
    """The one line that it says when it does not start."""
    (line,) = daemon.fail_to_start(*flags, config=config)
    assert not line.endswith(".")
    return line


def run_as_nobody(*words: str) -> tuple[int, str, str]:
    """Run the program as a user without rights, who may only look into folders: the checkout may lie in root's own."""
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    may_look = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    done = subprocess.run([*user, *may_look, PROGRAM, *words], capture_output=True, text=True, timeout=30, cwd="/")
    return done.returncode, done.stdout, done.stderr


def test_without_root_it_says_so() -> None:
    said = "bpfd daemon must run as root: it loads BPF programs; run it with sudo\n"
    assert run_as_nobody("daemon", "--grpc-addr", "127.0.0.1:0") == (1, "", said)


@contextlib.contextmanager
def within_reach(place: Path) -> Iterator[None]:
    """Let everybody into a directory below pytest's, which is private."""
    before = {path: path.stat().st_mode for path in (place, *place.parents) if path.stat().st_mode & 0o5 != 0o5}
    for path, mode in before.items():
        path.chmod(stat.S_IMODE(mode) | 0o5)
    yield
    for path, mode in before.items():
        path.chmod(stat.S_IMODE(mode))


def test_a_user_who_may_not_reach_the_socket_is_told_so(shared: RunningDaemon) -> None:
    said = f"{shared.address}: permission denied; run as root, or as a member of the socket's group\n"
    with within_reach(shared.place):
        assert run_as_nobody("ls", "--grpc-addr", shared.address) == (1, "", said)


def test_an_address_in_use_is_said_and_the_first_daemon_goes_on(shared: RunningDaemon, daemon: RunningDaemon) -> None:
    daemon.write_rule("rule", RULE)
    line = only_line(daemon, "--grpc-addr", shared.address)
    assert line.startswith(f"{shared.socket}: address in use: another bpfd daemon listens there; stop it")
    assert shared.json("ls")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = only_line(daemon, "--grpc-addr", f"127.0.0.1:{taken.getsockname()[1]}")
        assert re.fullmatch(r"tcp://127\.0\.0\.1:\d+: cannot listen: address already in use; .*", line)


def test_a_socket_left_behind_is_no_hindrance_and_a_file_is(daemon: RunningDaemon) -> None:
    daemon.write_rule("rule", RULE)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(daemon.socket))
    daemon.start()
    assert daemon.json("ls")
    daemon.stop()
    assert not daemon.socket.exists()
    daemon.socket.write_text("precious")
    assert "exists and is not a socket; move it away" in only_line(daemon)
    assert daemon.socket.read_text() == "precious"


@pytest.mark.parametrize("key", ["cache_dir", "state_dir"])
def test_a_directory_that_cannot_be_written_is_named(daemon: RunningDaemon, immutable: Path, key: str) -> None:
    daemon.write_rule("rule", RULE)
    line = only_line(daemon, config=f'{key} = "{immutable}/deep"\n')
    assert line.startswith(f"{immutable}/deep: ")
    assert "Read-only file system" in line
    assert key in line


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_a_rules_directory_that_cannot_be_read_is_reported_and_refused_when_strict(
    daemon: RunningDaemon, tmp_path: Path, what: str
) -> None:
    place = tmp_path / "elsewhere"
    if what == "a file":
        place.write_text("")
    reason = "Not a directory" if what == "a file" else "No such file or directory"
    wanted = f"{place}: the rules directory cannot be read: {reason}; make it, or name another"
    assert only_line_after_log(daemon.fail_to_start("--strict", "--rules-dir", str(place))) == wanted
    daemon.start("--rules-dir", str(place))
    assert wanted in daemon.log
    assert wanted in daemon.json("status")["problems"]
    assert [rule["problem"] for rule in daemon.json("ls")] == [wanted]


def only_line_after_log(lines: list[str]) -> str:
    """The one line that is none of the log."""
    (line,) = [line for line in lines if not re.match(r"\d{4}-\d\d-\d\dT", line)]
    return line


BAD_CONFIGURATIONS = {
    "an unknown tracer": ('tracers = ["exce"]', r'tracers: .*"exce".*'),
    "an unknown default action": ('default_actions = ["stdot"]', r'.*"stdot".*"stdout".*'),
    "an unknown action": ("[actions.stdot]", r".*stdot.*"),
    "an unknown key": ("trase_queue = 1", r".*: unknown key 'trase_queue'; did you mean 'trace_queue'\?"),
    "a wrong type": ('trace_queue = "many"', r".*: trace_queue: must be a whole number from 1 to 10000000"),
    "a wrong ring": ("ring_bytes = 5000", r".*: ring_bytes: must be a power of two.*"),
    "no TOML": ("trace_queue = = 1", r".*: not TOML: .*"),
    "a wrong address": ('grpc_addr = "nowhere"', r".*nowhere.*"),
    "a long address": (f'grpc_addr = "unix:///tmp/{"x" * 200}"', r".*107 bytes.*"),
    "a setting that an action lacks": ('[actions.stdout]\nfromat = "json"', r".*stdout.*fromat.*"),
}


@pytest.mark.parametrize(("config", "said"), BAD_CONFIGURATIONS.values(), ids=BAD_CONFIGURATIONS)
def test_a_wrong_configuration_is_said_in_a_line(daemon: RunningDaemon, config: str, said: str) -> None:
    assert re.fullmatch(said, only_line(daemon, config=config + "\n"))


def test_a_configuration_that_is_not_there_is_said_in_a_line(daemon: RunningDaemon) -> None:
    assert only_line(daemon, "--config", "/nowhere.toml").startswith("/nowhere.toml: no such file; ")


@pytest.mark.parametrize("words", [["daemon", "--nonsense"], ["daemon", "extra"], ["nonsense"], ["ls", "--nonsense"]])
def test_a_wrong_command_line_ends_with_2(words: list[str]) -> None:
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_without_tracefs_it_is_mounted(daemon: RunningDaemon) -> None:
    """In a mount namespace of its own, where it is not there."""
    daemon.write_rule("rule", RULE)
    hidden = 'umount /sys/kernel/tracing; umount -l /sys/kernel/debug; exec "$0" "$@"'
    daemon.wrapper = ["unshare", "--mount", "sh", "-c", hidden]
    daemon.start()
    assert daemon.json("ls")[0]["state"] == "ok"
    assert os.path.isdir(f"/proc/{daemon.pid}/root/sys/kernel/tracing/events")
