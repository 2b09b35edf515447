"""Alerts that nobody will be told of by themselves: counted by severity, and reported."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping

from bpfd.counters import Counters
from bpfd.event import printable
from bpfd.rules.model import SEVERITIES

_SAY_S = 60.0

log = logging.getLogger(__name__)


class GivenUp:
    """Counts them as `alerts.given_up.SEVERITY`. Any thread; only `say` may wait, for whoever reads the log."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._lock = threading.Lock()
        self._said_s: dict[str, float] = {}
        self._unsaid: dict[str, Counter[str]] = {}

    def count(self, severities: Mapping[str, int]) -> None:
        """Count so many of each severity; somebody else says why."""
        for severity, count in severities.items():
            known = severity if severity in SEVERITIES else "notice"
            self._counters.add(f"alerts.given_up.{known}", count)

    def without_room(self, action: str, severities: Mapping[str, int]) -> None:
        """Count those for which `action` had no room or no time, as `action.NAME.dropped` too; `say` says it."""
        if not severities:
            return
        self.count(severities)
        self._counters.add(f"action.{action}.dropped", sum(severities.values()))
        with self._lock:
            self._unsaid.setdefault(action, Counter()).update(severities)

    def say(self, at_last: bool = False) -> None:
        """Log what was not said yet, at most once a minute for an action; `at_last`: at once."""
        if not self._unsaid:
            return
        now_s = time.monotonic()
        with self._lock:
            due = [name for name in self._unsaid if at_last or now_s - self._said_s.get(name, -_SAY_S) >= _SAY_S]
            lines = {name: self._unsaid.pop(name) for name in due}
            self._said_s.update(dict.fromkeys(due, now_s))
        for name, severities in lines.items():
            each = ", ".join(f"{severities[one]} {one}" for one in SEVERITIES if severities[one])
            log.error("action %s: alerts given up for lack of room: %s", printable(name), each)
