"""Takes responses back after a while, also after a restart of the daemon."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bpfd.alert import event_from
from bpfd.background import Background
from bpfd.complaints import describe
from bpfd.errors import TargetGoneError
from bpfd.event import Event
from bpfd.guard import entry_of
from bpfd.ledger import Entry
from bpfd.plugin import Action

FILE = "undo.json"
MOST = 10_000
_AGAIN_S = 10.0
_GIVE_UP_S = 86400.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Due:
    """One response to take back. Times are nanoseconds of the wall clock."""

    due_ns: int
    until_ns: int
    """When it is given up."""
    action: str
    event: Event


class Undoer(Background):
    """Holds what is to be taken back, on disk, and does it on a thread of its own.

    `start` it once the actions run; what is not due at `stop` is taken back after the next start.

    `later` may be called from any thread and waits for the disk. What fails is tried again every 10 s for a day.
    """

    def __init__(
        self,
        directory: Path,
        find: Callable[[str], Action | None],
        write: Callable[[Entry], None] = lambda entry: None,
    ) -> None:
        """`find` gives the running action instance of a name; it is asked from `start` on. `write` gets for the ledger
        what became of each.
        """
        super().__init__("undo")
        self._path = directory / FILE
        self._find = find
        self._write = write
        self._due = self._read()
        self._held: set[int] = set()
        """The ids of those that are being done now."""

    @contextmanager
    def around(self, action: str, event: Event, after_s: float) -> Iterator[None]:
        """Let the instance `action` take back, in `after_s` seconds, what it does on `event` inside the block.

        It is noted before: a crash in between must not leave it done for ever. Nothing is taken back if the block
        raises, nor before it ends.
        """
        due = self.later(action, event, after_s, held=True)
        try:
            yield
        except BaseException:
            self._forget(due)
            raise
        with self._changed:
            self._held.discard(id(due))
            self._changed.notify()

    def later(self, action: str, event: Event, after_s: float, held: bool = False) -> _Due:
        """Let the instance `action` take back what it did on `event`, in `after_s` seconds.

        `held`: not before `around` ends.
        """
        due_ns = time.time_ns() + int(after_s * 1e9)
        due = _Due(due_ns, due_ns + int(_GIVE_UP_S * 1e9), action, event)
        with self._changed:
            if len(self._due) >= MOST:
                log.error("undo: %d responses wait to be taken back; this one of %s is left as it is", MOST, action)
                return due
            self._due.append(due)
            if held:
                self._held.add(id(due))
            self._save()
            self._changed.notify()
        return due

    def _forget(self, due: _Due) -> None:
        with self._changed:
            self._held.discard(id(due))
            self._due = [other for other in self._due if other is not due]
            self._save()

    def waiting(self) -> int:
        """How many responses are to be taken back."""
        with self._changed:
            return len(self._due)

    def _work(self) -> None:
        while True:
            with self._changed:
                now_ns = time.time_ns()
                ready = [due for due in self._due if due.due_ns <= now_ns and id(due) not in self._held]
                if self._stopping:
                    return
                if not ready:
                    self._changed.wait(self._wait_s(now_ns))
                    continue
            for due in ready:
                self._settle(due, self._undo(due))

    def _wait_s(self, now_ns: int) -> float | None:
        """How long nothing is due; never more than a little, for the wall clock may be set."""
        waits = [(due.due_ns - now_ns) / 1e9 for due in self._due if id(due) not in self._held]
        return min([_AGAIN_S, *waits]) if waits else None

    def _undo(self, due: _Due) -> bool:
        """Take it back; whether that is settled."""
        try:
            action = self._find(due.action)
            if action is None:
                raise LookupError("the configuration has no such action any more")
            if action.acts_on == "container" and self._is_renewed(due):
                return True
            action.undo(due.event)
        except TargetGoneError as error:
            self._note(due, "gone", describe(error))
        except Exception as error:  # a stranger's code
            late = time.time_ns() - due.until_ns > 0
            log.error("undo: action %s: %s%s", due.action, describe(error), "; given up" if late else "")
            if late:
                self._note(due, "failed", f"not taken back: {describe(error)}")
            return late
        else:
            self._note(due, "undone", "its time was over")
        return True

    def _is_renewed(self, due: _Due) -> bool:
        """Whether the same was done to the container once more meanwhile: then it is taken back when that is over."""
        with self._changed:
            return any(
                one.action == due.action and one.event.container.id == due.event.container.id
                for one in self._due
                if one.due_ns > due.due_ns and id(one) not in self._held
            )

    def _note(self, due: _Due, result: str, detail: str) -> None:
        self._write(entry_of(due.action, due.event, result, detail))

    def _settle(self, due: _Due, settled: bool) -> None:
        with self._changed:
            self._due = [other for other in self._due if other is not due]
            if not settled:
                again_ns = time.time_ns() + int(_AGAIN_S * 1e9)
                self._due.append(_Due(again_ns, due.until_ns, due.action, due.event))
            self._save()

    def _save(self) -> None:
        half = self._path.with_suffix(".part")
        rows = [
            {"due": d.due_ns, "until": d.until_ns, "action": d.action, "event": d.event.as_dict()} for d in self._due
        ]
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps(rows))
                file.flush()
                os.fsync(descriptor)
            half.replace(self._path)
        except OSError as error:
            log.error(
                "%s: cannot be written: %s; a restart would forget what is to be undone", self._path, error.strerror
            )

    def _read(self) -> list[_Due]:
        try:
            rows = orjson.loads(self._path.read_bytes())
            return [_due(row) for row in rows][:MOST]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("%s: cannot be read: %s; nothing of it is undone", self._path, type(error).__name__)
            return []


def _due(row: Mapping[str, Any]) -> _Due:
    return _Due(int(row["due"]), int(row["until"]), str(row["action"]), event_from(row["event"]))
