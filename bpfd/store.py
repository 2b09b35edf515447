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
_SCHEMA = """
CREATE TABLE IF NOT EXISTS alert (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    action TEXT NOT NULL,
    body BLOB NOT NULL,
    made_ns INTEGER NOT NULL,
    due_ns INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    problem TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS alert_due ON alert (action, dead, due_ns, seq);
"""


class Stored(NamedTuple):
    """An alert in the store. Times are nanoseconds of the wall clock."""

    seq: int
    action: str
    body: bytes
    made_ns: int
    tries: int
    problem: str


class Store:
    """One database. Not thread-safe: whoever owns it holds a lock. Every method may raise `sqlite3.Error`.

    Adding is safe against power failure when it returns (`synchronous=FULL` in WAL mode); the rest is safe against the
    end of this process only, and what power failure takes back is done again: an alert is sent twice, never not.
    """

    def __init__(self, path: Path | None, max_bytes: int) -> None:
        """Open or make the database at `path`; None: in memory. `close` gives it back."""
        if path is not None:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False, timeout=5)
        try:
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

    def add(self, action: str, alerts: Iterable[Alert], now_ns: int) -> int:
        """Keep `alerts` for `action`, all or none; how many."""
        rows = [(action, alert.to_json(), now_ns, now_ns) for alert in alerts]
        with self._transaction(durable=True):
            self._db.executemany("INSERT INTO alert (action, body, made_ns, due_ns) VALUES (?, ?, ?, ?)", rows)
        return len(rows)

    def due(self, action: str, now_ns: int, horizon_ns: int, limit: int) -> list[Stored]:
        """What is to be sent now, the longest due first. Due beyond `horizon_ns` means that the clock was set back."""
        return [
            Stored(*row)
            for row in self._db.execute(
                "SELECT seq, action, body, made_ns, tries, problem FROM alert"
                " WHERE action = ? AND dead = 0 AND (due_ns <= ? OR due_ns > ?) ORDER BY due_ns, seq LIMIT ?",
                (action, now_ns, horizon_ns, limit),
            )
        ]

    def next_due_ns(self, action: str) -> int | None:
        """When the next alert of `action` is to be sent; None if nothing waits."""
        row = self._db.execute("SELECT min(due_ns) FROM alert WHERE action = ? AND dead = 0", (action,)).fetchone()
        return None if row[0] is None else int(row[0])

    def remove(self, seqs: Sequence[int]) -> int:
        """Forget alerts; how many it was asked to forget."""
        with self._transaction():
            self._db.executemany("DELETE FROM alert WHERE seq = ?", [(seq,) for seq in seqs])
        return len(seqs)

    def postpone(self, seq: int, due_ns: int, problem: str) -> None:
        """Note a try that failed, and when the next one is due."""
        with self._transaction():
            self._db.execute(
                "UPDATE alert SET due_ns = ?, tries = tries + 1, problem = ? WHERE seq = ?", (due_ns, problem, seq)
            )

    def bury(self, seq: int, problem: str) -> None:
        """Make an alert a dead letter: kept, not tried again."""
        with self._transaction():
            self._db.execute("UPDATE alert SET dead = 1, tries = tries + 1, problem = ? WHERE seq = ?", (problem, seq))

    def dead(self, limit: int = 1000) -> list[Stored]:
        """Dead letters, the oldest first."""
        query = "SELECT seq, action, body, made_ns, tries, problem FROM alert WHERE dead = 1 ORDER BY seq LIMIT ?"
        return [Stored(*row) for row in self._db.execute(query, (limit,))]

    def revive(self, action: str | None, now_ns: int) -> int:
        """Make dead letters, all or those of `action`, due now; how many."""
        with self._transaction(durable=True):
            return self._db.execute(
                "UPDATE alert SET dead = 0, tries = 0, made_ns = ?, due_ns = ?"
                " WHERE dead = 1 AND (? IS NULL OR action = ?)",
                (now_ns, now_ns, action, action),
            ).rowcount

    def trim_dead(self, keep: int, older_than_ns: int) -> int:
        """Forget all but the newest `keep` dead letters, and those made before `older_than_ns`; how many."""
        with self._transaction():
            return self._db.execute(
                "DELETE FROM alert WHERE dead = 1 AND (made_ns < ? OR seq NOT IN"
                " (SELECT seq FROM alert WHERE dead = 1 ORDER BY seq DESC LIMIT ?))",
                (older_than_ns, keep),
            ).rowcount

    def counts(self) -> dict[str, tuple[int, int]]:
        """How many alerts wait and how many are dead, for each action."""
        query = "SELECT action, sum(dead = 0), sum(dead) FROM alert GROUP BY action"
        return {action: (waiting, dead) for action, waiting, dead in self._db.execute(query)}

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
