"""Alerts in an SQLite database until they are delivered or given up."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bpfd.alert import Alert

PAGE_BYTES = 4096
WAITS, DEAD, OPEN = 0, 1, 2
"""States: to be sent; given up; the summary of a window that has not ended yet."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS letter (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    action TEXT NOT NULL,
    rule TEXT NOT NULL,
    severity TEXT NOT NULL,
    turn INTEGER NOT NULL,
    body BLOB NOT NULL,
    made_ns INTEGER NOT NULL,
    due_ns INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    state INTEGER NOT NULL DEFAULT 0,
    problem TEXT NOT NULL DEFAULT '',
    window TEXT
);
CREATE INDEX IF NOT EXISTS letter_turn ON letter (action, state, turn, seq, due_ns);
CREATE INDEX IF NOT EXISTS letter_due ON letter (action, state, due_ns);
CREATE UNIQUE INDEX IF NOT EXISTS letter_window ON letter (window, action) WHERE window IS NOT NULL;
"""


class Stored(NamedTuple):
    """An alert in the store. Times are nanoseconds of the wall clock."""

    seq: int
    action: str
    rule: str
    severity: str
    turn: int
    body: bytes
    made_ns: int
    tries: int
    problem: str


_STORED = ", ".join(Stored._fields)


class Placed(NamedTuple):
    """An alert among those that wait, without what it says."""

    turn: int
    seq: int
    """Of one that is not in a store yet: its place among those that are new."""
    rule: str
    severity: str


RuleTurns = tuple[str, str, int, int | None]
"""Of what waits for an action by a rule: the highest turn, and the lowest of those that were never tried."""


class Store:
    """One database. Not thread-safe: whoever owns it holds a lock. Every method may raise `sqlite3.Error`.

    Nobody else can open it meanwhile: a second daemon that is started by mistake touches nothing. So it needs no shared
    memory either (https://www.sqlite.org/wal.html, "Use of WAL Without Shared-Memory"), through which whoever cuts that
    file short would end the process.

    Adding is safe against power failure when it returns (`synchronous=FULL` in WAL mode); the rest is safe against the
    end of this process only, and what power failure takes back is done again: an alert is sent twice, never not.
    """

    def __init__(self, path: Path | None, max_bytes: int) -> None:
        """Open or make the database at `path`; None: in memory. `close` gives it back."""
        if path is not None:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False, timeout=0.5)
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute(f"PRAGMA page_size={PAGE_BYTES}")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(f"PRAGMA max_page_count={max_bytes // PAGE_BYTES}")
            self._db.execute("PRAGMA journal_size_limit=4194304")
            if (answer := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(answer)
            self._db.executescript(_SCHEMA)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def add(self, action: str, alerts: Iterable[tuple[int, Alert]], windows: Iterable[Alert], now_ns: int) -> int:
        """Keep `alerts`, each with its turn, for `action`, and `windows`, summaries so far; all or none; how many.

        What was kept of the same windows before goes.
        """
        rows = [
            (action, one.event.rule, one.severity, turn, one.to_json(), now_ns, now_ns, state, window)
            for turn, one, state, window in (
                *((turn, one, WAITS, None) for turn, one in alerts),
                *((0, one, OPEN, one.id) for one in windows),
            )
        ]
        ended = [(one.id, action) for _, one in alerts if one.kind == "summary"]
        with self._transaction(durable=True):
            self._db.executemany("DELETE FROM letter WHERE window = ? AND action = ?", ended)
            self._db.executemany(
                "INSERT OR REPLACE INTO letter (action, rule, severity, turn, body, made_ns, due_ns, state, window)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
        return len(rows)

    def end_windows(self, now_ns: int) -> int:
        """Have what is kept of windows sent: the daemon that would have ended them has gone; how many."""
        with self._transaction(durable=True):
            return self._db.execute(
                "UPDATE letter SET state = ?, window = NULL, due_ns = ?, turn = coalesce((SELECT min(one.turn)"
                " FROM letter AS one WHERE one.action = letter.action AND one.state = ?), 0) WHERE state = ?",
                (WAITS, now_ns, WAITS, OPEN),
            ).rowcount

    def due(self, action: str, now_ns: int, horizon_ns: int, limit: int) -> list[Stored]:
        """What is to be sent now, in turn. Due beyond `horizon_ns` means that the clock was set back."""
        query = (
            f"SELECT {_STORED} FROM letter INDEXED BY letter_turn"  # noqa: S608 - our own names
            " WHERE action = ? AND state = 0 AND (due_ns <= ? OR due_ns > ?) ORDER BY turn, seq LIMIT ?"
        )
        return [Stored(*row) for row in self._db.execute(query, (action, now_ns, horizon_ns, limit))]

    def next_due_ns(self, action: str) -> int | None:
        """When the next alert of `action` is to be sent; None if nothing waits."""
        row = self._db.execute("SELECT min(due_ns) FROM letter WHERE action = ? AND state = 0", (action,)).fetchone()
        return None if row[0] is None else int(row[0])

    def last(self, action: str, beyond: int, limit: int) -> list[Placed]:
        """Those that would be sent last, the last first; of turns beyond `beyond`."""
        query = (
            "SELECT turn, seq, rule, severity FROM letter INDEXED BY letter_turn"
            " WHERE action = ? AND state = 0 AND turn > ? ORDER BY turn DESC, seq DESC LIMIT ?"
        )
        return [Placed(*row) for row in self._db.execute(query, (action, beyond, limit))]

    def remove(self, seqs: Sequence[int]) -> int:
        """Forget alerts; how many it was asked to forget."""
        with self._transaction():
            self._db.executemany("DELETE FROM letter WHERE seq = ?", [(seq,) for seq in seqs])
        return len(seqs)

    def postpone(self, seq: int, due_ns: int, problem: str) -> None:
        """Note a try that failed, and when the next one is due."""
        with self._transaction():
            self._db.execute(
                "UPDATE letter SET due_ns = ?, tries = tries + 1, problem = ? WHERE seq = ?", (due_ns, problem, seq)
            )

    def bury(self, seq: int, problem: str) -> None:
        """Make an alert a dead letter: kept, not tried again."""
        with self._transaction():
            self._db.execute(
                "UPDATE letter SET state = ?, tries = tries + 1, problem = ? WHERE seq = ?", (DEAD, problem, seq)
            )

    def bury_older(self, action: str, made_ns: int, problem: str) -> dict[str, int]:
        """Make all of `action` that was kept before `made_ns` dead letters; how many, by severity."""
        with self._transaction():
            query = "SELECT severity, count(*) FROM letter WHERE action = ? AND state = 0 AND made_ns < ? GROUP BY 1"
            found = dict(self._db.execute(query, (action, made_ns)).fetchall())
            self._db.execute(
                "UPDATE letter SET state = ?, problem = ? WHERE action = ? AND state = 0 AND made_ns < ?",
                (DEAD, problem, action, made_ns),
            )
        return found

    def dead(self, limit: int = 1000) -> list[Stored]:
        """Dead letters, the oldest first."""
        query = f"SELECT {_STORED} FROM letter WHERE state = 1 ORDER BY seq LIMIT ?"  # noqa: S608 - our own names
        return [Stored(*row) for row in self._db.execute(query, (limit,))]

    def revive(self, action: str, turn: int, now_ns: int) -> int:
        """Make the dead letters of `action` due now, in that turn; how many."""
        with self._transaction(durable=True):
            return self._db.execute(
                "UPDATE letter SET state = 0, tries = 0, made_ns = ?, due_ns = ?, turn = ?"
                " WHERE state = 1 AND action = ?",
                (now_ns, now_ns, turn, action),
            ).rowcount

    def trim_dead(self, keep: int, older_than_ns: int) -> int:
        """Forget all but the newest `keep` dead letters, and those made before `older_than_ns`; how many."""
        with self._transaction():
            return self._db.execute(
                "DELETE FROM letter WHERE state = 1 AND (made_ns < ? OR seq NOT IN"
                " (SELECT seq FROM letter WHERE state = 1 ORDER BY seq DESC LIMIT ?))",
                (older_than_ns, keep),
            ).rowcount

    def counts(self) -> dict[str, tuple[int, int]]:
        """How many alerts wait and how many are dead, for each action that has any."""
        query = "SELECT action, sum(state = 0), sum(state = 1) FROM letter WHERE state < 2 GROUP BY action"
        return {action: (waiting, dead) for action, waiting, dead in self._db.execute(query)}

    def turns(self) -> list[RuleTurns]:
        """The turns of what waits, by action and rule."""
        query = (
            "SELECT action, rule, max(turn), min(CASE tries WHEN 0 THEN turn END) FROM letter WHERE state = 0"
            " GROUP BY action, rule"
        )
        return self._db.execute(query).fetchall()

    @contextmanager
    def _transaction(self, durable: bool = False) -> Iterator[None]:
        self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def open_store(path: Path, max_bytes: int) -> tuple[Store, str]:
    """Open the store at `path`; one that cannot be read is moved aside and a new one made. And what there is to say.

    Raises `sqlite3.Error` or OSError where no database can be made at all.
    """
    try:
        return Store(path, max_bytes), ""
    except sqlite3.OperationalError:
        raise  # the disk or the directory, not the file's content
    except sqlite3.DatabaseError as error:
        moved = move_aside(path)
        return Store(path, max_bytes), f"{path}: cannot be read: {error}; moved to {moved}, and a new one started"


def move_aside(path: Path) -> Path:
    """Rename a database that is corrupt, with its log; only the last one is kept, so that they don't fill the disk."""
    for old in path.parent.glob(f"{path.name}.corrupt-*"):
        old.unlink(missing_ok=True)
    moved = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}")
    path.replace(moved)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return moved
