"""`bpfd explain FILE`, which needs no daemon and no root."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bpfd.cli.main import main

RULE = """
tracer = "open"
[filterEvents.path]
prefix = "/etc/"
[filterEvents.user]
is = "root"
"""


def test_a_file_is_explained_clause_by_clause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(RULE)
    assert main(["explain", str(file)]) == 0
    why = "only Python knows the field's text"
    assert capsys.readouterr().out.splitlines() == [
        f"mine (open): the kernel sorts out what it can, Python decides: user is: {why}",
        '  kernel  path starts with "/etc/"',
        f'  Python  user is "root": {why}',
    ]
    assert main(["explain", "--json", str(file)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["name"], said["tracer"], said["exact"]) == ("mine", "open", False)
    assert said["clauses"][1] == {"text": 'user is "root"', "inKernel": False, "reason": why}


def test_a_file_that_is_bad_or_holds_no_rule_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('tracer = "opne"\n')
    assert main(["explain", str(bad)]) == 1
    assert 'did you mean "open"?' in capsys.readouterr().err
    bad.write_text('[lists]\na = ["b"]\n')
    assert main(["explain", str(bad)]) == 1
    assert "holds macros and lists only" in capsys.readouterr().err
    assert main(["explain", str(tmp_path / "none.toml")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_rule_of_a_tracer_without_a_program_and_a_sequence_are_pythons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text('tracer = "ticker"\n')
    (tmp_path / "s.toml").write_text('sequence = ["a", "b"]\nwithin = "1s"\n')
    assert main(["explain", str(tmp_path / "a.toml")]) == 0
    assert main(["explain", str(tmp_path / "s.toml")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "a (ticker): Python decides: the tracer has no program in the kernel",
        "s (-): Python decides: it follows other rules: a, b",
    ]
