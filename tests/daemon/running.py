"""A real `bpfd daemon`, run as a user does, with directories and an address of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

PROGRAM = str(Path(sys.executable).with_name("bpfd"))
START_S = 60.0
STOP_S = 5.0
"""What the daemon promises."""

T = TypeVar("T")
JsonEvent = dict[str, Any]


def until(found: Callable[[], T], what: Callable[[], object], within_s: float = 30.0) -> T:
    """Ask `found` until it answers with something true; fail with `what` after `within_s`."""
    deadline = time.monotonic() + within_s
    while not (answer := found()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.01)
    return answer


class Lines:
    """The JSON lines of a file that somebody is writing. A line that is no JSON object fails the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self._file = path.open("rb")
        self._rest = b""
        self.events: list[JsonEvent] = []

    def read(self) -> list[JsonEvent]:
        """All events so far."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            event = json.loads(line)
            assert isinstance(event, dict), line
            self.events.append(event)
        return self.events

    def wait_for(self, wanted: Callable[[JsonEvent], bool], count: int = 1, within_s: float = 30.0) -> list[JsonEvent]:
        """At least `count` events that are `wanted`, oldest first."""

        def found() -> list[JsonEvent]:
            events = [event for event in self.read() if wanted(event)]
            return events if len(events) >= count else []

        return until(found, lambda: f"fewer than {count} such events; the last: {self.events[-5:]}", within_s)

    def close(self) -> None:
        self._file.close()


class Follower:
    """A command that prints an event a line, as JSON."""

    def __init__(self, words: list[str], path: Path, env: Mapping[str, str] | None = None) -> None:
        """Returns once it says that it follows."""
        with path.open("wb") as stdout, path.with_suffix(".err").open("wb") as stderr:
            self.process = subprocess.Popen(words, stdout=stdout, stderr=stderr, env={**os.environ, **(env or {})})
        self.lines = Lines(path)
        errors = path.with_suffix(".err")
        until(lambda: "following" in errors.read_text(), lambda: (words, self.process.poll(), errors.read_text()))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.lines.close()


class RunningDaemon:
    """`start` it, as often as you like; `close` ends all that it and the test started here."""

    def __init__(self, place: Path, cache_dir: Path) -> None:
        self.place = place
        self.rules_dir, self.state_dir, self.cache_dir = place / "rules", place / "state", cache_dir
        self.socket = place / "s"
        self.address = f"unix://{self.socket}"
        self.rules_dir.mkdir()
        self._stdout, self._stderr = place / "stdout", place / "stderr"
        self._stderr.touch()
        self.lines = Lines(self._stdout)
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {"DOCKER_HOST": f"unix://{place}/no-docker.sock"}
        """What it has in its environment beside the tests' own."""
        self.wrapper: list[str] = []
        """A program that executes it."""
        self._followers: list[Follower] = []

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        """All that it said on stderr."""
        return self._stderr.read_text()

    def write_rule(self, name: str, text: str) -> Path:
        """Put a file into the rules directory."""
        path = self.rules_dir / f"{name}.toml"
        path.write_text(text)
        return path

    def start(self, *flags: str, config: str = "", within_s: float = START_S, **options: Any) -> RunningDaemon:
        """Start it and wait until it is ready. `config` are more lines of its configuration."""
        said = len(self.log)
        self.launch(*flags, config=config, **options)

        def ready() -> bool:
            assert self.process is not None
            if (status := self.process.poll()) is not None:
                self.process = None
                raise AssertionError(f"it ended with {status}: {self.log[said:]}")
            return "bpfd: ready" in self.log[said:]

        until(ready, lambda: f"it is not ready: {self.log[said:]}", within_s)
        return self

    def fail_to_start(self, *flags: str, config: str = "", **options: Any) -> list[str]:
        """Start it, which must fail with status 1: the lines that it says."""
        said = len(self.log)
        self.launch(*flags, config=config, **options)
        assert self.process is not None
        status = self.process.wait(START_S)
        self.process = None
        assert status == 1, self.log[said:]
        return self.log[said:].splitlines()

    def launch(self, *flags: str, config: str = "", **options: Any) -> None:
        """Start it and wait for nothing."""
        assert self.process is None
        settings = {
            "state_dir": self.state_dir,
            "cache_dir": self.cache_dir,
            "rules_dir": self.rules_dir,
            "grpc_addr": self.address,
        }
        given = [f'{key} = "{value}"\n' for key, value in settings.items() if not re.search(f"(?m)^{key} =", config)]
        path = self.place / "bpfd.toml"
        path.write_text("".join(given) + config)
        environment = {**os.environ, **self.environment}
        with self._stdout.open("ab") as stdout, self._stderr.open("ab") as stderr:
            options = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": stderr, "env": environment, **options}
            words = [*self.wrapper, PROGRAM, "daemon", "--config", str(path), *flags]
            self.process = subprocess.Popen(words, **options)

    def stop(self, number: int = signal.SIGTERM) -> str:
        """End it with a signal, and see that it ends in time and in order; what it said meanwhile.

        A test that has the machine for itself holds it to what it promises.
        """
        assert self.process is not None
        said = len(self.log)
        alone = "PYTEST_XDIST_WORKER" not in os.environ
        began = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(6 * STOP_S)
        took_s = time.monotonic() - began
        self.process = None
        in_time = took_s < (STOP_S if alone else 3 * STOP_S)
        assert (status, in_time) == (0, True), f"status {status} after {took_s:.1f} s: {self.log[said:]}"
        return self.log[said:]

    def kill(self) -> None:
        """End it as nobody should."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def close(self) -> None:
        """End everything, and see that the daemon ends in order."""
        self.end_followers()
        try:
            if self.process is not None:
                assert self.process.poll() is None, f"it ended by itself with {self.process.returncode}: {self.log}"
                self.stop()
        finally:
            if self.process is not None:
                self.kill()
            self.lines.close()

    def bpfd(self, *words: str, code: int = 0) -> str:
        """Run a command against it; what it printed: stdout, or stderr if it had to fail."""
        words = (PROGRAM, *words, "--grpc-addr", self.address)
        result = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert result.returncode == code, (result, self.log)
        return result.stderr if code else result.stdout

    def json(self, *words: str) -> Any:
        """What a command says with `--json`."""
        return json.loads(self.bpfd(*words, "--json"))

    def create(self, name: str, text: str, *flags: str) -> None:
        """Give it a rule, as a user does."""
        path = self.place / f"{name}.toml"
        path.write_text(text)
        self.bpfd("create", str(path), *flags)

    def tracer(self, name: str) -> dict[str, Any]:
        """How one tracer fares."""
        return next(one for one in self.json("status")["tracers"] if one["name"] == name)

    def rule(self, name: str) -> dict[str, Any]:
        """How one rule fares."""
        return next(one for one in self.json("ls") if one["name"] == name)

    def follow(self, words: list[str], env: Mapping[str, str] | None = None) -> Lines:
        """Run a command that prints events until the test ends; returns once it follows."""
        follower = Follower(words, Path(tempfile.mkdtemp(prefix="follower-", dir=self.place)) / "events", env)
        self._followers.append(follower)
        return follower.lines

    def end_followers(self) -> None:
        for follower in self._followers:
            follower.close()
        self._followers.clear()

    def trace(self, *flags: str) -> Lines:
        """`bpfd trace --json`, until the test ends."""
        return self.follow([PROGRAM, "trace", "--json", "--grpc-addr", self.address, *flags])

    def wait_for(self, wanted: Callable[[JsonEvent], bool], count: int = 1, within_s: float = 30.0) -> list[JsonEvent]:
        """At least `count` events on stdout that are `wanted`."""
        return self.lines.wait_for(wanted, count, within_s)

    def events(self, rule: str, sentinel: JsonEvent) -> list[JsonEvent]:
        """The events of `rule` before `sentinel`, which came from the same tracer."""
        events = self.lines.read()
        return [event for event in events[: events.index(sentinel)] if event["rule"] == rule]


def opened(path: Path | str) -> Callable[[JsonEvent], bool]:
    """Whether an event is the opening of `path`, as its program named it."""
    return lambda event: event["tracer"] == "open" and event["data"]["filename"] == str(path)


def open_rule(text: str, *, actions: str = "", more: str = "") -> str:
    """A rule for files whose name contains `text`."""
    chosen = f"actions = [{actions}]\n" if actions else ""
    return f'tracer = "open"\n{chosen}{more}\n[filterEvents.filename]\nvalues = ["{text}"]\n'
