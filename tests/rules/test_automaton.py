"""An automaton finds what a search for each of its patterns would find."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpfd.rules import automaton, automaton_large, field_automata, sieve, sieve_large
from bpfd.rules.automaton import NOTHING, Automaton, Mask, Pattern, TooLarge
from bpfd.rules.field_automata import Room

ALPHABET = b"abAB/ \0\xc3\xa9"
few_bytes = st.lists(st.sampled_from(list(ALPHABET)), max_size=12).map(bytes)
patterns = st.builds(
    Pattern,
    st.lists(st.sampled_from(list(ALPHABET.replace(b"\0", b""))), min_size=1, max_size=4).map(bytes),
    st.booleans(),
    st.booleans(),
    st.integers(0, 15),
    st.integers(0, 15),
    st.booleans(),
    st.just(False),
)
with_case_or_without = patterns | patterns.map(
    lambda pattern: pattern._replace(text=pattern.text.lower(), ignore_case=True)
)
texts = few_bytes | st.binary(max_size=20)
pieces = st.lists(st.sampled_from(list(b"aB/ ")), min_size=1, max_size=9).map(bytes)
LARGE_ENOUGH = automaton.SMALL // 8 + 1


def build(listed: list[Pattern], same: tuple[tuple[int, int], ...] = ()) -> Automaton:
    [made] = field_automata.build(listed, (), same, Room(0))
    return made


def walked(listed: list[Pattern], text: bytes, same: tuple[tuple[int, int], ...] = ()) -> Mask:
    """What all automata that are made of `listed` find in `text`."""
    found = NOTHING
    for made in field_automata.build(listed, (), same, Room(2)):
        found = found.with_(made.walk(text))
    return found


def searched(listed: list[Pattern], text: bytes) -> Mask:
    """What a search for each pattern on its own finds."""
    wanted = refused = 0
    undecided = False
    for pattern in listed:
        if occurs(pattern, text):
            wanted |= pattern.wanted
            refused |= pattern.refused
            undecided = undecided or pattern.undecided
    return Mask(wanted, refused, undecided)


def occurs(pattern: Pattern, text: bytes) -> bool:
    if pattern.ignore_case:
        text = text.lower()
    if pattern.at_begin and pattern.at_end:
        return text == pattern.text
    if pattern.at_begin:
        return text.startswith(pattern.text)
    return text.endswith(pattern.text) if pattern.at_end else pattern.text in text


def padded(listed: list[Pattern]) -> list[Pattern]:
    """The same patterns among so many others that numpy builds the automaton; the others set nothing."""
    return [*listed, *(Pattern(b"%07dZ" % number, False, False, 0, 0) for number in range(LARGE_ENOUGH))]


@given(st.lists(with_case_or_without, max_size=8), st.lists(texts, min_size=1, max_size=5))
def test_an_automaton_finds_what_a_search_for_each_pattern_finds(listed: list[Pattern], given: list[bytes]) -> None:
    made = build(listed)
    for text in given:
        assert made.walk(text) == searched(listed, text)


@settings(max_examples=40, deadline=None)
@given(st.lists(with_case_or_without, min_size=1, max_size=30), st.lists(texts, min_size=1, max_size=5))
def test_one_built_with_numpy_finds_the_same(listed: list[Pattern], given: list[bytes]) -> None:
    many = padded(listed)
    for text in given:
        assert walked(many, text) == searched(listed, text)


@settings(max_examples=60, deadline=None)
@given(st.lists(patterns, max_size=12), st.booleans())
def test_both_ways_to_build_make_automata_that_find_alike(listed: list[Pattern], ignore_case: bool) -> None:
    if ignore_case:
        listed = [pattern._replace(text=pattern.text.lower(), ignore_case=True) for pattern in listed]
    same = ((0, ord(" ")),)
    small, large = build(listed, same), automaton_large.build(listed, same)
    for pattern in listed:
        for text in (pattern.text, pattern.text[1:], pattern.text + b"a\0", b"B" + pattern.text, pattern.text.upper()):
            assert small.walk(text) == large.walk(text)


@given(st.lists(with_case_or_without, min_size=1, max_size=6), few_bytes)
def test_bytes_that_count_as_one_are_found_for_each_other(listed: list[Pattern], text: bytes) -> None:
    made = build(listed, ((0, ord(" ")),))
    assert made.walk(text) == searched(listed, text.replace(b"\0", b" "))


@st.composite
def long_patterns_and_texts(draw: st.DrawFn) -> tuple[list[Pattern], list[bytes]]:
    """Patterns of some bytes at least, so that a walk looks far ahead, and texts made of them and of parts of them."""
    least = draw(st.integers(1, 9))
    letters = draw(st.sampled_from([b"aB/ ", b"abcdefghijkl/ "]))
    long_enough = st.lists(st.sampled_from(list(letters)), min_size=least, max_size=12).map(bytes)
    either, no = st.booleans(), st.just(False)
    one = st.builds(Pattern, long_enough, either, either, st.integers(1, 15), st.just(0), no, no)
    listed = draw(st.lists(one, min_size=1, max_size=9))
    if draw(either):
        listed = [pattern._replace(text=pattern.text.lower(), ignore_case=True) for pattern in listed]
    part = st.sampled_from([pattern.text for pattern in listed]) | pieces | st.just(b"A\0")
    made = draw(st.lists(st.lists(part, max_size=5).map(b"".join), min_size=1, max_size=6))
    return listed, [text[draw(st.integers(0, 3)) :] for text in made]


@given(long_patterns_and_texts(), st.booleans())
def test_long_patterns_are_found_wherever_they_begin(given: tuple[list[Pattern], list[bytes]], large: bool) -> None:
    listed, some = given
    same = ((0, ord(" ")),)
    made = automaton_large.build(listed, same) if large else build(listed, same)
    for text in some:
        assert made.walk(text) == searched(listed, text.replace(b"\0", b" "))


@given(st.lists(st.binary(max_size=9), max_size=30))
def test_both_ways_to_make_a_sieve_make_the_same(begins: list[bytes]) -> None:
    assert sieve_large.of_patterns(begins) == sieve.of_patterns(begins)


def test_a_walk_looks_at_every_fourth_place_where_no_long_pattern_begins() -> None:
    made = build([Pattern(b"/etc/shadow", False, False, 1, 0)]).sieve
    text = b"/usr/lib/x86_64-linux-gnu/libselinux.so.1"
    assert made.kind == sieve.BLOCKS
    assert [made.skips(text, at) for at in (0, 4, 8, 30)] == [4, 4, 4, 4]
    assert made.skips(text, 31) == 10, "it could not end within the text"
    assert [made.skips(b"/var" + b"/etc/shadow", at) for at in (0, 1, 2, 3, 4)] == [4, 0, 0, 0, 0]


def test_where_a_pattern_is_short_a_walk_looks_for_what_it_begins_with() -> None:
    made = build([Pattern(b".so", False, False, 1, 0), Pattern(b"/X", False, True, 1, 0)]).sieve
    assert made.kind == sieve.BYTES
    assert [made.skips(b"libselinux.so", at) for at in (0, 4, 7, 10)] == [4, 4, 0, 0]
    assert [made.skips(b"a/Xb", 0), made.skips(b"abcd/X", 0), made.skips(b"b", 0)] == [0, 4, 1]


def test_where_patterns_begin_with_anything_a_walk_takes_each_step() -> None:
    made = build([Pattern(bytes([byte]), False, False, 1, 0) for byte in b"abcdefghi"]).sieve
    assert (made.kind, made.skips(b"zzzz", 0)) == (sieve.NO_SIEVE, 0)


def test_bytes_that_a_sieve_would_tell_apart_are_found_for_each_other() -> None:
    listed = [Pattern(b"/etc/shadow", False, False, 1, 0)]
    for made in (build(listed, ((ord("x"), ord("/")),)), automaton_large.build(listed, ((ord("x"), ord("/")),))):
        assert made.walk(b"-xetcxshadow-").wanted == 1


def test_a_byte_that_counts_as_another_is_never_found_itself() -> None:
    listed, same = [Pattern(b"\0", False, False, 1, 0), Pattern(b"a\0b", False, False, 2, 0)], ((0, ord(" ")),)
    for made in (build(listed, same), automaton_large.build(listed, same)):
        assert [made.walk(text).wanted for text in (b"a\0b", b"a b", b"\0", b" ")] == [0, 0, 0, 0]


def test_without_patterns_nothing_is_found() -> None:
    assert build([]).walk(b"anything") == Mask(0, 0, False)


def test_an_empty_pattern_tied_to_both_ends_is_the_empty_text() -> None:
    made = build([Pattern(b"", True, True, 1, 0)])
    assert made.walk(b"").wanted == 1
    assert made.walk(b"x").wanted == 0


def test_a_hundred_thousand_patterns_are_built_within_bounds_or_refused() -> None:
    rng = random.Random(7)
    names = [b"/%x/%05d" % (rng.getrandbits(24), number) for number in range(100_000)]
    began = time.monotonic()
    try:
        made = build([Pattern(name, False, False, 1 << (number % 64), 0) for number, name in enumerate(names)])
    except TooLarge as error:
        pytest.fail(f"100,000 patterns of 12 bytes are not too many: {error}")
    assert time.monotonic() - began < 30
    assert made.states <= automaton_large.MOST_STATES
    assert len(made.table) <= automaton_large.MOST_ENTRIES
    for number in (0, 1, 77_777, 99_999):
        assert made.walk(b"/srv" + names[number] + b".txt").wanted >> (number % 64) & 1
    assert made.walk(b"/srv/nothing").wanted == 0


def test_more_states_than_there_may_be_are_refused() -> None:
    rng = random.Random(11)
    with pytest.raises(TooLarge, match=r"\d+ states"):
        build([Pattern(rng.randbytes(80).hex().encode(), False, False, 1, 0) for _ in range(8_000)])
