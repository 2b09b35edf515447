"""Any table is a rule or problems: nothing else comes out of checking it."""

from __future__ import annotations

import subprocess
import sys
from datetime import date

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfd.errors import RuleError
from bpfd.event import Event
from bpfd.rules import check, filters, predicate, why
from bpfd.rules.check import Known
from bpfd.rules.load import parse_rule
from bpfd.rules.problems import Problems, TooManyProblems

WORDS = st.sampled_from(
    "|a|open|exec|path|command|uid|cat|10s|any|kernel|kill|docker|0|-1|uid = 0 or m|not m|path glob /etc/*|m|[a-|("
    "|10.0.0.0/8|match|{path}|{|tree".split("|")
)
KEYS = st.sampled_from(
    [*check.KEYS, *filters.KEYS, *filters.CONTAINER, "event", "expect", "data", "labels", "size", "peer"]
)
VALUES = st.recursive(
    st.one_of(WORDS, st.integers(), st.booleans(), st.floats(), st.just(date(2026, 1, 1)), st.just(1 << 200)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(KEYS, WORDS), inner, max_size=4)),
    max_leaves=12,
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=8)
EVENT = Event(1, "open", 10, 11, 5, 1000, 0, "cat", 0, {"path": "/x", "size": "no number"})


@settings(
    max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(TABLES, st.booleans())
def test_any_table_is_a_rule_that_can_be_judged_and_explained_or_problems(
    known: Known, table: dict[str, object], with_tracer: bool
) -> None:
    if with_tracer:
        table = {**table, "tracer": "open"}
    problems = Problems("f.toml")
    try:
        rule = check.rule(table, known, problems, "f")
    except TooManyProblems:
        assert problems
        return
    assert all(line.isprintable() for line in problems.lines(""))
    if not problems:
        fields = known.tracers.get(rule.tracer, ())
        held = predicate.compile(rule.condition, fields)(EVENT)
        assert why.explain(rule.condition, fields, EVENT)[0].held is held


MANY = "".join(f', "v{number}"' for number in range(95_000))
PATTERN = "(ab|c*)?" * 512
HUGE = {
    "100,000 values": f'values = ["a"{MANY}]',
    "100,000 regular expressions": f"regex = ['a'{MANY}]",
    "100,000 globs": f"glob = ['a*b?'{MANY}]",
    "4 KiB patterns": f"regex = ['{PATTERN}'" + f", '{PATTERN}'" * 200 + "]",
    "a number of many digits": "exists = 0x" + "f" * 1_000_000,
}
CHILD = """
import sys, time
from bpfd.errors import RuleError
from bpfd.plugin import Field
from bpfd.rules import predicate
from bpfd.rules.check import Known
from bpfd.rules.load import parse_rule
fields = (Field("path", "a file", length=4096),)
text = sys.stdin.read()
begun = time.process_time()
try:
    predicate.compile(parse_rule(text, "x", Known({"open": fields}, ()), "x").condition, fields)
    print("good")
except RuleError as error:
    print(error)
print(time.process_time() - begun)
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.parametrize("clause", HUGE.values(), ids=HUGE.keys())
def test_huge_rules_end_in_a_rule_or_an_error_within_a_second_and_200_mebibytes(clause: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=f'tracer = "open"\n[filterEvents.path]\n{clause}',
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said, seconds, peak_kib = done.stdout.splitlines()
    assert said == "good" or said.startswith("x:3: filterEvents.path.")
    assert float(seconds) < 1
    assert int(peak_kib) < 200 * 1024


def test_a_rule_with_every_problem_says_each_once(known: Known) -> None:
    with pytest.raises(RuleError) as caught:
        parse_rule("".join(f"k{number} = 1\n" for number in range(50)), "x", known, "x")
    assert len(caught.value.problems) == len(set(caught.value.problems)) == 51
