"""The ledger: every response, what came of it, and why."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

FILE = "ledger.jsonl"
_MAX_BYTES = 16 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One response."""

    time_ns: int
    """When it was carried out or not, wall clock."""
    action: str
    rule: str
    target: str
    """The process or container, in words."""
    result: str
    """`done`, `gone`, `refused`, `withheld`, `expired` or `failed`; `undone` where it was taken back."""
    detail: str
    event: Mapping[str, Any]
    """The event in its JSON form."""


class Ledger:
    """Lines of JSON in a file that is rotated once, so that it is bounded. Any thread; a write waits for the disk."""

    def __init__(self, directory: Path, max_bytes: int = _MAX_BYTES) -> None:
        """Keep the ledger in `directory`, which is made at the first write."""
        self._path = directory / FILE
        self._older = directory / f"{FILE}.1"
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._problem = ""

    def write(self, entry: Entry) -> None:
        """Add `entry`. A disk that does not take it is logged: a response is never held up by its bookkeeping."""
        text = orjson.dumps(asdict(entry)) + b"\n"
        with self._lock:
            try:
                self._append(text)
                self._problem = ""
            except OSError as error:
                problem = f"{self._path}: cannot be written: {error.strerror}"
                if problem != self._problem:
                    log.error("%s", problem)
                self._problem = problem

    def read(self, limit: int) -> list[Entry]:
        """The newest entries, at most `limit`, the oldest of them first. What is no entry is left out."""
        found: deque[Entry] = deque(maxlen=limit)
        with self._lock:
            for path in (self._older, self._path):
                try:
                    with path.open("rb") as file:
                        found.extend(entry for row in file if (entry := _entry(row)) is not None)
                except FileNotFoundError:
                    continue
        return list(found)

    def _append(self, text: bytes) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if os.write(descriptor, text) != len(text):
                os.ftruncate(descriptor, size)
                raise OSError(28, os.strerror(28))
        finally:
            os.close(descriptor)
        if size + len(text) > self._max_bytes:
            self._path.replace(self._older)


def _entry(row: bytes) -> Entry | None:
    try:
        return Entry(**orjson.loads(row))
    except (orjson.JSONDecodeError, TypeError):
        return None
