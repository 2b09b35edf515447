"""One table of everything that can be dropped, read by `status`, the log and the API alike."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Counters:
    """Named counts that only grow. `add` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._sources: dict[str, Callable[[], int]] = {}

    def add(self, name: str, count: int = 1) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + count

    def watch(self, name: str, source: Callable[[], int]) -> None:
        """Read `name` from `source` whenever the table is read; for counts that live in the kernel or in a queue."""
        with self._lock:
            self._sources[name] = source

    def unwatch(self, name: str) -> None:
        """Stop reading `name`; its last value stays in the table."""
        with self._lock:
            source = self._sources.pop(name, None)
            if source is not None:
                self._counts[name] = self._counts.get(name, 0) + source()

    def table(self) -> dict[str, int]:
        """Every counter by its name, sorted."""
        with self._lock:
            counts = dict(self._counts)
            sources = dict(self._sources)
        for name, source in sources.items():
            counts[name] = counts.get(name, 0) + source()
        return dict(sorted(counts.items()))
