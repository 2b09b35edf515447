"""Every way in which a rules directory changes is noticed, and what is half written is left alone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bpfd.reload import IsBeingWritten, RulesWatch

SOON_S = 20.0
"""A busy machine has time; the daemon's own test looks at the second that is promised."""


class Reader:
    """What a daemon does when it is told: reads the files that are whole."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.found: dict[str, str] = {}
        self.times = 0
        self.gate = threading.Event()
        self.gate.set()
        self.is_called = threading.Event()

    def __call__(self, is_being_written: IsBeingWritten) -> None:
        self.is_called.set()
        self.gate.wait(120)
        found = {}
        for path in sorted(self.directory.glob("*.toml")) if self.directory.is_dir() else []:
            text = path.read_text() if path.exists() else ""
            if is_being_written(os.path.realpath(path)):
                text = self.found.get(path.name, "unfinished")
            found[path.name] = text
        self.found = found
        self.times += 1

    def wait_for(self, found: dict[str, str]) -> None:
        deadline = time.monotonic() + SOON_S
        while self.found != found:
            assert time.monotonic() < deadline, (self.found, self.times)
            time.sleep(0.01)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "rules"
    path.mkdir(parents=True)
    return path


Follow = Callable[[Path], Reader]


@pytest.fixture
def follow() -> Iterator[Follow]:
    """Watch a directory until the test ends."""
    watches: list[RulesWatch] = []

    def begin(directory: Path) -> Reader:
        reader = Reader(directory)
        watches.append(RulesWatch(directory, reader))
        watches[-1].start()
        return reader

    yield begin
    for watch in watches:
        watch.close()


def test_a_file_that_is_written_moved_in_moved_out_linked_or_removed_is_noticed(follow: Follow, rules: Path) -> None:
    reader = follow(rules)
    (rules / "a.toml").write_text("1")
    reader.wait_for({"a.toml": "1"})
    (rules / ".a.toml.new").write_text("2")
    (rules / ".a.toml.new").rename(rules / "a.toml")
    reader.wait_for({"a.toml": "2"})
    (rules / "a.toml").rename(rules.parent / "aside.toml")
    reader.wait_for({})
    os.link(rules.parent / "aside.toml", rules / "b.toml")
    reader.wait_for({"b.toml": "2"})
    (rules / "b.toml").unlink()
    reader.wait_for({})


def test_an_editor_that_renames_the_old_file_and_writes_a_new_one_is_noticed(follow: Follow, rules: Path) -> None:
    (rules / "a.toml").write_text("1")
    reader = follow(rules)
    (rules / "a.toml").rename(rules / "a.toml~")
    (rules / "a.toml").write_text("2")
    (rules / "a.toml~").unlink()
    reader.wait_for({"a.toml": "2"})


def test_a_directory_that_is_made_later_replaced_or_linked_elsewhere_is_noticed(follow: Follow, tmp_path: Path) -> None:
    rules = tmp_path / "not" / "there" / "rules"
    reader = follow(rules)
    rules.mkdir(parents=True)
    (rules / "a.toml").write_text("1")
    reader.wait_for({"a.toml": "1"})
    rules.rename(tmp_path / "old")
    reader.wait_for({})
    rules.mkdir()
    (rules / "b.toml").write_text("2")
    reader.wait_for({"b.toml": "2"})
    (rules / "b.toml").unlink()
    rules.rmdir()
    rules.symlink_to(tmp_path / "old")
    reader.wait_for({"a.toml": "1"})
    (tmp_path / "old" / "a.toml").write_text("3")
    reader.wait_for({"a.toml": "3"})


def test_a_parent_that_is_renamed_is_noticed(follow: Follow, rules: Path) -> None:
    """No event says so to who watches what is in it."""
    (rules / "a.toml").write_text("1")
    reader = follow(rules)
    (rules / "a.toml").write_text("2")
    reader.wait_for({"a.toml": "2"})
    rules.parent.rename(rules.parent.with_name("old"))
    reader.wait_for({})


def test_the_swap_of_a_config_maps_link_is_noticed(follow: Follow, rules: Path) -> None:
    """As Kubernetes does it: a new directory, and one link renamed over another (pkg/volume/util/atomic_writer.go)."""
    for version in ("1", "2", "3"):
        (rules / f"..{version}").mkdir()
        (rules / f"..{version}" / "a.toml").write_text(version)
    (rules / "..data").symlink_to("..1")
    (rules / "a.toml").symlink_to("..data/a.toml")
    reader = follow(rules)
    for version in ("2", "3"):
        (rules / "..data_tmp").symlink_to(f"..{version}")
        (rules / "..data_tmp").rename(rules / "..data")
        reader.wait_for({"a.toml": version})


def test_a_file_that_a_link_leads_to_is_followed_through_every_link(follow: Follow, rules: Path) -> None:
    store = rules.parent / "store"
    for version in ("1", "2"):
        (store / version).mkdir(parents=True)
        (store / version / "a").write_text(version)
    (store / "current").symlink_to("1")
    (rules / "a.toml").symlink_to("../store/current/a")
    reader = follow(rules)
    (store / "1" / "a").write_text("new")
    reader.wait_for({"a.toml": "new"})
    (store / "next").symlink_to("2")
    (store / "next").rename(store / "current")
    reader.wait_for({"a.toml": "2"})


def test_a_file_is_left_as_it_was_until_its_writer_closes_it(follow: Follow, rules: Path) -> None:
    (rules / "old.toml").write_text("old")
    reader = follow(rules)
    with (rules / "new.toml").open("w") as new, (rules / "old.toml").open("w") as old:
        for file in (new, old):
            file.write("half ")
            file.flush()
        (rules / "other.toml").write_text("1")  # gives a reason to read
        reader.wait_for({"new.toml": "unfinished", "old.toml": "unfinished", "other.toml": "1"})
        for file in (new, old):
            file.write("and half")
    reader.wait_for({"new.toml": "half and half", "old.toml": "half and half", "other.toml": "1"})


def test_many_files_at_once_are_read_a_few_times(follow: Follow, rules: Path) -> None:
    reader = follow(rules)
    for number in range(1000):
        (rules / f"{number}.toml").write_text("1")
    reader.wait_for({f"{number}.toml": "1" for number in range(1000)})
    assert reader.times < 20


def test_what_concerns_no_rule_is_no_reason_to_read(follow: Follow, rules: Path) -> None:
    reader = follow(rules)
    (rules / ".a.toml.swp").write_text("1")
    (rules / "notes.txt").write_text("1")
    (rules.parent / "other").mkdir()
    (rules / "last.toml").write_text("1")
    reader.wait_for({"last.toml": "1"})
    assert reader.times == 1


def test_more_changes_than_the_kernel_keeps_are_noticed_all_the_same(
    follow: Follow, rules: Path, caplog: pytest.LogCaptureFixture
) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    reader = follow(rules)
    reader.gate.clear()
    (rules / "0.toml").write_text("1")
    assert reader.is_called.wait(SOON_S)  # now its queue fills
    for number in range(most // 2 + 1000):
        (rules / f"{number % 50}.toml").write_text("1")
    (rules / "last.toml").write_text("1")
    reader.gate.set()
    reader.wait_for({f"{name}.toml": "1" for name in (*range(50), "last")})
    assert "more changed than the kernel keeps" in caplog.text


def test_a_failure_is_logged_and_the_next_change_is_noticed(rules: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def fail(is_being_written: IsBeingWritten) -> None:
        calls.append(1)
        raise ValueError("one\ntwo")

    watch = RulesWatch(rules, fail)
    watch.start()
    try:
        for number in (1, 2):
            (rules / "a.toml").write_text("x")
            deadline = time.monotonic() + SOON_S
            while len(calls) < number:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    finally:
        watch.close()
    assert [record.getMessage() for record in caplog.records] == ["one", "two"] * 2
