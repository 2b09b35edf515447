"""Mutes: matches that nobody wants to hear of for a while."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from bpfd.errors import MuteError, MuteNotFoundError
from bpfd.event import Event, printable
from bpfd.rules import fields

FILE = "mutes.json"
MOST = 1000
_LONGEST_NS = 366 * 86400 * 10**9
_SAVE_S = 30.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Mute:
    """One mute. It ends by itself."""

    id: str
    rule: str
    where: Mapping[str, str]
    """Fields and the values that they must have, all of them; none: every match of the rule."""
    until_ns: int
    """When it ends, wall clock."""
    why: str
    made_ns: int
    hidden: int = 0
    """How many matches it hid."""

    def hides(self, event: Event) -> bool:
        """Whether `event`, a match of its rule, is hidden."""
        return all(fields.value(event, name) == wanted for name, wanted in self.where.items())


class Mutes:
    """The mutes of this daemon, kept over a restart.

    `passing` belongs to the event thread, the rest to the control plane.
    """

    def __init__(self, directory: Path) -> None:
        """Read what was kept in `directory`; a file that can't be read is reported, and then nothing is muted."""
        self._path = directory / FILE
        self._lock = threading.Lock()
        self._by_rule: dict[str, tuple[Mute, ...]] = {}
        self._saved_s = time.monotonic()
        self._swap(self._read())

    def passing(self, events: list[Event]) -> list[Event]:
        """Those of `events`, all of one rule, that no mute hides; the same list if that is all of them. Never waits."""
        if not self._by_rule or not events:
            return events
        mutes = self._by_rule.get(events[0].rule)
        if mutes is None:
            return events
        now_ns = time.time_ns()
        in_force = [mute for mute in mutes if mute.until_ns > now_ns]
        return [event for event in events if not _hidden(event, in_force)] if in_force else events

    def add(self, rule: str, where: Mapping[str, str], for_ns: int, why: str) -> Mute:
        """Mute `rule`, where the fields have these values, for a time. Raises `MuteError`."""
        if not why.strip():
            raise MuteError("why: is missing; say why, for those who wonder later")
        if not 0 < for_ns <= _LONGEST_NS:
            raise MuteError('for: must be a time of at most 366 days, such as "7d"')
        now_ns = time.time_ns()
        mute = Mute(secrets.token_hex(4), rule, dict(where), now_ns + for_ns, why, now_ns)
        with self._lock:
            mutes = self._lasting()
            if len(mutes) >= MOST:
                raise MuteError(f"there are {MOST} mutes already; end some of them")
            self._keep([*mutes, mute])
        return mute

    def remove(self, mute_id: str) -> Mute:
        """End a mute. Raises `MuteNotFoundError` if there is none of that id."""
        with self._lock:
            mutes = self._lasting()
            for mute in mutes:
                if mute.id == mute_id:
                    self._keep([other for other in mutes if other is not mute])
                    return mute
        raise MuteNotFoundError(f'there is no mute "{printable(mute_id)}"; bpfd mutes lists them')

    def in_force(self) -> list[Mute]:
        """The mutes in force, the oldest first."""
        with self._lock:
            if time.monotonic() - self._saved_s > _SAVE_S:
                self._save(self._lasting())
            return self._lasting()

    def close(self) -> None:
        """Keep the counts."""
        with self._lock:
            if self._by_rule:
                self._save(self._lasting())

    def _lasting(self) -> list[Mute]:
        now_ns = time.time_ns()
        mutes = [mute for mutes in self._by_rule.values() for mute in mutes if mute.until_ns > now_ns]
        return sorted(mutes, key=lambda mute: mute.made_ns)

    def _keep(self, mutes: list[Mute]) -> None:
        problem = self._save(mutes)
        if problem:
            raise MuteError(problem)
        self._swap(mutes)

    def _swap(self, mutes: Iterable[Mute]) -> None:
        by_rule: dict[str, tuple[Mute, ...]] = {}
        for mute in mutes:
            by_rule[mute.rule] = (*by_rule.get(mute.rule, ()), mute)
        self._by_rule = by_rule

    def _save(self, mutes: list[Mute]) -> str:
        """Write the file anew, whole or not at all; what went wrong."""
        self._saved_s = time.monotonic()
        half = self._path.with_suffix(".part")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps([asdict(mute) for mute in mutes], option=orjson.OPT_INDENT_2))
                file.flush()
                os.fsync(descriptor)
            half.replace(self._path)
        except OSError as error:
            problem = f"{self._path}: cannot be written: {error.strerror}"
            log.error("%s", problem)
            return problem
        return ""

    def _read(self) -> list[Mute]:
        try:
            with self._path.open("rb") as file:
                table = orjson.loads(file.read(16 << 20))
            return [_mute(item) for item in table][:MOST]
        except FileNotFoundError:
            return []
        except OSError as error:
            log.error("%s: cannot be read: %s; nothing is muted", self._path, error.strerror)
        except (orjson.JSONDecodeError, TypeError, ValueError, AttributeError) as error:
            log.error("%s: is damaged: %s; nothing is muted", self._path, error)
        return []


def _hidden(event: Event, mutes: Iterable[Mute]) -> bool:
    for mute in mutes:
        if mute.hides(event):
            mute.hidden += 1
            return True
    return False


def _mute(item: Any) -> Mute:
    mute = Mute(**item)
    texts = (mute.id, mute.rule, mute.why, *mute.where.keys(), *mute.where.values())
    numbers = (mute.until_ns, mute.made_ns, mute.hidden)
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        raise ValueError("a value has the wrong type")
    return mute
