"""file appends alerts to a file."""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path

import pytest

from bpfd.actions.file import File
from bpfd.alert import Alert
from bpfd.errors import ActionError


def test_alerts_are_lines_that_only_root_can_read(tmp_path: Path, alert: Alert) -> None:
    action = File({"path": str(tmp_path / "new" / "alerts.json")})
    action.send(alert)
    action.send(alert)
    action.close()
    path = tmp_path / "new" / "alerts.json"
    assert path.read_bytes() == (alert.to_json() + b"\n") * 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("compress", [True, False])
def test_full_files_are_rotated_and_the_oldest_go(tmp_path: Path, alert: Alert, compress: bool) -> None:
    path = tmp_path / "a"
    size = 3 * (len(alert.to_json()) + 1)
    action = File({"path": str(path), "max_size": size, "files": 2, "compress": compress})
    for _ in range(11):
        action.send(alert)
    action.close()
    suffix = ".gz" if compress else ""
    assert {p.name for p in tmp_path.iterdir()} == {"a", f"a.1{suffix}", f"a.2{suffix}"}
    rotated = (tmp_path / f"a.1{suffix}").read_bytes()
    assert (gzip.decompress(rotated) if compress else rotated) == (alert.to_json() + b"\n") * 3
    assert path.read_bytes().count(b"\n") == 2


def test_with_no_files_to_keep_it_begins_anew(tmp_path: Path, alert: Alert) -> None:
    action = File({"path": str(tmp_path / "a"), "max_size": 1024, "files": 0})
    for _ in range(5):
        action.send(alert)
    action.close()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").stat().st_size <= 1024


def test_a_file_that_somebody_moved_away_is_made_anew(tmp_path: Path, alert: Alert) -> None:
    action = File({"path": str(tmp_path / "a")})
    action.send(alert)
    (tmp_path / "a").rename(tmp_path / "b")
    action.send(alert)
    action.close()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_link_is_not_followed(tmp_path: Path, alert: Alert) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "victim")
    action = File({"path": str(tmp_path / "a")})
    with pytest.raises(ActionError, match="cannot be written"):
        action.send(alert)
    assert not (tmp_path / "victim").exists()


def test_a_pipe_or_a_device_in_its_place_is_an_error_at_once(tmp_path: Path, alert: Alert) -> None:
    path = tmp_path / "alerts"
    os.mkfifo(path)
    with pytest.raises(ActionError, match="alerts: cannot be written: No such device or address"):
        File({"path": str(path)}).send(alert)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(ActionError, match="alerts: is no regular file"):
            File({"path": str(path)}).send(alert)
        assert os.read(reader, 10) == b""
    finally:
        os.close(reader)
    with pytest.raises(ActionError, match="null: is no regular file"):
        File({"path": "/dev/null"}).send(alert)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, alert: Alert, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    action = File({"path": str(path)})
    action.send(alert)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    with pytest.raises(ActionError, match="the disk is full"):
        action.send(alert)
    monkeypatch.undo()
    action.send(alert)
    action.close()
    assert path.read_bytes() == (alert.to_json() + b"\n") * 2


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(ActionError, match="path: must be an absolute path"):
        File({"path": "alerts"})
