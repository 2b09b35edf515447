"""What users read of numbers."""

from __future__ import annotations

from bpfd.counted import counted


def test_one_thing_is_called_one_and_any_other_number_several() -> None:
    assert [counted(number, "bad file") for number in (0, 1, 2)] == ["0 bad files", "1 bad file", "2 bad files"]
    assert [counted(number, "match", "es") for number in (1, 3)] == ["1 match", "3 matches"]
