"""Sends what waits in the outbox for one notifying action, again and again until it arrives or is given up."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass

from bpfd.alert import Alert, from_json
from bpfd.complaints import Complaints, describe
from bpfd.counters import Counters
from bpfd.errors import RejectedError, RetryLaterError
from bpfd.outbox import Outbox
from bpfd.plugin import Action
from bpfd.spool import Letter

_TAKE = 8
"""How many alerts are sent before it is looked again whose turn it is."""
_IDLE_S = 30.0
_AGAIN_S = 1.0
_LONGEST_REST_S = 60.0
_LONGEST_WAIT_S = 3600.0
_PATIENCE = 3
"""After so many failures in a row the receiver is left alone for a while, whatever else waits for it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retry:
    """How stubborn a delivery is."""

    first_s: float = 1.0
    """The wait after the first failure; it doubles with each, up to `longest_s`, less a random part of its half."""
    longest_s: float = 600.0
    tries: int = 50
    keep_s: float = 86400.0
    """An alert older than this is given up."""

    def wait_s(self, failures: int, longest_s: float) -> float:
        """The wait after so many failures."""
        whole = min(longest_s, self.first_s * 2.0 ** min(failures - 1, 60))
        return whole * random.uniform(0.5, 1)  # noqa: S311 - spreads the load, guards no secret


class Delivery:
    """Delivers the alerts of one action instance on one thread, as the outbox has them take turns.

    Counts, as `action.NAME.…`: `done` (delivered), `retried` (tries that failed), `dead` (given up).
    """

    def __init__(self, name: str, action: Action, outbox: Outbox, counters: Counters, retry: Retry) -> None:
        self.name = name
        self._action = action
        self._outbox = outbox
        self._counters = counters
        self._retry = retry
        self._failures = 0
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._until_s: float | None = None
        self._complaints = Complaints(name)
        outbox.wake(name, self._wake.set)
        self._thread = threading.Thread(target=self._work, name=f"deliver-{name}", daemon=True)
        self._thread.start()

    def begin_stop(self, for_s: float = 0) -> None:
        """Tell the worker to end: at once, or when it has sent what is due, for at most `for_s` seconds.

        It ends at the first failure. What waits then is sent after the next start.
        """
        if for_s > 0 and not self._failures:
            self._until_s = time.monotonic() + for_s
        else:
            self._stop.set()
        self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """End; a receiver that hangs is left behind after `timeout_s`, its alert stays in the outbox."""
        if self._until_s is None:
            self.begin_stop()
        self._thread.join(timeout_s)
        self._stop.set()
        if self._thread.is_alive():
            log.warning("action %s: still sending after %.1f s; the alert is sent again later", self.name, timeout_s)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self._send_some()
            except Exception:
                log.exception("action %s: its alerts wait for a moment", self.name)
                self._stop.wait(_AGAIN_S)
        try:
            self._action.close()
        except Exception as error:
            self._complaints.add(error)
        self._complaints.flush()

    def _send_some(self) -> None:
        """Send a few that are due; or wait, if none is."""
        self._wake.clear()
        letters = self._outbox.take(self.name, _TAKE)
        for letter in letters:
            rest_s = self._try(letter)
            if self._until_s is not None and (self._failures or time.monotonic() > self._until_s):
                self._stop.set()
            if rest_s:
                self._stop.wait(rest_s)
                return
            if self._stop.is_set():
                return
        if letters:
            return
        if self._until_s is not None:
            self._stop.set()
            return
        due_s = self._outbox.next_due_s(self.name)
        self._wake.wait(_IDLE_S if due_s is None else min(due_s, _IDLE_S))

    def _try(self, letter: Letter) -> float:
        """Send one alert; how many seconds the receiver is to be left alone then."""
        stored = letter.stored
        try:
            alert = from_json(stored.body)
        except ValueError as error:
            return self._bury(letter, error)
        if time.time_ns() - stored.made_ns > self._retry.keep_s * 1e9:
            return self._bury(letter, TimeoutError(f"too old; {stored.problem or 'never tried'}"))
        return self._send(letter, alert)

    def _send(self, letter: Letter, alert: Alert) -> float:
        try:
            self._action.send(alert)
        except RejectedError as error:
            return self._bury(letter, error)
        except Exception as error:  # a stranger's code: whatever it raises means that the alert has not arrived
            self._complaints.add(error)
            return self._fail(letter, error)
        self._failures = 0
        self._count("done")
        self._outbox.done(letter)
        return 0

    def _fail(self, letter: Letter, error: Exception) -> float:
        self._count("retried")
        self._failures += 1
        tries = letter.stored.tries + 1
        asked_s = min(error.after_s, _LONGEST_WAIT_S) if isinstance(error, RetryLaterError) else 0.0
        if tries >= self._retry.tries:
            self._bury(letter, error)
        else:
            wait_s = max(asked_s, self._retry.wait_s(tries, self._retry.longest_s))
            self._outbox.postpone(letter, wait_s, describe(error))
        if asked_s or self._failures < _PATIENCE:
            return asked_s
        return self._retry.wait_s(self._failures - _PATIENCE + 1, _LONGEST_REST_S)

    def _bury(self, letter: Letter, error: Exception) -> float:
        self._complaints.add(error)
        self._count("dead")
        self._outbox.bury(letter, describe(error))
        return 0

    def _count(self, what: str) -> None:
        self._counters.add(f"action.{self.name}.{what}")
