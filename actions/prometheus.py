"""prometheus: counts matches for Prometheus."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bpfd import options
from bpfd.actions.endpoint import Endpoint
from bpfd.complaints import Complaints
from bpfd.errors import ActionError
from bpfd.event import Event, utf8
from bpfd.plugin import Action
from bpfd.version import VERSION

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

LISTEN = "127.0.0.1:9436"
MOST_SERIES = 2000
"""How many rules, with tracer and severity, are told apart; the matches of more are counted together."""
Series = tuple[str, str, str]
OTHERS: Series = ("(others)", "", "")
LABELS = ("rule", "tracer", "severity")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")


class Prometheus(Action):
    """Count the matches of each rule for Prometheus, at an HTTP endpoint or in a file for node_exporter.

    Beside `bpfd_matches_total{rule, tracer, severity}` there is the time of the last match,
    `bpfd_last_match_timestamp_seconds`, which tells the first one too: a counter that begins at 1 has not increased for
    Prometheus. The daemon's own counters, its losses among them, are `bpfd_counter_total{counter}`, with the names of
    `bpfd status`. Labels hold
    nothing that a process says.
    """

    name = "prometheus"
    durable = False
    settings = {
        "listen": f"the address of the endpoint, whose page is /metrics; {LISTEN}, or none if there is a textfile",
        "textfile": "a file that ends in .prom, for node_exporter's textfile collector; left out: none is written",
        "every": "how often the textfile is written; 15s",
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._listen = options.text(settings, "listen", "" if "textfile" in settings else LISTEN)
        self._host, self._port = _address(self._listen) if self._listen else ("", 0)
        self._textfile = options.text(settings, "textfile") if "textfile" in settings else ""
        if self._textfile and not (self._textfile.startswith("/") and self._textfile.endswith(".prom")):
            raise ActionError("textfile: must be an absolute path that ends in .prom: node_exporter reads no others")
        self._every_s = options.seconds(settings, "every", 15, 1, 3600)
        self._matches: Counter[Series] = Counter()
        self._last_ns: dict[Series, int] = {}
        self._lock = threading.Lock()
        self._counters: Callable[[], Mapping[str, int]] = dict
        self._registry: CollectorRegistry | None = None
        self._endpoint: Endpoint | None = None
        self._stop = threading.Event()
        self._writer: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port of the endpoint while there is one; 0: there is none."""
        return 0 if self._endpoint is None else self._endpoint.port

    def begin(self, counters: Callable[[], Mapping[str, int]]) -> None:
        """Open the endpoint, and write the file for the first time. Raises `ActionError`, naming the key."""
        from prometheus_client import CollectorRegistry, ProcessCollector  # 14 MB, for those who use it

        self._counters = counters
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        if self._listen:
            try:
                self._endpoint = Endpoint(self._host, self._port, self._render)
            except OSError as error:
                reason = (error.strerror or "").partition(" (")[0]  # Python adds the address
                raise ActionError(f"listen: {self._listen} cannot be had: {reason}") from None
        if self._textfile:
            try:
                self._write()
            except OSError as error:
                raise ActionError(f"textfile: cannot be written: {error.strerror}") from None
            self._writer = threading.Thread(target=self._keep_writing, name="metrics-file", daemon=True)
            self._writer.start()

    def act(self, event: Event) -> None:
        """Count one event."""
        self.act_on_batch([event])

    def act_on_batch(self, events: list[Event]) -> None:
        """Count `events`."""
        severity = {rule: self.severity_of(rule) for rule in {event.rule for event in events}}
        added = Counter((event.rule, event.tracer, severity[event.rule]) for event in events)
        last_ns = {(event.rule, event.tracer, severity[event.rule]): event.time for event in events}
        with self._lock:
            for series, count in added.items():
                known = series in self._matches or len(self._matches) < MOST_SERIES
                kept = series if known else OTHERS
                self._matches[kept] += count
                self._last_ns[kept] = max(self._last_ns.get(kept, 0), last_ns[series])

    def close(self) -> None:
        """Close the endpoint, and write the file for the last time."""
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None
        if self._writer is not None:
            self._stop.set()
            self._writer.join()
            self._writer = None

    def describe(self) -> list[Metric]:
        """Nothing: the registry asks, so as not to call `collect` for the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What there is to say now; called by the registry, on any thread."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        with self._lock:
            matches, last_ns = dict(self._matches), dict(self._last_ns)
        yield InfoMetricFamily("bpfd_build", "The daemon.", {"version": VERSION})
        family = CounterMetricFamily("bpfd_matches", "Events that matched.", labels=LABELS)
        for series, count in sorted(matches.items()):
            family.add_metric([utf8(label) for label in series], count)
        yield family
        last = GaugeMetricFamily("bpfd_last_match_timestamp_seconds", "When the last matched.", labels=LABELS)
        for series, time_ns in sorted(last_ns.items()):
            last.add_metric([utf8(label) for label in series], time_ns / 1e9)
        yield last
        family = CounterMetricFamily("bpfd_counter", "The daemon's counters, as in bpfd status.", labels=["counter"])
        for name, count in self._counters().items():
            family.add_metric([utf8(name)], count)
        yield family

    def _render(self) -> bytes:
        from prometheus_client import generate_latest

        assert self._registry is not None
        return generate_latest(self._registry)

    def _keep_writing(self) -> None:
        complaints = Complaints(self.name)
        ended = False
        while not ended:
            ended = self._stop.wait(self._every_s)
            try:
                self._write()
            except OSError as error:
                complaints.add(ActionError(f"{self._textfile}: cannot be written: {error.strerror}"))
            except Exception as error:  # where the figures come from is others' code
                complaints.add(error)

    def _write(self) -> None:
        """Put a new file in the place of the old one at once; whoever may write beside it can't lead us astray."""
        path = Path(self._textfile)
        half = path.with_name(f".{path.name}.{os.getpid()}")
        half.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(half, flags, 0o644), "wb") as file:
                file.write(self._render())
            half.replace(path)
        except BaseException:
            half.unlink(missing_ok=True)
            raise


def _address(text: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found[2]) > 65535:
        raise ActionError(f'listen: must be ADDRESS:PORT, such as "{LISTEN}" or "[::1]:9436"')
    return found[1].strip("[]"), int(found[2])
