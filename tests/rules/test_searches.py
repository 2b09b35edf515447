"""An automaton over bytes says of every text what RE2 and globs say in Python, whatever the bytes are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpfd.rules import patterns, searches, text_patterns
from bpfd.rules.budget import Budget, TooDear
from bpfd.rules.bytewise import ByteDfa
from bpfd.rules.dfa import MOST_STATES
from bpfd.rules.expression import Unsupported
from bpfd.rules.model import Test as Clause
from bpfd.rules.searches import MOST_STEPS, Search

CHARACTERS = ["a", "b", "k", "K", "s", "S", "/", "-", ".", " ", "1", "_", "\n", "é", "É", "€", "😀", "\u212a", "\u017f"]
STRAY = [
    b"\xff",
    b"\xc3",
    b"\xe2",
    b"\xe2\x82",
    b"\x82",
    b"\xed\xb3\x83",
    b"\xf0\x9f\x98",
    b"\xc0\x80",
    b"\xe0\x80\x80",
]
texts = st.lists(
    st.sampled_from([*(character.encode() for character in CHARACTERS), *STRAY, b"\xf4\x90\x80\x80"]), max_size=7
).map(b"".join)
globs = st.lists(
    st.sampled_from("a b k S é € / \n * * ? [a-c] [!a] [^é] [é-€] [A-Z] [!A-Z] []a] [ \\* \\ [a-]".split(" ")),
    max_size=7,
).map("".join)
atoms = st.sampled_from(
    (
        r"a b k s K é € / . . [a-c] [^a] [^é] [é-€] []a] [^]a] [a-b-c] [--a] \x{e9} \x61 \101 \0 \. \_ \n { } a{ "
        r"\d \D \w \W \s \S [\w-] [^\W] [\D] [[:upper:]] [[:^alpha:]] [\x{dc00}-\x{dcff}] \x{dcc3} "
        r"^ $ \A \z (?i) (?-i) (?s) (?-s) (?i:k) (?i:[^s]) (?i:\w) (?i:[\W]) \b \pL (?m)"
    ).split()
)
repeats = st.sampled_from(["", "", "", "*", "+", "?", "*?", "{2}", "{1,2}", "{0}", "{0,2}?", "{2,}", "{,2}", "{01}"])
regexes = st.recursive(
    st.tuples(atoms, repeats).map("".join),
    lambda inner: (
        st.lists(inner, max_size=4).map("".join)
        | st.lists(inner, min_size=2, max_size=3).map("|".join)
        | st.tuples(st.sampled_from(["(", "(?:", "(?i:", "(?-s:", "(?P<n>"]), inner, repeats).map(
            lambda parts: f"{parts[0]}{parts[1]}){parts[2]}"
        )
    ),
    max_leaves=6,
)
clauses = st.builds(Search, st.just("glob"), globs, st.booleans()) | st.builds(
    Search, st.just("regex"), regexes, st.booleans()
)


def finds(machine: ByteDfa, text: bytes) -> bool:
    state = machine.dfa.start
    for byte in text:
        state = machine.dfa.rows[state][machine.classes[byte]]
    return machine.dfa.at_end[state]


def python_says(search: Search, text: bytes) -> bool:
    clause = Clause("name", search.operator, (search.value,), search.ignore_case)  # type: ignore[arg-type]
    return patterns.judge(clause)(text.decode("utf-8", "surrogateescape"))


def is_good(search: Search) -> bool:
    try:
        patterns.size(search.operator, search.value)
        python_says(search, b"")
    except ValueError:
        return False
    return True


def made(search: Search) -> ByteDfa:
    return searches.automaton(search, Budget(MOST_STEPS + 1))


@settings(max_examples=1500, deadline=None)
@given(clauses.filter(is_good), st.lists(texts, min_size=1, max_size=12))
def test_an_automaton_over_bytes_says_what_python_says_of_the_decoded_text(search: Search, given: list[bytes]) -> None:
    try:
        machine = made(search)
    except Unsupported:
        return  # It falls back to Python; that what matters does not is tested below.
    for text in given:
        assert finds(machine, text) == python_says(search, text), (search, text)


@settings(max_examples=600, deadline=None)
@given(clauses.filter(is_good), st.lists(texts, min_size=1, max_size=12))
def test_a_text_that_must_be_there_is_in_every_text_that_matches(search: Search, given: list[bytes]) -> None:
    needed = text_patterns.required(search)
    for text in given if needed is not None else ():
        if python_says(search, text):
            assert any(literal.text in (text.lower() if literal.ignore_case else text) for literal in needed or ())


@pytest.mark.parametrize(
    ("operator", "value"),
    [
        ("glob", "/home/*/.ssh/id_*"),
        ("glob", "/etc/?asswd"),
        ("glob", "/proc/[0-9]*/mem"),
        ("glob", "*[!a-z]é"),
        ("regex", r"^/tmp/.*\.sh$"),
        ("regex", r"(^|/)\.(bash|zsh)_history$"),
        ("regex", r"^/(usr/)?(local/)?s?bin/[^/]+$"),
        ("regex", "(?i)shadow|PASSWD"),
        ("regex", r"^/dev/(sd[a-z]\d*|nvme\d+n\d+(p\d+)?)$"),
        ("regex", "[0-9a-f]{64}"),
        ("regex", r"(?P<dir>/tmp|/var/tmp)/[\w.-]{1,8}\.so(\.\d+)*$"),
        ("exists", ""),
    ],
)
def test_patterns_that_people_write_have_an_automaton(operator: str, value: str) -> None:
    for ignore_case in (False, True):
        machine = made(Search(operator, value, ignore_case))
        assert len(machine.dfa.rows) <= 100


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (r"\broot\b", r"it has \b"),
        ("(?m)^a", "it looks at lines"),
        (r"\pL", r"it has \p"),
        ("a(?i)é", "ignores the case of a character beyond ASCII"),
        ("a.{300}b", f"more than {MOST_STATES} states"),
        ("(a{30}){30}", "takes more than 600 characters"),
        ("((((((a{2}){2}){2}){2}){2}){2}){15}b", "takes more than 600 characters"),
        ("(a|b)*a(a|b){20}", "more than"),
        ("(" * 60 + "a" + ")" * 60, "nested more than 40 deep"),
        ("a" * 9000, "more than 8192 characters"),
    ],
)
def test_a_pattern_without_an_automaton_says_why(value: str, why: str) -> None:
    with pytest.raises(Unsupported, match=why.replace("\\", "\\\\").replace("(?", r"\(\?")):
        made(Search("regex", value, False))


def test_equal_patterns_take_equally_much_of_the_budget_whether_they_were_made_before_or_not() -> None:
    search = Search("regex", "^/never/(made|before)+$", False)
    left = []
    for _ in range(2):
        budget = Budget(MOST_STEPS)
        searches.automaton(search, budget)
        left.append(budget.left)
    assert left[0] == left[1] < MOST_STEPS


def test_a_budget_that_is_used_up_refuses_what_was_made_before() -> None:
    search = Search("regex", "^/a+$", False)
    made(search)
    with pytest.raises(TooDear, match="too long"):
        searches.automaton(search, Budget(1))


@pytest.mark.parametrize(
    ("operator", "value", "texts"),
    [
        ("regex", r"\bshadow\b", ["shadow"]),
        ("regex", r"^/etc/(passwd|shadow)-?\b", ["passwd", "shadow"]),
        ("regex", r"(?:curl|wget)\b.*", ["curl", "wget"]),
        ("regex", r"(?i)\bRoot-x", ["root-x"]),
        ("regex", r"\b[ab]+\b", None),
        ("glob", "/home/*/.ssh/id_*", ["/.ssh/id_"]),
        ("glob", "*a?b*", ["a"]),
    ],
)
def test_what_must_be_there_is_the_longest_plain_piece(operator: str, value: str, texts: list[str] | None) -> None:
    needed = text_patterns.required(Search(operator, value, False))
    assert (None if needed is None else [literal.text.decode() for literal in needed]) == texts
