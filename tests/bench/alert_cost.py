"""Alerts: how many a second go through the outbox, and what a receiver that hangs costs the event path."""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bpfd.actions.webhook import Webhook
from bpfd.api.address import parse_address
from bpfd.api.client import Client, connect
from bpfd.counters import Counters
from bpfd.delivery import Delivery, Retry
from bpfd.event import Event
from bpfd.outbox import Outbox
from bpfd.posting import Posting
from bpfd.telling import PLAIN
from tests.bench.machine import LOAD_CPU, SHORT, load_program
from tests.bench.table import Table
from tests.daemon.running import RunningDaemon

ALERTS = 10_000
BATCH = 1024
ROUNDS = 15
TURN_S = 1.0
SETTLE_S = 0.3
FLOOD = 'tracer = "open"\nmode = "observe"\n[filterEvents.filename]\nis = ["{name}"]\n'
ALERTING = 'name = "alerts"\ntracer = "open"\nrate = "1000/s"\n{more}\n[filterEvents.filename]\nprefix = ["{place}/"]\n'
CONFIG = """
[actions.good]
type = "slack"
webhook_env = "GOOD"
[actions.bad]
type = "slack"
webhook_env = "BAD"
"""
CASES = {"none": 'mode = "observe"', "answers": 'actions = ["good"]', "hangs": 'actions = ["bad"]'}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def measure(table: Table) -> None:
    outbox(table)
    with load_program() as load:
        hanging(table, load)


def outbox(table: Table) -> None:
    table.section(f"Alerts through the outbox on disk ({ALERTS:,} of them, one receiver on this machine)")
    kept, delivered = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory(prefix="bpfd-bench-") as place, receiver(OK) as url:
            stored_s, sent_s = through_the_outbox(Path(place), url)
        kept.append(ALERTS / stored_s)
        delivered.append(ALERTS / sent_s)
    rate = statistics.median(kept)
    table.row("made of events and kept, safe from a power failure", f"{rate:,.0f} /s", ">= 10,000 /s", rate >= 10_000)
    table.row("delivered by webhook, one connection an alert", f"{statistics.median(delivered):,.0f} /s")


def through_the_outbox(place: Path, url: str) -> tuple[float, float]:
    """How many seconds it took to keep all alerts, and to deliver them."""
    counters = Counters()
    box = Outbox(place, counters)
    posting = Posting(box, "a", lambda rule: PLAIN)
    event = Event(time.time_ns(), "open", 1, 1, 1, 0, 0, "cat", 0, {"filename": "/etc/shadow", "flags": "O_RDONLY"})
    began = time.monotonic()
    for first in range(0, ALERTS, BATCH):
        posting.act_on_batch([event] * min(BATCH, ALERTS - first))
    stored_s = time.monotonic() - began
    began = time.monotonic()
    delivery = Delivery("a", Webhook({"url": url}), box, counters, Retry())
    try:
        while counters.table().get("action.a.done", 0) < ALERTS:
            time.sleep(0.005)
        return stored_s, time.monotonic() - began
    finally:
        delivery.stop(5)
        box.close()


@contextlib.contextmanager
def receiver(answer: bytes) -> Iterator[str]:
    """Answers every request so; no bytes: takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        open_now: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                if not answer:
                    open_now.append(client)
                    continue
                with client, contextlib.suppress(OSError):
                    client.recv(1 << 16)
                    client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for client in open_now:
                client.close()


def hanging(table: Table, load: Path) -> None:
    """One daemon throughout; only whom its rule tells is changed from turn to turn. What else the machine does changes
    too: so turns are short, and each is compared with its neighbour of the same round."""
    table.section("The event path in a flood on the other core, beside 500 alerts a second")
    with contextlib.ExitStack() as stack:
        cache, folder = (Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bpfd-b-"))) for _ in range(2))
        daemon = RunningDaemon(folder, cache)
        stack.callback(daemon.close)
        for name, answer in (("GOOD", OK), ("BAD", b"")):
            daemon.environment[name] = stack.enter_context(receiver(answer))
        watched = folder / "watched"
        watched.mkdir()
        daemon.write_rule("flood", FLOOD.format(name=SHORT))
        daemon.start(config=CONFIG)
        for words in (["loop", SHORT, "600000"], ["stamp", str(watched), "1000000", "2000"]):
            loading = subprocess.Popen(["taskset", "-c", LOAD_CPU, str(load), *words], stdout=subprocess.DEVNULL)
            stack.callback(loading.wait)
            stack.callback(loading.kill)
        speeds: dict[str, list[float]] = {name: [] for name in CASES}
        client = stack.enter_context(connect(parse_address(daemon.address)))
        for number in range(ROUNDS):
            order = list(CASES) if number % 2 else list(reversed(CASES))
            for name in order:
                text = ALERTING.format(place=watched, more=CASES[name])
                client.create_rule(text, "bench", replace=True)
                speeds[name].append(events_per_second(client))
        bad = daemon.json("status")["counters"]
    kept = {
        name: statistics.median(one / none for one, none in zip(speeds[name], speeds["none"], strict=True))
        for name in CASES
    }
    table.row("nobody is told: events taken", f"{statistics.median(speeds['none']):,.0f} /s")
    table.row("Slack answers", f"{kept['answers']:.1%} of that")
    told = f"Slack hangs ({bad['action.bad.stored']:,} alerts wait)"
    table.row(told, f"{kept['hangs']:.1%} of that", "keeps 95 %", kept["hangs"] >= 0.95)


def events_per_second(client: Client) -> float:
    """How many events the daemon takes out of an endless flood."""
    time.sleep(SETTLE_S)
    before, began = taken(client)
    time.sleep(TURN_S)
    after, ended = taken(client)
    return (after - before) / (ended - began)


def taken(client: Client) -> tuple[int, float]:
    """How many events the tracer's ring has given so far, and when that was."""
    [tracer] = [one for one in client.status().tracers if one.name == "open"]
    return tracer.received, time.monotonic()
