"""Says what goes wrong with an action without flooding the log."""

from __future__ import annotations

import logging
import time

from bpfd.counted import counted
from bpfd.errors import BpfdError
from bpfd.event import printable

log = logging.getLogger(__name__)

_WINDOW_S = 60.0
_MOST = 5


class Complaints:
    """Logs an action's errors: each text once, and a few of them, in a minute; then how many there were. One thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logged: set[str] = set()
        self._since_s = 0.0
        self._silent = 0

    def add(self, error: Exception) -> None:
        if time.monotonic() - self._since_s > _WINDOW_S:
            self.flush()
        text = describe(error)
        if text in self._logged or len(self._logged) >= _MOST:
            self._silent += 1
            return
        self._logged.add(text)
        log.error("action %s: %s", self._name, text)

    def flush(self) -> None:
        """Tell what was kept back, and begin anew."""
        if self._silent:
            log.error("action %s: %s like these", self._name, counted(self._silent, "more error"))
        self._logged.clear()
        self._silent = 0
        self._since_s = time.monotonic()


def describe(error: Exception) -> str:
    """One line of `error`: its text if it was written for users, its type as well if not."""
    text = printable(str(error))
    if isinstance(error, BpfdError):
        return text
    return f"{type(error).__name__}: {text}"
