"""What the files of a cgroup show."""

from __future__ import annotations

from pathlib import Path

import pytest

from bpfd.containers.shown import Places


@pytest.mark.parametrize(
    "text", ["", "populated", "populated x\n", "populated 1 2\n", "\0\xff", "frozen 1\n" * 100_000, "populated -1\n"]
)
def test_a_file_that_makes_no_sense_shows_nothing(tmp_path: Path, text: str) -> None:
    for name in ("cgroup.events", "memory.events"):
        (tmp_path / name).write_text(text, encoding="latin-1")
    shown = Places((str(tmp_path), "/"), None, None).look("")
    assert shown is not None
    assert (shown.populated, shown.oom_kills) == (False, 0)
