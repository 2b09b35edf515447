"""What runs in the kernel, and why the rest does not."""

from __future__ import annotations

import pytest

from bpfd.rules import explain, plan
from bpfd.rules.check import Known
from bpfd.rules.load import parse_rule
from tests.rules.conftest import OPEN


def explained(known: Known, text: str) -> explain.Explanation:
    rule = parse_rule(f'tracer = "open"\n{text}', "r.toml", known, "r")
    return explain.of_rule(rule, OPEN, has_program=True)


def where(said: explain.Explanation) -> dict[str, bool]:
    return {clause.text: clause.in_kernel for clause in said.clauses}


def test_a_rule_that_the_kernel_decides_alone_has_every_clause_there(known: Known) -> None:
    said = explained(known, 'condition = "path startswith /etc/ and not command in (sshd, sudo) and uid > 999"\n')
    assert (said.exact, said.reason) == (True, "")
    assert where(said) == {
        'path starts with "/etc/"': True,
        'not command is "sshd", "sudo"': True,
        'uid is above "999"': True,
    }


@pytest.mark.parametrize(
    ("clause", "text", "why"),
    [
        ("user = root", 'user is "root"', "only Python knows the field's text"),
        ("flags contains O_CREAT", 'flags contains "O_CREAT"', "the text is made in Python"),
        ("containerName = web", 'containerName is "web"', "only Python knows the field's text"),
    ],
)
def test_a_clause_that_python_has_to_judge_says_why(known: Known, clause: str, text: str, why: str) -> None:
    said = explained(known, f'condition = "uid = 0 and {clause}"\n')
    assert said.exact is False
    assert why in said.reason
    assert said.clauses == (explain.Clause('uid is "0"', True), explain.Clause(text, False, why))


def test_the_verdict_is_that_of_the_plan(known: Known) -> None:
    """`where = "kernel"` is refused for what is said to be Python's, and for nothing else."""
    for condition in ("path = /a", "path = /a or user = b", "not (path = /a and uid = 1)", "path exists", "size > 1"):
        rule = parse_rule(f'tracer = "open"\ncondition = "{condition}"\n', "r.toml", known, "r")
        said = explain.of_rule(rule, OPEN, has_program=True)
        assert said.reason == plan.make([rule.condition], OPEN).inexact.get(0, "")
        assert said.exact or not all(where(said).values()), condition


def test_a_condition_of_too_many_alternatives_is_left_to_python_as_a_whole(known: Known) -> None:
    pairs = " and ".join(f"(uid = {n} or gid = {n})" for n in range(6))
    said = explained(known, f'condition = "{pairs}"\n')
    assert "multiplies out" in said.reason
    assert set(where(said).values()) == {False}


def test_a_clause_that_is_met_twice_is_said_once(known: Known) -> None:
    said = explained(known, 'condition = "(uid = 0 and path = /a) or (uid = 0 and path = /b)"\n')
    assert [clause.text for clause in said.clauses] == ['uid is "0"', 'path is "/a"', 'path is "/b"']


def test_without_a_program_nothing_runs_in_the_kernel(known: Known) -> None:
    rule = parse_rule('tracer = "open"\ncondition = "path = /a"\n', "r.toml", known, "r")
    said = explain.of_rule(rule, OPEN, has_program=False)
    assert (said.exact, said.reason) == (False, explain.NO_PROGRAM)
    assert where(said) == {'path is "/a"': False}


def test_a_sequence_follows_other_rules(known: Known) -> None:
    rule = parse_rule('sequence = ["a", "b"]\nwithin = "1s"\n', "r.toml", known, "r")
    assert explain.of_rule(rule, (), has_program=False).reason == "it follows other rules: a, b"
