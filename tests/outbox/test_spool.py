"""A disk that is full, read-only, corrupt or gone loses no alert, and none is told twice."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bpfd import spool as spool_module
from bpfd.alert import Alert
from bpfd.counters import Counters
from bpfd.delivery import Delivery
from bpfd.errors import RejectedError
from bpfd.outbox import Outbox
from tests.outbox.receiver import FAST, Receiver, event, eventually


def test_a_corrupt_outbox_is_moved_aside_and_a_new_one_started(
    tmp_path: Path, counters: Counters, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "outbox.db").write_bytes(b"no database at all" * 1000)
    (tmp_path / "outbox.db.corrupt-older").write_bytes(b"")
    box = Outbox(tmp_path, counters)
    box.put("a", [Alert(event())])
    assert box.waiting() == {"a": (1, 0)}
    box.close()
    kept = list(tmp_path.glob("outbox.db.corrupt-*"))
    assert [path.read_bytes()[:5] for path in kept] == [b"no da"]
    assert "a new one started" in caplog.text
    assert counters.table() == {"outbox.corrupt": 1}


def test_an_outbox_that_breaks_while_it_runs_is_replaced(
    tmp_path: Path, counters: Counters, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Outbox(tmp_path, counters)
    assert box._spool._disk is not None

    def broken(*args: Any) -> int:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(box._spool._disk, "add", broken)
    box.put("a", [Alert(event())])
    box.put("a", [Alert(event())])
    assert box.waiting() == {"a": (2, 0)}
    assert "corrupt; moved to" in caplog.text
    assert "with 0 alerts" in caplog.text
    box.close()


def test_a_second_daemon_touches_nothing_of_the_outbox_of_the_first(tmp_path: Path, counters: Counters) -> None:
    first = Outbox(tmp_path, counters)
    first.put("a", [Alert(event())], [Alert(event(), kind="summary")])
    second = Outbox(tmp_path, Counters())
    assert "database is locked" in second.problem
    assert second.waiting() == {}
    second.close()
    assert first.waiting() == {"a": (1, 0)}
    assert not (tmp_path / "outbox.db-shm").exists()
    first.close()


def test_an_outbox_that_cannot_be_read_is_opened_again_and_looked_through(
    tmp_path: Path, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_REOPEN_S", -1.0)
    box = Outbox(tmp_path, counters)
    box.put("a", [Alert(event())])
    disk = box._spool._disk
    assert disk is not None

    def unreadable(*args: Any) -> int:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_READ"
        raise error

    monkeypatch.setattr(disk, "add", unreadable)
    box.put("a", [Alert(event())])
    assert "disk I/O error; alerts are kept in memory" in box.problem
    box.put("a", [Alert(event())])
    assert box._spool._disk is not disk
    assert (box.problem, box.waiting()) == ("", {"a": (3, 0)})
    box.close()


def test_a_full_disk_does_not_silence_the_alerts(
    tmp_path: Path, counters: Counters, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    box = Outbox(tmp_path, counters, max_bytes=16 * 4096)
    sent = [Alert(event(pid)) for pid in range(300)]
    for one in sent:
        box.put("a", [one])
    assert counters.table()["outbox.memory"] > 0
    assert "database or disk is full; alerts are kept in memory" in box.problem
    assert caplog.messages == [box.problem]
    delivery = Delivery("a", receiver, box, counters, FAST)
    eventually(lambda: len(receiver.got) == 300)
    assert {alert.id for alert in receiver.got} == {alert.id for alert in sent}
    delivery.stop(5)
    box.put("a", [Alert(event())])
    assert box.problem == ""
    box.close()


def test_a_disk_and_memory_that_stay_full_are_reported_once_and_as_long_as_that_lasts(
    tmp_path: Path, counters: Counters, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MEMORY_BYTES", 16 * 4096)
    with closing(Outbox(tmp_path, counters, max_bytes=16 * 4096)) as box:
        while counters.table().get("action.a.dropped", 0) < 20:
            box.put("a", [Alert(event())])
            assert box.problem or "outbox.memory" not in counters.table()
        assert [one for one in caplog.messages if "disk is full" in one] == [box.problem]


def test_without_any_disk_alerts_are_kept_in_memory(
    tmp_path: Path, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    box = Outbox(tmp_path / "state", counters)
    assert "cannot be opened" in box.problem
    box.put("a", [Alert(event())])
    assert box.waiting() == {"a": (1, 0)}
    (tmp_path / "state").unlink()
    monkeypatch.setattr(spool_module, "_REOPEN_S", -1.0)
    box.put("a", [Alert(event())])
    assert box.problem == ""
    box.close()
    assert counters.table() == {"outbox.memory": 1}
    again = Outbox(tmp_path / "state", counters)
    assert again.waiting() == {"a": (2, 0)}
    again.close()


def test_what_no_disk_takes_until_the_end_is_counted_as_lost(tmp_path: Path, counters: Counters) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    box = Outbox(tmp_path / "state", counters)
    box.put("a", [Alert(event(), severity="critical")])
    box.close()
    assert counters.table() == {"action.a.dropped": 1, "alerts.given_up.critical": 1, "outbox.memory": 1}


def test_what_the_disk_cannot_note_as_delivered_is_not_sent_again(
    outbox: Outbox, receiver: Receiver, deliver: Callable[..., Delivery]
) -> None:
    assert outbox._spool._disk is not None
    real = outbox._spool._disk.remove

    def full(seqs: Any) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    outbox._spool._disk.remove = full  # type: ignore[method-assign]
    outbox.put("a", [Alert(event(1)), Alert(event(2))])
    deliver()
    eventually(lambda: len(receiver.got) == 2)
    outbox._spool._disk.remove = real  # type: ignore[method-assign]
    outbox.put("a", [Alert(event(3))])
    eventually(lambda: outbox.waiting() == {})
    assert [alert.event.pid for alert in receiver.got] == [1, 2, 3]


def test_what_the_disk_cannot_note_as_given_up_is_not_sent_again(
    outbox: Outbox, receiver: Receiver, deliver: Callable[..., Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(seq: int, problem: str) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    assert outbox._spool._disk is not None
    tries: list[int] = []
    receiver.always = lambda alert: tries.append(alert.event.pid)
    receiver.plan = [RejectedError("wrong") for _ in range(1000)]
    with monkeypatch.context() as patch:
        patch.setattr(outbox._spool._disk, "bury", full)
        outbox.put("a", [Alert(event(1)), Alert(event(2))])
        deliver()
        eventually(lambda: len(tries) >= 2)
        outbox.put("a", [Alert(event(3))])
        eventually(lambda: 3 in tries)
    assert tries == [1, 2, 3]
    outbox.put("a", [Alert(event(4))])
    eventually(lambda: outbox.waiting() == {"a": (0, 4)})
    assert tries == [1, 2, 3, 4]
    assert {one.problem for one in outbox.dead()} == {"wrong"}


def test_only_root_can_read_the_outbox(tmp_path: Path, counters: Counters) -> None:
    box = Outbox(tmp_path / "state", counters)
    box.put("a", [Alert(event())])
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    assert set(modes.values()) == {0o600}
    box.close()
