"""What happens on the host arrives, whole and escaped, wherever events come out."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.running import PROGRAM, JsonEvent, RunningDaemon, open_rule, opened, until
from tests.daemon.seed import follow_as_the_seed

NOBODY = 65534
HOSTILE = {
    "newline": b"a\nb",
    "escape": b"a\x1b[2J\x1b]0;owned\x07b",
    "invalid UTF-8": b"a\xff\xfe\xc3b",
    "255 bytes": b"x" * 255,
    "255 stray bytes": b"\xf0" * 255,
    "quotes": b'a"\'b\\n\\"',
    "right to left": "a\u202eb\u2028c\u0085".encode(),
    "a whole event": b'"}\n{"rule":"faked"}\n',
}


def of_process(pid: int) -> Callable[[JsonEvent], bool]:
    return lambda event: pid in (event.get("pid"), event.get("PID"))


@pytest.mark.parametrize(("uid", "result"), [(0, 3), (NOBODY, -13)])
def test_reading_a_secret_is_told_on_stdout_by_trace_and_to_a_client_of_the_seed(
    shared: RunningDaemon, seed_client: dict[str, str], uid: int, result: int
) -> None:
    shared.create("secret", open_rule("/etc/shadow"), "--replace")
    trace, seed = shared.trace(), follow_as_the_seed(shared, seed_client)
    cat = subprocess.Popen(
        ["cat", "/etc/shadow"], user=uid, group=uid, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    cat.wait()
    (event,) = shared.wait_for(of_process(cat.pid))
    wanted = {
        "rule": "secret",
        "tracer": "open",
        "pid": cat.pid,
        "tgid": cat.pid,
        "tid": cat.pid,
        "nsPid": cat.pid,
        "ppid": os.getpid(),
        "uid": uid,
        "gid": uid,
        "command": "cat",
        "returnValue": result,
        "containerID": "",
        "containerRuntime": "not-found",
        "container": {"name": "", "image": "", "labels": {}},
        "host": os.uname().nodename,
    }
    assert {key: value for key, value in event.items() if key not in ("time", "data")} == wanted
    names = {"filename": "/etc/shadow", "path": "/etc/shadow"}
    how = {"flags": "O_RDONLY", "reads": "true", "writes": "false", "mode": "0000", "via": "openat"}
    assert (names | how).items() <= event["data"].items()
    assert trace.wait_for(of_process(cat.pid)) == [event]
    (seen,) = seed.wait_for(of_process(cat.pid))
    same = ("command", "returnValue", "containerID", "containerRuntime", "tracer", "data")
    assert seen == {"PID": cat.pid, "TGID": cat.pid, "UID": uid, "GID": uid} | {key: event[key] for key in same}


def test_a_program_that_is_started_is_told_with_its_arguments_and_those_of_one_that_fails_too(
    shared: RunningDaemon, tmp_path: Path
) -> None:
    shared.create("started", 'tracer = "exec"\n[filterEvents.argv]\nvalues = ["told-of"]\n')
    true = subprocess.Popen(["/bin/true", "told-of", "two words"], cwd=tmp_path)
    true.wait()
    with pytest.raises(FileNotFoundError):
        subprocess.run(["/no/such/program", "told-of"])
    good, bad = shared.wait_for(lambda event: event["rule"] == "started", 2)
    assert (good["pid"], good["command"], good["returnValue"]) == (true.pid, "true", 0)
    assert (good["data"]["argv"], good["data"]["cwd"]) == ("/bin/true told-of two words", str(tmp_path))
    assert (bad["returnValue"], bad["data"]["filename"]) == (-2, "/no/such/program")


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_breaks_no_line_whatever_prints_it(shared: RunningDaemon, tmp_path: Path, name: bytes) -> None:
    mark = tmp_path.name
    shared.create(mark, open_rule(f"{tmp_path}/", actions='"stdout"'))
    shared.create(f"{mark}-exec", f'tracer = "exec"\n[filterEvents.argv]\nvalues = ["true {tmp_path}/"]\n')
    trace = shared.trace("--rule", mark)
    hostile = os.fsencode(tmp_path) + b"/" + name.replace(b"/", b"_")
    os.close(os.open(hostile, os.O_CREAT | os.O_WRONLY, 0o600))
    subprocess.run([b"/bin/true", hostile], check=True)
    shown = hostile.decode("utf-8", "backslashreplace")
    (event,) = shared.wait_for(lambda event: event["rule"] == mark)
    assert (event["data"]["filename"], event["data"]["path"]) == (shown, shown)
    assert trace.wait_for(lambda event: True) == [event]
    (started,) = shared.wait_for(lambda event: event["rule"] == f"{mark}-exec")
    assert started["data"]["argv"] == f"/bin/true {shown}"
    assert not [event for event in shared.lines.read() if event["rule"] == "faked"]


def test_a_hostile_name_reaches_no_terminal_as_it_is(daemon: RunningDaemon, tmp_path: Path) -> None:
    """Neither the daemon's own terminal nor that of `bpfd trace`."""
    daemon.write_rule("marked", open_rule("hostile-"))
    with Terminal() as own, Terminal() as other:
        daemon.launch(stdout=own.inner)
        until(lambda: "ready" in daemon.log, lambda: daemon.log)
        words = [PROGRAM, "trace", "--grpc-addr", daemon.address]
        trace = subprocess.Popen(words, stdout=other.inner, stderr=subprocess.PIPE, text=True)
        try:
            assert trace.stderr is not None
            assert "following" in trace.stderr.readline()
            for number, name in enumerate(HOSTILE.values()):
                hostile = os.fsencode(tmp_path) + b"/hostile-%d" % number + name.replace(b"/", b"_")[:240]
                os.close(os.open(hostile, os.O_CREAT | os.O_WRONLY, 0o600))
            for terminal in (own, other):
                lines = terminal.lines(len(HOSTILE))
                assert all(f"hostile-{number}" in line for number, line in enumerate(lines))
                plain = [line.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "") for line in lines]
                assert not [c for line in plain for c in line if unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp"}]
        finally:
            trace.kill()
            trace.communicate()


class Terminal:
    """A terminal that the test reads."""

    def __enter__(self) -> Terminal:
        self._outer, self.inner = pty.openpty()
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._outer)
        os.close(self.inner)

    def lines(self, count: int) -> list[str]:
        """What was printed so far, once it is `count` lines."""
        text = b""

        def whole() -> list[bytes]:
            nonlocal text
            while select.select([self._outer], [], [], 0)[0]:
                text += os.read(self._outer, 65536)
            lines = text.split(b"\r\n")[:-1]
            return lines if len(lines) >= count else []

        lines = until(whole, lambda: text)
        assert len(lines) == count, lines
        return [line.decode() for line in lines]


def test_what_the_daemon_opens_itself_is_left_out(shared: RunningDaemon) -> None:
    """By its process id: another program of the same name is seen."""
    extra = shared.write_rule("extra", open_rule("nothing is named like this either"))
    shared.create("rules-dir", open_rule(f"{shared.rules_dir}/"))
    assert shared.process is not None
    shared.process.send_signal(signal.SIGHUP)
    until(lambda: [rule for rule in shared.json("ls") if rule["name"] == "extra"], lambda: shared.log)
    renamed = "import sys, pathlib; pathlib.Path('/proc/self/comm').write_text('bpfd'); open(sys.argv[1]).close()"
    reader = subprocess.Popen([sys.executable, "-I", "-c", renamed, str(extra)])
    reader.wait()
    (sentinel,) = shared.wait_for(lambda event: event["rule"] == "rules-dir" and event["pid"] == reader.pid)
    assert sentinel["command"] == "bpfd"
    assert shared.events("rules-dir", sentinel) == []


def test_events_come_in_their_order_with_their_times(shared: RunningDaemon, tmp_path: Path) -> None:
    shared.create("ordered", open_rule(f"{tmp_path}/ordered-"))
    before = time.time_ns()
    for number in range(1000):
        with pytest.raises(FileNotFoundError):
            os.open(tmp_path / f"ordered-{number}", os.O_RDONLY)
    after = time.time_ns()
    events = shared.wait_for(lambda event: event["rule"] == "ordered", 1000)
    assert [event["data"]["filename"] for event in events] == [f"{tmp_path}/ordered-{n}" for n in range(1000)]
    times: list[int] = [event["time"] for event in events]
    slack = 2_000_000
    assert times == sorted(times)
    assert before - slack <= times[0]
    assert times[-1] <= after + slack
    assert opened(tmp_path / "ordered-0")(events[0])
