"""Globs, regular expressions and many values at once, against plain definitions of what they mean."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpfd.rules import glob, model, patterns
from bpfd.rules.model import Operator

TEXT = st.text(alphabet="ab/.*?[]-!\\\nAé\udc80", max_size=8)


def judge(operator: Operator, *values: str, ignore_case: bool = False) -> Callable[[str], bool]:
    return patterns.judge(model.Test("path", operator, values, ignore_case))


PLAIN: dict[Operator, Callable[[str, str], bool]] = {
    "contains": lambda text, value: value in text,
    "is": lambda text, value: text == value,
    "prefix": lambda text, value: text.startswith(value),
    "suffix": lambda text, value: text.endswith(value),
}
WORDS = st.text(alphabet="abAB/é", min_size=1, max_size=7)


@given(
    st.sampled_from(list(PLAIN)),
    st.one_of(st.lists(WORDS, min_size=1, max_size=4), st.lists(WORDS, min_size=17, max_size=40)),
    st.text(alphabet="abAB/é\udc80", max_size=20),
    st.booleans(),
)
def test_values_are_alternatives_however_many(
    operator: Operator, values: list[str], text: str, ignore_case: bool
) -> None:
    def folded(word: str) -> str:
        return "".join(c.lower() if c.isascii() else c for c in word) if ignore_case else word

    expected = any(PLAIN[operator](folded(text), folded(value)) for value in values)
    assert judge(operator, *values, ignore_case=ignore_case)(text) is expected


def matches(pieces: tuple[glob.Piece, ...], text: str) -> bool:
    """What a glob means, as slowly as it can be said."""
    if not pieces:
        return not text
    first, rest = pieces[0], pieces[1:]
    match first:
        case glob.Literal():
            return text.startswith(first.text) and matches(rest, text[len(first.text) :])
        case glob.AnyRun():
            return any(matches(rest, text[at:]) for at in range(len(text) + 1))
        case glob.AnyOne():
            return bool(text) and matches(rest, text[1:])
        case glob.OneOf():
            inside = any(low <= text[:1] <= high for low, high in first.ranges)
            return bool(text) and inside is not first.negated and matches(rest, text[1:])


@settings(max_examples=400)
@given(st.lists(st.text(alphabet="ab/.*?[]-!\\é", min_size=1, max_size=6), min_size=1, max_size=3), TEXT)
def test_a_glob_matches_what_its_pieces_say(values: list[str], text: str) -> None:
    parsed = []
    for value in values:
        try:
            parsed.append((value, glob.parse(value)))
        except ValueError as error:
            assert "turn it round" in str(error)  # noqa: PT017 - both ways are right
    if parsed:
        expected = any(matches(pieces, text) for _, pieces in parsed)
        assert judge("glob", *(value for value, _ in parsed))(text) is expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("/etc/*", "/etc/a/b", True),
        ("/etc/*", "/etcx", False),
        ("*.sh", "/tmp/a\n.sh", True),
        ("*/.ssh/*", "/root/.ssh/id", True),
        ("/tmp/?", "/tmp/\udc80", True),
        ("/tmp/?", "/tmp/é", True),
        ("/tmp/?", "/tmp/", False),
        ("[!a-c]x", "dx", True),
        ("[!a-c]x", "bx", False),
        ("[]a]", "]", True),
        ("[a", "[a", True),
        (r"\*", "*", True),
        (r"\*", "x", False),
        (r"[\]x]", "]", True),
        ("a.c", "abc", False),
        ("*", "", True),
        ("**a**", "bab", True),
        ("a\\", "a\\", True),
    ],
)
def test_globs_by_example(pattern: str, text: str, expected: bool) -> None:
    assert judge("glob", pattern)(text) is expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("shadow", "/etc/shadow-", True),
        ("^/etc/(shadow|passwd)$", "/etc/passwd", True),
        ("^/etc/(shadow|passwd)$", "/etc/passwd\n", False),
        ("^/tmp/.*[.]sh$", "/tmp/\udcff\n.sh", True),
        ("^.$", "\udc80", True),
        ("^..$", "é", False),
        ("^[^/]$", "\udc80", True),
        ("é", "\udcc3\udca9", False),
        ("(?i)SHADOW", "shadow", True),
        ("a|b", "xb", True),
        (r"\d{3}", "a123", True),
    ],
)
def test_regular_expressions_by_example(pattern: str, text: str, expected: bool) -> None:
    assert judge("regex", pattern)(text) is expected
    assert judge("regex", "nosuchthing", pattern)(text) is expected


def test_flags_inside_one_regular_expression_do_not_reach_the_next() -> None:
    both = judge("regex", "(?i)one", "two")
    assert both("ONE")
    assert not both("TWO")


def test_case_is_ignored_where_it_is_asked_for() -> None:
    assert judge("regex", "shadow", ignore_case=True)("SHADOW")
    assert judge("glob", "*.SH", ignore_case=True)("/tmp/x.sH")
    assert judge("glob", "?[A-C]", ignore_case=True)("xb")


@pytest.mark.parametrize("pattern", ["(x+x+)+y", "(a*)*b", "^(([a-z])+.)+[A-Z]([a-z])+$", "(.*)(.*)(.*)(.*)(.*)[^a]b"])
def test_no_pattern_takes_exponential_time(pattern: str) -> None:
    found = judge("regex", pattern)
    begun = time.process_time()
    assert not found("x" * 4000 + "a" * 95)
    assert time.process_time() - begun < 1


def test_a_glob_of_stars_is_linear() -> None:
    found = judge("glob", "*a" * 40 + "b")
    begun = time.process_time()
    assert not found("a" * 4000)
    assert time.process_time() - begun < 1


def test_a_hundred_thousand_values_are_indexed_within_a_second_and_searched_at_once() -> None:
    values = tuple(f"/usr/lib/thing-{number:06}" for number in range(100_000))
    begun = time.process_time()
    found = judge("contains", *values)
    assert time.process_time() - begun < 1
    begun = time.process_time()
    for _ in range(100):
        assert found("/var/usr/lib/thing-099999/x")
        assert not found("/var/usr/lib/other-thing/0000")
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    ("operator", "value", "what"),
    [
        ("regex", "(", "missing \\)"),
        ("regex", "a{1001}", "repetition"),
        ("regex", r"\Cx", "use . instead"),
        ("regex", "(?<=a)b", "RE2"),
        ("glob", "[z-a]", "turn it round"),
    ],
)
def test_a_pattern_that_is_none_is_refused(operator: str, value: str, what: str) -> None:
    with pytest.raises(patterns.PatternError, match=what):
        patterns.size(operator, value)


def test_an_escaped_backslash_before_a_c_is_no_forbidden_escape() -> None:
    assert patterns.size("regex", r"\\C") > 0
    assert judge("regex", r"\\C")("\\C")


@pytest.mark.parametrize("value", ["(?P<n>a)", "(?P<n>a)|(?P<m>(b))", "x(?:(a))(?P<n>b)?"])
def test_groups_with_a_name_change_nothing(value: str) -> None:
    plain = value.replace("?P<n>", "").replace("?P<m>", "")
    for text in ("", "c", "a", "xa", "b"):
        assert judge("regex", value)(text) is judge("regex", plain)(text)
    assert not judge("regex", value)("c")
