"""Whatever ends the daemon, nothing of it stays."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import re
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest

from bpfd.daemon import Daemon
from bpfd.errors import ApiError
from bpfd.settings import Settings
from tests.daemon.running import START_S, STOP_S, RunningDaemon, open_rule, opened, until

pytestmark = pytest.mark.serial
"""How long an end takes is looked at: another test's compiler beside it would count too."""

BOTH = {"exec": 'tracer = "exec"\n[filterEvents.argv]\nvalues = ["nothing is named like this"]\n'}


def programs_of(pid: int) -> set[int]:
    """The numbers of the BPF programs that a process holds."""
    found = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):
            found |= {int(number) for number in re.findall(r"(?m)^prog_id:\s*(\d+)$", entry.read_text())}
    return found


def loaded_programs() -> set[int]:
    """The numbers of all that the kernel has."""
    said = subprocess.run(["bpftool", "-j", "prog", "show"], capture_output=True, check=True).stdout
    return {program["id"] for program in json.loads(said)}


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_nothing_stays_attached_and_a_new_daemon_starts(daemon: RunningDaemon, tmp_path: Path, end: str) -> None:
    for name, text in BOTH.items():
        daemon.write_rule(name, text)
    daemon.write_rule("open", open_rule(f"{tmp_path}/again"))
    daemon.start()
    programs = programs_of(daemon.pid)
    assert len(programs) > 5
    assert programs <= loaded_programs()
    getattr(daemon, end)()
    until(lambda: not programs & loaded_programs(), lambda: programs & loaded_programs())
    assert daemon.socket.exists() == (end == "kill")
    daemon.start()
    (tmp_path / "again").touch()
    assert daemon.wait_for(opened(tmp_path / "again"))


def test_the_death_of_the_daemon_while_it_loads_leaves_nothing(daemon: RunningDaemon, tmp_path: Path) -> None:
    """The children that compile end with it."""
    daemon.cache_dir = tmp_path / "cold"  # what is compiled already is loaded before anybody could look
    daemon.write_rule("open", open_rule("nothing is named like this"))
    daemon.launch()
    started = until(lambda: loaders_of(daemon.pid), lambda: daemon.log)
    daemon.kill()
    until(lambda: not [pid for pid in started if is_alive(pid)], lambda: [pid for pid in started if is_alive(pid)])


@pytest.mark.parametrize(("number", "some_known"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_signal_while_it_compiles_ends_it_before_it_is_ready_and_leaves_nothing(
    daemon: RunningDaemon, tmp_path: Path, number: int, some_known: bool
) -> None:
    """Also when some of its programs are in the kernel by then, because they were compiled before."""
    daemon.cache_dir = tmp_path / "cold"
    daemon.write_rule("open", open_rule("nothing is named like this"))
    if some_known:
        daemon.start()
        daemon.stop()
    for tracer in ("exec", "mount", "process", "tcpconnect"):
        daemon.write_rule(tracer, f'tracer = "{tracer}"\nactions = ["journald"]\n')
    daemon.launch()
    until(lambda: loaders_of(daemon.pid) and bool(programs_of(daemon.pid)) >= some_known, lambda: daemon.log, START_S)
    started, programs = loaders_of(daemon.pid), programs_of(daemon.pid)
    assert daemon.stop(number) == ""  # nor that it is ready
    until(lambda: not [pid for pid in started if is_alive(pid)], lambda: [pid for pid in started if is_alive(pid)])
    until(lambda: not programs & loaded_programs(), lambda: programs & loaded_programs())
    assert not daemon.socket.exists()


def loaders_of(pid: int) -> list[int]:
    """The children of a daemon that compile."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return [pid for pid in found if is_loader(pid)]


def is_loader(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"loader.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_and_removes_its_socket(daemon: RunningDaemon, number: int) -> None:
    daemon.write_rule("open", open_rule("nothing is named like this"))
    daemon.start()
    daemon.trace()
    assert daemon.stop(number) == ""
    assert not daemon.socket.exists()


@pytest.mark.parametrize("last", [False, True], ids=["its second", "its last"])
def test_a_signal_ends_it_whichever_of_its_threads_the_kernel_gives_it_to(daemon: RunningDaemon, last: bool) -> None:
    daemon.write_rule("open", open_rule("nothing is named like this"))
    daemon.start()
    threads = sorted(int(entry.name) for entry in Path(f"/proc/{daemon.pid}/task").iterdir())
    thread = threads[-1 if last else 1]
    assert daemon.process is not None
    assert thread != daemon.pid
    assert ctypes.CDLL(None).tgkill(daemon.pid, thread, signal.SIGTERM) == 0
    assert daemon.process.wait(STOP_S) == 0
    daemon.process = None


def test_what_happened_before_the_signal_is_still_acted_on(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.write_rule("open", open_rule(f"{tmp_path}/last-"))
    daemon.start()
    for number in range(5000):
        with contextlib.suppress(FileNotFoundError):
            os.open(tmp_path / f"last-{number}", os.O_RDONLY)
    daemon.stop()
    assert len(daemon.lines.read()) == 5000


def test_a_signal_while_it_starts_ends_it_in_time(daemon: RunningDaemon) -> None:
    daemon.write_rule("open", open_rule("nothing is named like this"))
    daemon.launch()
    until(daemon.socket.exists, lambda: daemon.log)
    daemon.stop()
    assert not daemon.socket.exists()


def test_a_reader_of_its_stdout_that_hangs_holds_up_nothing_but_stdout(
    daemon: RunningDaemon, brief: Path, tmp_path: Path
) -> None:
    """Neither the live trace, nor other actions, nor the end; what found no room is counted."""
    told = tmp_path / "told"
    daemon.write_rule("all", open_rule(f"{tmp_path}/all", actions='"stdout", "told"'))
    reader, writer = os.pipe()
    try:
        config = f'action_queue = 5000\n[actions.told]\ntype = "file"\npath = "{told}"\n'
        daemon.start(config=config, stdout=writer)
        trace = daemon.trace()
        for number in range(1, 11):  # at a pace that the trace keeps up with
            subprocess.run([brief, "open", tmp_path / "all", "2000"], check=True, stdout=subprocess.DEVNULL)
            trace.wait_for(lambda event: event["rule"] == "all", number * 2000)
        counters = daemon.json("status")["counters"]
        assert counters["action.stdout.dropped"] > 0
        assert counters["action.stdout.done"] + counters["action.stdout.dropped"] < 20000
        until(lambda: told.exists() and told.stat().st_size > 0, lambda: daemon.log)
        said = daemon.stop()
        assert "stdout" in said
    finally:
        os.close(reader)
        os.close(writer)


def test_a_reader_of_its_stdout_that_goes_away_is_reported_and_no_reason_to_end(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    daemon.write_rule("all", open_rule(f"{tmp_path}/all"))
    reader, writer = os.pipe()
    try:
        daemon.start(stdout=writer)
        trace = daemon.trace()
        os.close(reader)
        (tmp_path / "all").touch()
        trace.wait_for(lambda event: event["rule"] == "all")
        until(lambda: daemon.json("status")["counters"].get("action.stdout.failed"), lambda: daemon.log)
        assert "stdout: cannot be written: Broken pipe" in daemon.log
    finally:
        os.close(writer)


def census() -> Counter[str]:
    """The open descriptors of this process, and its threads."""
    gc.collect()
    kinds = [thread.name for thread in threading.enumerate()]
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            kinds.append(re.sub(r"\d+", "N", os.readlink(entry)))
    return Counter(kinds)


def see_no_more_than(before: Counter[str]) -> None:
    """What gRPC closes, it closes on threads of its own, a moment later."""
    until(lambda: census() <= before, lambda: census() - before)


@pytest.fixture
def settings(tmp_path: Path, cache_dir: Path) -> Settings:
    """For daemons in this process."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "exec.toml").write_text(BOTH["exec"])
    address = f"unix://{tmp_path}/s"
    return Settings(rules_dir=rules, grpc_addr=address, state_dir=tmp_path / "state", cache_dir=cache_dir)


def test_ten_daemons_one_after_the_other_leave_no_descriptor_and_no_thread(settings: Settings) -> None:
    """In this process. The first leaves what libraries keep for good: gRPC's, for one."""
    before = None
    for number in range(11):
        enabled = number in {0, 10}  # a tracer's compilation takes a second
        (settings.rules_dir / "exec.toml").write_text(f"enabled = {str(enabled).lower()}\n{BOTH['exec']}")
        daemon = Daemon(settings)
        daemon.start()
        assert {name.state for name in daemon.list_tracers() if name.name == "exec"} == {
            "running" if enabled else "not loaded"
        }
        daemon.stop()
        before = before or census()
        see_no_more_than(before)


def test_a_daemon_that_cannot_start_leaves_nothing_either(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("no socket")
    before = None
    for _ in range(3):
        with pytest.raises(ApiError):
            Daemon(settings).start()
        before = before or census()
    see_no_more_than(before)
