"""In a flood what was received and what was lost add up to what happened, and the daemon still listens."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.api.address import parse_address
from bpfd.api.client import Client
from bpfd.errors import ApiError
from tests.daemon.running import RunningDaemon, open_rule, until

pytestmark = pytest.mark.serial
FLOOD_MS = 1200


def counts(daemon: RunningDaemon) -> tuple[int, int]:
    """What the daemon says that it received and lost."""
    tracer = daemon.tracer("open")
    assert daemon.json("status")["counters"]["tracer.open.lost"] >= tracer["lost"]
    return tracer["received"], tracer["lost"]


def run_brief(brief: Path, *words: str) -> int:
    """Open a file on the second processor; how often."""
    done = subprocess.run(["taskset", "-c", "1", str(brief), *words], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.parametrize("ring_bytes", [16384, 0], ids=["a small ring", "the default ring"])
def test_received_and_lost_add_up_to_the_event(
    daemon: RunningDaemon, brief: Path, tmp_path: Path, ring_bytes: int
) -> None:
    daemon.write_rule("all", open_rule(f"{tmp_path}/flooded"))
    daemon.start(config=f"ring_bytes = {ring_bytes}\n")
    before = counts(daemon)
    made = run_brief(brief, "flood", f"{tmp_path}/flooded", str(FLOOD_MS))
    until(lambda: sum(counts(daemon)) - sum(before) >= made, lambda: (made, before, counts(daemon)))
    received, lost = (now - then for now, then in zip(counts(daemon), before, strict=True))
    print(f"ring of {ring_bytes}: {made} opens in {FLOOD_MS} ms, {received} received, {lost} lost")
    assert received + lost == made
    assert lost > 0 or not ring_bytes
    assert daemon.rule("all")["matched"] == received

    def acted() -> tuple[int, int]:
        table = daemon.json("status")["counters"]
        return table["action.stdout.done"], table.get("action.stdout.dropped", 0)

    until(lambda: sum(acted()) == received, lambda: (acted(), received), 30)
    assert (daemon.place / "stdout").read_bytes().count(b"\n") == acted()[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_time_during_a_flood(daemon: RunningDaemon, brief: Path, tmp_path: Path, number: int) -> None:
    daemon.write_rule("all", open_rule(f"{tmp_path}/flooded"))
    daemon.start()
    flooding = subprocess.Popen(
        ["taskset", "-c", "1", str(brief), "flood", f"{tmp_path}/flooded", "30000"], stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: daemon.rule("all")["matched"] > 10_000, lambda: daemon.log)
        daemon.stop(number)
        assert flooding.poll() is None
    finally:
        flooding.kill()
        flooding.wait()


class Following(threading.Thread):
    """A client of the live trace that counts; it reads while `gate` is set."""

    def __init__(self, daemon: RunningDaemon) -> None:
        super().__init__()
        self._client = Client(parse_address(daemon.address))
        self._follows = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.events = self.lost = 0

    def run(self) -> None:
        with contextlib.suppress(ApiError):  # how it ends, when the client is closed
            for events, lost in self._client.live_trace(on_start=self._follows.set):
                self.events += len(events)
                self.lost += lost
                self.gate.wait()

    @contextlib.contextmanager
    def following(self) -> Iterator[Following]:
        self.start()
        try:
            assert self._follows.wait(10)
            yield self
        finally:
            self.gate.set()
            self._client.close()
            self.join(10)


def test_a_slow_client_loses_its_own_events_only_and_is_told_how_many(
    daemon: RunningDaemon, brief: Path, tmp_path: Path
) -> None:
    rounds, each = 25, 4000
    daemon.write_rule("all", open_rule(f"{tmp_path}/paced", more='mode = "observe"'))
    daemon.start(config="trace_queue = 8192\n")
    with Following(daemon).following() as fast, Following(daemon).following() as slow:
        slow.gate.clear()
        for number in range(1, rounds + 1):
            assert run_brief(brief, "open", f"{tmp_path}/paced", str(each)) == each
            until(lambda n=number: fast.events + fast.lost >= n * each, lambda: (fast.events, fast.lost))
        assert (fast.events, fast.lost) == (rounds * each, 0)
        slow.gate.set()
        until(lambda: slow.events + slow.lost >= rounds * each, lambda: (slow.events, slow.lost))
        print(f"slow client: {slow.events} events, {slow.lost} lost")
        assert slow.events + slow.lost == rounds * each
        assert slow.lost > 0
        assert daemon.json("status")["counters"]["trace.slow_client"] == slow.lost
