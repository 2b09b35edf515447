"""One bad file a mistake, beside the text that the user sees for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bpfd.errors import RuleError
from bpfd.rules.check import Known
from bpfd.rules.load import parse_rule

FILES = sorted((Path(__file__).parent / "bad").glob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_mistake_is_shown_with_its_line_and_the_way_out(file: Path, known: Known) -> None:
    with pytest.raises(RuleError) as caught:
        parse_rule(file.read_bytes(), file.name, known, file.stem)
    assert str(caught.value) + "\n" == file.with_suffix(".txt").read_text()


def test_every_expected_text_has_its_file() -> None:
    texts = {file.stem for file in (Path(__file__).parent / "bad").glob("*.txt")}
    assert texts == {file.stem for file in FILES}
