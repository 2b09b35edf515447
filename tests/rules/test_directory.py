"""A directory that is read again and again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bpfd.errors import RuleError
from bpfd.rules.check import Known
from bpfd.rules.directory import Directory

GOOD = 'tracer = "open"\n[filterEvents.path]\nis = ["{}"]\n'


@pytest.fixture
def directory(tmp_path: Path, known: Known) -> Directory:
    return Directory(tmp_path, known)


def test_what_has_not_changed_is_not_parsed_again(directory: Directory, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(GOOD.format(name))
    (tmp_path / "bad.toml").write_text("tracer = 7\n")
    first = directory.read()
    os.utime(tmp_path / "a.toml", (1, 1))
    (tmp_path / "b.toml").write_text(GOOD.format("other"))
    again = directory.read()
    assert again.rules[0] is first.rules[0]
    assert again.rules[1].filters == {}
    assert again.rules[1].text == GOOD.format("other")
    assert again.problems == first.problems


def test_a_file_of_the_same_size_and_time_that_says_otherwise_is_read(directory: Directory, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(GOOD.format("one"))
    before = file.stat()
    directory.read()
    file.write_text(GOOD.format("two"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert directory.read().rules[0].text == GOOD.format("two")


def test_a_macro_that_changes_or_goes_changes_the_rules_that_use_it(directory: Directory, tmp_path: Path) -> None:
    library = tmp_path / "z.toml"
    library.write_text('[macros]\nodd = "path = /one"\n')
    (tmp_path / "a.toml").write_text('tracer = "open"\ncondition = "odd"\n')
    (tmp_path / "b.toml").write_text(GOOD.format("b"))
    first, kept = directory.read().rules
    library.write_text('[macros]\nodd = "path = /two"\n')
    second, _ = directory.read().rules
    assert first.condition != second.condition
    library.unlink()
    loaded = directory.read()
    assert [rule.text for rule in loaded.rules] == [kept.text]
    assert "odd" in loaded.problems[str(tmp_path / "a.toml")][0]
    assert loaded.kept == {str(tmp_path / "a.toml"): second}


def test_a_library_that_became_bad_keeps_its_macros(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "z.toml").write_text('[macros]\nodd = "path = /one"\n')
    (tmp_path / "a.toml").write_text('tracer = "open"\ncondition = "odd"\n')
    rules = directory.read().rules
    (tmp_path / "z.toml").write_text('[macros]\nodd = "path ="\n')
    loaded = directory.read()
    assert (loaded.rules, list(loaded.problems)) == (rules, [str(tmp_path / "z.toml")])


def test_a_bad_file_keeps_its_last_good_rule_through_every_worse_version(directory: Directory, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(GOOD.format("one"))
    (good,) = directory.read().rules
    for bad in (b"", b"tracer = [", b"\xff", b'tracer = "opne"\n'):
        file.write_bytes(bad)
        loaded = directory.read()
        assert (loaded.rules, loaded.kept, list(loaded.problems)) == ((), {str(file): good}, [str(file)])
    file.write_text(GOOD.format("one"))
    loaded = directory.read()
    assert (loaded.rules, loaded.kept, loaded.problems) == ((good,), {}, {})
    file.unlink()
    assert directory.read().kept == {}


def test_a_sequence_may_name_a_rule_whose_file_became_bad(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD.format("one"))
    (tmp_path / "b.toml").write_text(GOOD.format("two"))
    (tmp_path / "s.toml").write_text('sequence = ["a", "b"]\nwithin = "10s"\n')
    assert len(directory.read().rules) == 3
    (tmp_path / "a.toml").write_text("tracer =")
    loaded = directory.read()
    assert [rule.name for rule in loaded.rules] == ["b", "s"]
    (tmp_path / "a.toml").unlink()
    assert list(directory.read().problems) == [str(tmp_path / "s.toml")]


def test_a_file_that_is_being_written_stays_as_it_was(directory: Directory, tmp_path: Path) -> None:
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text(GOOD.format("one"))
    (rule,) = directory.read().rules
    for file in (old, new):
        file.write_text('tracer = "open"\n')
    loaded = directory.read({str(old), str(new)}.__contains__)
    assert (loaded.rules, loaded.problems) == ((rule,), {})
    assert len(directory.read().rules) == 2


def test_a_directory_that_cannot_be_read_is_an_error_each_time(known: Known, tmp_path: Path) -> None:
    directory = Directory(tmp_path / "none", known)
    with pytest.raises(RuleError, match="the rules directory cannot be read"):
        directory.read()
    (tmp_path / "none").mkdir()
    assert directory.read().rules == ()
