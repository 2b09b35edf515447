"""What the daemon takes: events a second, time to the action, memory, start, changes of rules."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bpfd.api.address import parse_address
from bpfd.api.client import connect
from tests.bench.machine import LOAD_CPU, OTHER_CPU, SHORT, load_program, never_rules
from tests.bench.table import Table
from tests.daemon.running import RunningDaemon

RULE = 'tracer = "open"\n{more}[filterEvents.filename]\nprefix = ["{name}"]\n'
CATALOGUE = 'name = "{name}"\ntracer = "open"\n[filterEvents.filename]\nvalues = ["{value}"]\n'


@contextlib.contextmanager
def running(cache: Path, rules: dict[str, str], **options: object) -> Iterator[RunningDaemon]:
    with tempfile.TemporaryDirectory(prefix="bpfd-bench-") as folder:
        daemon = RunningDaemon(Path(folder), cache)
        try:
            for name, text in rules.items():
                daemon.write_rule(name, text)
            yield daemon.start(**options)
        finally:
            daemon.close()


def measure(table: Table) -> None:
    with tempfile.TemporaryDirectory(prefix="bpfd-bench-") as folder, load_program() as load:
        cache = Path(folder)
        start(table, cache)
        events_per_second(table, cache, load)
        time_to_action(table, cache, load)
        rule_changes(table, cache)


def start(table: Table, cache: Path) -> None:
    table.section("The daemon")
    rules = {
        "open": RULE.format(name="/never/", more=""),
        "exec": 'tracer = "exec"\n[filterEvents.command]\nis = ["no"]\n',
    }
    times = []
    resident = ""
    for attempt in range(6):
        began = time.monotonic()
        with running(cache, rules) as daemon:
            times.append(time.monotonic() - began)
            status = Path(f"/proc/{daemon.pid}/status").read_text()
        if attempt == 0:
            table.row("start to ready, first time on a kernel", f"{times.pop():.2f} s")
        resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    ready = statistics.median(times)
    mib = int(resident.split()[1]) / 1024
    table.row("start to ready, exec and open", f"{ready:.2f} s", "< 3 s", ready < 3)
    table.row("resident memory", f"{mib:.1f} MiB", "< 64 MiB", mib < 64)


def events_per_second(table: Table, cache: Path, load: Path) -> None:
    table.section("Matched events a second, with none lost (a paced load on the other core, 3 s each)")
    for name, more in (("matched, reported, no action", 'mode = "observe"\n'), ("printed as JSON by stdout", "")):
        best = 0
        for rate in (25_000, 50_000, 75_000, 100_000, 125_000, 150_000, 200_000):
            with running(cache, {"all": RULE.format(name=SHORT, more=more)}) as daemon:
                words = ["taskset", "-c", LOAD_CPU, str(load), "pace", SHORT, str(rate), "3000"]
                made = int(subprocess.run(words, check=True, capture_output=True).stdout)
                time.sleep(0.5)
                lost = daemon.tracer("open")["lost"]
                dropped = daemon.json("status")["counters"].get("action.stdout.dropped", 0)
            if lost or dropped or made < rate * 3 * 0.98:
                break
            best = rate
        target = ("100,000 /s", best >= 100_000) if more else ("", None)
        table.row(name, f"{best:,} /s", *target)


class Arrivals:
    """Reads the daemon's stdout and notes when each line came."""

    def __init__(self, fd: int) -> None:
        self.late_ns: list[int] = []
        self._file = os.fdopen(fd, "rb")
        self._thread = threading.Thread(target=self._read, name="arrivals")
        self._thread.start()

    def _read(self) -> None:
        for line in self._file:
            now = time.time_ns()
            name = json.loads(line)["data"]["filename"]
            self.late_ns.append(now - int(name.rsplit("/", 1)[1]))

    def join(self) -> None:
        self._thread.join()
        self._file.close()


def time_to_action(table: Table, cache: Path, load: Path) -> None:
    table.section("From open() to the action's line on stdout")
    catalogue = {
        f"n{number}": CATALOGUE.format(name=f"n{number}", value=value)
        for number, value in enumerate(never_rules(10_000))
    }
    quiet = latencies(cache, load, {}, flood=False, count=2000, apart_us=500)
    p99 = percentile(quiet, 99)
    table.row("idle machine, p50", f"{percentile(quiet, 50):.2f} ms")
    table.row("idle machine, p99", f"{p99:.2f} ms", "< 10 ms", p99 < 10)
    flooded = latencies(cache, load, catalogue, flood=True, count=80, apart_us=20_000)
    p50 = percentile(flooded, 50)
    table.row(
        "80 opens in a flood, 10,000 rules loaded: reported", f"{len(flooded)} of 80", "80 of 80", len(flooded) == 80
    )
    table.row("80 opens in a flood, p50", f"{p50:.2f} ms", "< 1 ms", p50 < 1)


def latencies(cache: Path, load: Path, rules: dict[str, str], flood: bool, count: int, apart_us: int) -> list[int]:
    with tempfile.TemporaryDirectory(prefix="bpfd-watched-") as watched:
        reading, writing = os.pipe()
        all_rules = {**rules, "watched": RULE.format(name=f"{watched}/", more="")}
        with open(writing, "wb") as out, running(cache, all_rules, stdout=out) as daemon:
            out.close()
            arrivals = Arrivals(reading)
            busy = None
            if flood:
                words = ["taskset", "-c", LOAD_CPU, str(load), "loop", SHORT, "60000"]
                busy = subprocess.Popen(words, stdout=subprocess.DEVNULL)
            words = ["taskset", "-c", OTHER_CPU, str(load), "stamp", watched, str(count), str(apart_us)]
            subprocess.run(words, check=True, capture_output=True)
            time.sleep(0.5)
            if busy is not None:
                busy.send_signal(signal.SIGKILL)
                busy.wait()
            daemon.stop()
        arrivals.join()
    return arrivals.late_ns


def percentile(values: list[int], percent: int) -> float:
    """In milliseconds."""
    ordered = sorted(values) or [0]
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] / 1e6


def rule_changes(table: Table, cache: Path) -> None:
    table.section("Changes of rules, from the call to in force")
    values = never_rules(11_000)
    with running(cache, {}) as daemon, connect(parse_address(daemon.address)) as client:
        times = []
        for number, value in enumerate(values[:1000]):
            began = time.monotonic()
            client.create_rule(CATALOGUE.format(name=f"r{number}", value=value), "api", replace=False)
            times.append(time.monotonic() - began)
        median = statistics.median(times[-100:]) * 1000
        table.row("1 rule, 1,000 present", f"{median:.0f} ms", "<= 50 ms", median <= 50)
    with running(cache, {"one": RULE.format(name="/never/", more="")}) as daemon:
        new = daemon.rules_dir.with_name("new")
        new.mkdir()
        for number, value in enumerate(values[1000:]):
            (new / f"n{number}.toml").write_text(CATALOGUE.format(name=f"n{number}", value=value))
        daemon.rules_dir.rename(new.with_name("old"))
        new.rename(daemon.rules_dir)
        took = seconds_until_matched(daemon, values[-1])
        table.row("10,000 rules at once, a new directory", f"{took:.2f} s", "<= 1 s", took <= 1)
        with connect(parse_address(daemon.address)) as client:
            times = []
            for number in range(20):
                began = time.monotonic()
                client.create_rule(CATALOGUE.format(name=f"r{number}", value=values[number]), "api", replace=False)
                times.append(time.monotonic() - began)
        table.row("1 rule, 10,000 present", f"{statistics.median(times) * 1000:.0f} ms")


def seconds_until_matched(daemon: RunningDaemon, name: str) -> float:
    """How long it takes from now until opening `name` comes out as a match."""
    began = time.monotonic()
    while not daemon.lines.read() and time.monotonic() - began < 60:
        with contextlib.suppress(OSError):
            os.close(os.open(name, os.O_RDONLY))
        time.sleep(0.005)
    return time.monotonic() - began
