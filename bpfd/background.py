"""A thread of its own for what has to be done later, or now and then."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class Background(ABC):
    """Does its `_work` on a thread. `start` it once; `stop` it as often as you like.

    `_work` waits on `_changed`, which is notified at the end too, and returns once `_stopping` is true.
    """

    def __init__(self, name: str) -> None:
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End; what is still at work after `timeout_s` is left to end by itself."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @abstractmethod
    def _work(self) -> None: ...
