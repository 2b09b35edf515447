"""`bpfd run`: one tracer on the real kernel, with no daemon and no rules."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bpfd.quicklook import QuickLook
from bpfd.rules.model import All
from bpfd.settings import Settings
from bpfd.tracers.open import OpenTracer
from tests.daemon.running import PROGRAM, START_S, RunningDaemon, until
from tests.dockerd import Dockerd

FLOOD_MS = 1200


class Look:
    """A `bpfd run` that the test started."""

    def __init__(self, words: list[str], place: Path, env: dict[str, str], stdout: int | None) -> None:
        self._out, self._err = place / "out", place / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [PROGRAM, "run", *words], stdout=out if stdout is None else stdout, stderr=err, env=env
            )
        until(self._watches, lambda: self.errors, START_S)

    def _watches(self) -> bool:
        assert self.process.poll() is None, self.errors
        return "bpfd: watching" in self.errors

    @property
    def errors(self) -> str:
        return self._err.read_text()

    @property
    def text(self) -> str:
        return self._out.read_text()

    def has(self, text: str) -> None:
        """Wait until it has printed `text`."""
        until(lambda: text in self.text, lambda: (text, self.text, self.errors))

    def end(self, number: int = signal.SIGINT) -> int:
        """End it by a signal, in time: its exit status."""
        began = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(20)
        self.took_s = time.monotonic() - began
        return status

    def events(self) -> list[dict[str, Any]]:
        """End it; the events that it printed as JSON."""
        assert self.end() == 130, self.errors
        return [json.loads(line) for line in self.text.splitlines()]

    def lost(self) -> int:
        """How many events it says that it lost."""
        said = re.search(r"^bpfd: (\d+) events? lost \(", self.errors, re.M)
        return int(said[1]) if said else 0


Start = Callable[..., Look]


@pytest.fixture
def look(tmp_path: Path, cache_dir: Path) -> Iterator[Start]:
    """Starts `bpfd run`, and returns once it watches."""
    started: list[Look] = []

    def start(*words: str, config: str = "", docker: str = "", stdout: int | None = None) -> Look:
        place = tmp_path / f"look{len(started)}"
        place.mkdir()
        (place / "bpfd.toml").write_text(f'cache_dir = "{cache_dir}"\n{config}')
        env = {**os.environ, "DOCKER_HOST": docker or f"unix://{place}/no-docker.sock"}
        started.append(Look([*words, "--config", str(place / "bpfd.toml")], place, env, stdout))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def cat(*paths: Path | str) -> int:
    """Run cat; its process id."""
    process = subprocess.Popen(["cat", *map(str, paths)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process.wait()
    return process.pid


def test_the_open_of_one_command_is_seen_whole_and_no_other(look: Start, tmp_path: Path) -> None:
    file, missing = tmp_path / "file", tmp_path / "missing"
    file.write_text("")
    watching = look("open", "--command", "cat", "--json")
    subprocess.run(["head", str(file)], check=True)
    pid = cat(file, missing)
    watching.has(str(missing))
    events = watching.events()
    assert {event["command"] for event in events} == {"cat"}
    own = {event["data"]["filename"]: event for event in events if event["pid"] == pid}
    opened, failed = own[str(file)], own[str(missing)]
    whole = {"filename": str(file), "path": str(file), "flags": "O_RDONLY", "mode": "0000"}
    assert whole.items() <= opened["data"].items()
    assert (failed["data"]["path"], failed["returnValue"]) == (str(missing), -2)
    assert (opened["rule"], opened["tracer"], opened["containerRuntime"]) == ("", "open", "not-found")
    assert watching.lost() == 0


def test_one_process_alone_is_watched(look: Start, tmp_path: Path) -> None:
    code = "import sys\nfor line in sys.stdin: open(line.strip())"
    mine, other = (
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True, bufsize=1) for _ in range(2)
    )
    try:
        watching = look("open", "--pid", str(mine.pid), "--json")
        for name, process in (("other", other), ("mine", mine), ("last", mine)):
            (tmp_path / name).write_text("")
            assert process.stdin is not None
            process.stdin.write(f"{tmp_path}/{name}\n")
            time.sleep(0.1)
        watching.has("/last")
        events = watching.events()
        assert {event["pid"] for event in events} == {mine.pid}
        assert [event["data"]["filename"] for event in events] == [f"{tmp_path}/mine", f"{tmp_path}/last"]
    finally:
        for process in (mine, other):
            process.communicate()


def test_a_condition_is_that_of_rules(look: Start, tmp_path: Path) -> None:
    watching = look("open", "--json", "--where", f"path startswith {tmp_path}/ and returnValue < 0")
    (tmp_path / "file").write_text("")
    cat(tmp_path / "file", tmp_path / "missing", "/missing")
    cat(tmp_path / "end")
    watching.has(f"{tmp_path}/end")
    names = [event["data"]["filename"] for event in watching.events()]
    assert names == [f"{tmp_path}/missing", f"{tmp_path}/end"]


def test_one_container_alone_is_watched_by_its_name_or_the_beginning_of_its_id(look: Start, dockerd: Dockerd) -> None:
    reads = "while :; do cat /etc/shadow >/dev/null; sleep 0.05; done"
    wanted, other = (dockerd.run(reads, name=f"look-{name}") for name in ("wanted", "other"))
    assert wanted.id is not None
    try:
        for given in ("look-wanted", wanted.id[:12]):
            watching = look("open", "--container", given, "--json", docker=dockerd.address)
            cat("/etc/shadow")
            until(lambda w=watching: w.text.count("/etc/shadow") > 3, lambda w=watching: (w.text, w.errors))
            events = watching.events()
            assert {event["containerID"] for event in events} == {wanted.id}
            named = events[-1]
            assert (named["container"]["name"], named["containerRuntime"]) == ("look-wanted", "docker")
    finally:
        wanted.remove(force=True)
        other.remove(force=True)


def test_the_kernel_leaves_out_other_containers_and_the_host(
    dockerd: Dockerd, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", dockerd.address)
    wanted, other = (
        dockerd.run(f"while :; do cat /etc/{name} >/dev/null; sleep 0.05; done") for name in ("group", "passwd")
    )
    try:
        settings = Settings(cache_dir=cache_dir)
        with QuickLook(OpenTracer, All(), settings, lambda: None, str(wanted.id)) as quick:
            quick._watching.pipeline.settle()
            quick.take()  # what came before the kernel knew of the rule
            before = quick._watching.pipeline.received["open"]
            events = []

            def enough() -> bool:
                cat("/etc/passwd")
                events.extend(quick.take())
                return len(events) > 20

            until(enough, lambda: events)
            quick._watching.pipeline.settle()
            events += quick.take()
            assert {event.container.id for event in events} == {wanted.id}
            assert quick._watching.pipeline.received["open"] - before == len(events)
    finally:
        wanted.remove(force=True)
        other.remove(force=True)


def test_a_container_that_is_not_there_is_one_line(dockerd: Dockerd, cache_dir: Path, tmp_path: Path) -> None:
    def said(address: str) -> str:
        env = {**os.environ, "DOCKER_HOST": address}
        result = subprocess.run(
            [PROGRAM, "run", "open", "--container", "nobody"], capture_output=True, text=True, env=env
        )
        assert (result.returncode, result.stdout) == (1, "")
        return result.stderr

    nobody = 'no running container has the id or name "nobody"; docker ps lists those of Docker\n'
    assert said(dockerd.address) == nobody
    assert said(f"unix://{tmp_path}/none") == (
        'no container has the id "nobody", and names are known to Docker alone, which does not answer at '
        f"unix://{tmp_path}/none: No such file or directory; give the id, or start Docker\n"
    )


def test_a_table_has_a_header_and_aligned_columns(look: Start, tmp_path: Path) -> None:
    file = tmp_path / "a file\n\x1b[2J"
    file.write_text("")
    watching = look("open", "--where", f'command = cat and filename startswith "{tmp_path}/"')
    pid = cat(file)
    watching.has("a file")
    assert watching.end() == 130
    head, row = watching.text.splitlines()
    assert head.split()[:5] == ["time", "command", "pid", "container", "returned"]
    assert row[head.index("pid") :].split()[0] == str(pid)
    assert row[head.index("filename") :].startswith(f'"{tmp_path}/a file\\n\\x1b[2J"')


def test_csv_can_be_read_again(look: Start, tmp_path: Path) -> None:
    file = tmp_path / '=a,"b"\n'
    file.write_text("")
    watching = look("open", "--csv", "--where", f'command = cat and filename startswith "{tmp_path}/"')
    pid = cat(file)
    watching.has("=a")
    assert watching.end() == 130
    [row] = csv.DictReader(watching.text.splitlines())
    assert (row["command"], row["pid"], row["filename"]) == ("cat", str(pid), f'{tmp_path}/=a,"b"\\n')


def test_it_ends_by_itself_after_a_time_or_a_number_of_events(look: Start, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    watching = look("open", "--count", "2", "--json", "--where", f"filename = {file}")
    cat(file, file, file)
    assert watching.process.wait(20) == 0
    assert watching.text.count("\n") == 2
    assert look("open", "--for", "300ms", "--where", f"filename = {file}").process.wait(20) == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_what_happened_before_is_printed(
    look: Start, tmp_path: Path, number: int, status: int
) -> None:
    watching = look("open", "--json", "--where", f"filename = {tmp_path}/x")
    pid = cat(tmp_path / "x")
    assert watching.end(number) == status
    assert [json.loads(line)["pid"] for line in watching.text.splitlines()] == [pid]
    print(f"ended in {watching.took_s:.2f} s")


def test_the_longest_time_can_be_waited_for(look: Start, tmp_path: Path) -> None:
    watching = look("ticker", "--for", "30d", "--count", "1", "--json")
    assert watching.process.wait(20) == 0
    assert json.loads(watching.text)["data"] == {"tick": "1"}


def test_the_daemons_tracers_are_listed_with_how_they_fare(shared: RunningDaemon) -> None:
    states = {line.split()[0]: line for line in shared.bpfd("tracers").splitlines()}
    assert re.match(r"open +running +Files that are opened", states["open"])
    assert re.match(r"mkdir +not loaded +Directories that are made", states["mkdir"])
    said = shared.bpfd("tracers", "open").splitlines()
    assert said[0] == "open: running"
    assert re.fullmatch(r"\d+ events? received, \d+ lost", said[1])
    assert shared.bpfd("tracers", "syscall:connect").startswith("syscall:connect: not loaded\n")


def test_it_ends_when_its_reader_does_though_nothing_happens(look: Start) -> None:
    read, write = os.pipe()
    try:
        watching = look("open", "--where", "filename = /nothing/is/named/like/this", stdout=write)
    finally:
        os.close(write)
        os.close(read)
    assert watching.process.wait(20) == 0
    assert "Traceback" not in watching.errors


def flood(brief: Path, path: Path) -> int:
    """Open a file as fast as can be; how often."""
    done = subprocess.run([str(brief), "flood", str(path), str(FLOOD_MS)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.serial
def test_in_a_flood_with_a_slow_reader_what_is_printed_and_what_is_lost_add_up(
    look: Start, brief: Path, tmp_path: Path
) -> None:
    read, write = os.pipe()
    with os.fdopen(read) as reader:
        watching = look(
            "open", "--command", "brief", "--where", f"filename = {tmp_path}/f", "--json",
            config="trace_queue = 4096\n", stdout=write,
        )  # fmt: skip
        os.close(write)
        made = flood(brief, tmp_path / "f")  # nobody reads meanwhile
        watching.process.send_signal(signal.SIGINT)
        began = time.monotonic()
        printed = sum(line.endswith("}\n") for line in reader)
        assert watching.process.wait(20) == 130
        took_s = time.monotonic() - began
    print(f"{made} opens, {printed} printed, {watching.lost()} lost, ended in {took_s:.2f} s: {watching.errors}")
    assert printed + watching.lost() == made
    assert 0 < printed < made


@pytest.mark.serial
def test_a_reader_who_never_reads_does_not_keep_it_from_ending(look: Start, brief: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    watching = look("open", "--where", f"filename = {tmp_path}/f", "--json", stdout=write)
    os.close(write)
    made = flood(brief, tmp_path / "f")
    assert watching.end() == 130
    print(f"ended in {watching.took_s:.2f} s")
    assert watching.took_s < 3
    with os.fdopen(read) as reader:
        printed = sum(line.endswith("}\n") for line in reader)
    assert printed + watching.lost() == made
