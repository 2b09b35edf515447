"""The daemon's rules, those of the directory and those of the API, without a kernel."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bpfd.plugin import Field
from bpfd.rulebook import Rulebook
from bpfd.rules.check import Known

GOOD = 'tracer = "open"\n[filterEvents.path]\nis = ["/etc/shadow"]\n'


@pytest.fixture
def book(tmp_path: Path) -> Rulebook:
    (tmp_path / "rules").mkdir()
    known = Known({"open": (Field("path", "a path", length=4096),)}, ("stdout",))
    return Rulebook(known, tmp_path / "rules", tmp_path / "state")


def test_while_the_directory_cannot_be_read_what_was_bad_stays_bad_and_what_was_kept_stays_kept(
    book: Rulebook, tmp_path: Path
) -> None:
    rules = tmp_path / "rules"
    (rules / "kept.toml").write_text(GOOD)
    (rules / "bad.toml").write_text("what = 1\n")
    book.load()
    (rules / "kept.toml").write_text("half = ")
    book.reload()
    before = book.problems
    assert (before.keys(), book.kept) == (
        {str(rules / "bad.toml"), str(rules / "kept.toml")},
        {"kept": str(rules / "kept.toml")},
    )
    shutil.rmtree(rules)
    for _ in range(2):
        book.reload()
        assert book.problems.keys() == before.keys() | {str(rules)}
        assert (book.rules.keys(), book.kept) == ({"kept"}, {"kept": str(rules / "kept.toml")})
    rules.mkdir()
    book.reload()
    assert (book.problems, book.rules) == ({}, {})
