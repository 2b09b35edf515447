"""What the kernel is given to decide never says no where the rule says yes, and says so where it is not sure."""

from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bpfd.event import HOST, NOT_FOUND, Container, Event
from bpfd.plugin import Field, Named, Spelled
from bpfd.rules import model, predicate
from bpfd.rules import plan as planning
from bpfd.rules.automaton import NOTHING
from bpfd.rules.model import RUNTIMES, All, Any, Condition, Not
from bpfd.rules.plan import BITS, Plan

CALL = Named({0: "a", 1: "ab", 2: "A/", 7: "3x", 8: "12"})
HEX = Spelled(hex, lambda text: int(text, 16))
FIELDS = (
    Field("name", "a text"),
    Field("words", "a text with spaces", spaces=True),
    Field("size", "a number", type="s64"),
    Field("count", "a number that may be left out", type="u64", optional=True),
    Field("kind", "a number that is shown as text", type="u64", show=hex),
    Field("call", "a number that is shown by name", type="u64", show=CALL),
    Field("slow", "a number that is found out late", type="u64", late=True),
    Field("flag", "yes or no", type="bool"),
    Field("spelled", "a number in a spelling that can be read", type="u64", show=HEX),
    Field("rare", "yes, or left out", type="bool", optional=True),
)
LOW, HIGH, MOST = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
ALPHABET = "abA/é"
pieces = st.text(ALPHABET, min_size=1, max_size=3)
numbers = st.sampled_from([LOW, -3, -1, 0, 1, 2, 7, HIGH, MOST, MOST + 5, LOW - 5])
texts = st.builds(
    model.Test,
    st.sampled_from(["name", "words", "command", "kind", "user"]),
    st.sampled_from(["contains", "is", "prefix", "suffix"]),
    st.lists(pieces, min_size=1, max_size=3).map(tuple),
    st.booleans(),
)
pattern_texts = st.sampled_from(["name", "words", "command"])
globs = st.builds(
    model.Test,
    pattern_texts,
    st.just("glob"),
    st.lists(
        st.lists(st.sampled_from([*ALPHABET, "*", "?", "[!a]", "[a-b]", "[A-Z]", "\\*"]), min_size=1, max_size=5).map(
            "".join
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    st.booleans(),
)
regexes = st.builds(
    model.Test,
    pattern_texts,
    st.just("regex"),
    st.lists(
        st.sampled_from(
            [
                "a+b",
                "^a",
                "a$",
                "^(ab?|/)+$",
                "a.b",
                "[^a]b",
                "é?a",
                "(?i)k",
                r"\bab",
                r"a\Wb",
                "^.{2,3}$",
                "a|b|é",
                ".",
            ]
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    st.booleans(),
)
there = st.builds(model.Test, pattern_texts, st.just("exists"))
compared = st.builds(
    model.Test,
    st.sampled_from(["size", "count", "slow", "pid", "tgid", "uid", "returnValue", "tid"]),
    st.sampled_from(["is", "above", "below"]),
    st.lists(numbers.map(str), min_size=1, max_size=2).map(tuple),
)
runtimes = st.builds(
    model.Test,
    st.just("containerRuntime"),
    st.just("is"),
    st.lists(st.sampled_from(["docker", "kube", NOT_FOUND]), min_size=1, max_size=2).map(tuple),
)
named = st.builds(
    model.Test,
    st.just("call"),
    st.sampled_from(["is", "contains", "prefix", "suffix", "glob"]),
    st.lists(
        st.sampled_from(["a", "ab", "b", "A/", "x", "3", "3x", "12", "012", "-1", "2"]), min_size=1, max_size=3
    ).map(tuple),
    st.booleans(),
)
spelled = st.builds(
    model.Test,
    st.just("spelled"),
    st.sampled_from(["is", "is", "contains", "prefix"]),
    st.lists(
        st.sampled_from(["0x0", "0x7", "0xff", "0xFF", "7", "x", "0x" + "f" * 17, "-0x1"]), min_size=1, max_size=2
    ).map(tuple),
    st.booleans(),
)
yes_or_no = st.builds(
    model.Test,
    st.sampled_from(["flag", "rare"]),
    st.just("is"),
    st.sampled_from([("true",), ("false",), ("true", "false")]),
)
clauses = named | texts | globs | regexes | there | compared | runtimes | yes_or_no | spelled
conditions: st.SearchStrategy[Condition] = st.recursive(
    clauses,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: All(tuple(parts)))
        | st.lists(inner, max_size=3).map(lambda parts: Any(tuple(parts)))
        | inner.map(Not)
    ),
    max_leaves=6,
)


raw_texts = st.lists(
    st.sampled_from(
        [*(character.encode() for character in ALPHABET), b"k", b"K", b"\n", b"\xc3", b"\xff", b"\xe2\x84\xaa"]
    ),
    max_size=6,
).map(b"".join)


def decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


@st.composite
def events(draw: st.DrawFn) -> tuple[Event, dict[str, bytes], dict[str, int]]:
    """An event, and its texts and numbers as the kernel has them."""
    raw = {
        "name": draw(raw_texts),
        "words": draw(raw_texts).replace(b"/", b"\0"),
        "command": draw(st.lists(st.sampled_from([b"a", b"b", b"A", b"\xff"]), max_size=3).map(b"".join)),
    }
    held = {
        "size": draw(st.sampled_from([LOW, -3, -1, 0, 1, 2, 7, HIGH])),
        "count": draw(st.sampled_from([0, 1, 7, MOST])),
        "kind": draw(st.integers(0, 300)),
        "call": draw(st.sampled_from([0, 1, 2, 3, 7, 8, 12])),
        "slow": draw(st.integers(0, 3)),
        "flag": draw(st.sampled_from([0, 1, 2, MOST])),
        "rare": draw(st.integers(0, 1)),
        "spelled": draw(st.sampled_from([0, 7, 255, MOST])),
        "pid": draw(st.sampled_from([0, 1, 2, 7, 0xFFFFFFFF])),
        "uid": draw(st.sampled_from([0, 1, 7, 0xFFFFFFFF])),
        "gid": 0,
        "returnValue": draw(st.sampled_from([LOW, -3, -1, 0, 1, 7, HIGH])),
    }
    data = {"name": decoded(raw["name"]), "words": decoded(raw["words"].replace(b"\0", b" "))}
    data |= {
        "size": str(held["size"]),
        "kind": hex(held["kind"]),
        "call": CALL(held["call"]),
        "slow": str(held["slow"]),
        "spelled": hex(held["spelled"]),
        "flag": "true" if held["flag"] else "false",
    }
    if held["rare"]:
        data["rare"] = "true"
    if held["count"]:
        data["count"] = str(held["count"])
    container = draw(st.sampled_from([HOST, Container("id", "docker"), Container("id", "kube")]))
    event = Event(
        0,
        "mine",
        held["pid"],
        5,
        1,
        held["uid"],
        0,
        decoded(raw["command"]),
        held["returnValue"],
        data,
        container,
        user="ab",
    )
    return event, raw, held


def left(plan: Plan, event: Event, raw: dict[str, bytes], held: dict[str, int]) -> int:
    """The bits that the kernel leaves, by the plan."""
    bits = plan.bits & plan.scope[event.container.runtime]
    for name, numbered in plan.numbers.items():
        place = bisect_right(numbered.bounds, held[name], key=lambda bound: bound.lower) - 1
        bits &= numbered.bounds[place].wanted | numbered.free
    for name, walks in plan.texts.items():
        for walk in walks:
            found = NOTHING
            for automaton in walk.automata:
                found = found.with_(automaton.walk(raw[name]))
            if not found.undecided:
                bits &= (found.wanted | walk.free) & ~found.refused
    return bits


def judged(plan: Plan, rules: list[Condition], given: list[tuple[Event, dict[str, bytes], dict[str, int]]]) -> None:
    for event, raw, held in given:
        bits = left(plan, event, raw, held)
        candidates = {rule for bit, of in enumerate(plan.rules_of) if bits >> bit & 1 for rule in of}
        for number, rule in enumerate(rules):
            wanted = predicate.compile(rule, FIELDS)(event)
            if wanted:
                assert number in candidates, ("lost", rule)
            if number in plan.exact_bits:
                assert bool(bits & plan.exact_bits[number]) == wanted, ("not exact", rule)


@settings(max_examples=300, deadline=None)
@given(st.lists(conditions, min_size=1, max_size=5), st.lists(events(), min_size=1, max_size=4))
def test_a_plan_loses_nothing_and_is_exact_where_it_says_so(
    rules: list[Condition], given: list[tuple[Event, dict[str, bytes], dict[str, int]]]
) -> None:
    judged(planning.make(rules, FIELDS), rules, given)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(conditions, min_size=1, max_size=6),
    st.sets(st.integers(0, 89)),
    st.lists(events(), min_size=1, max_size=4),
)
def test_rules_that_share_bits_lose_nothing_and_those_that_must_be_alone_stay_exact(
    some: list[Condition], alone: set[int], given: list[tuple[Event, dict[str, bytes], dict[str, int]]]
) -> None:
    rules = [some[number % len(some)] for number in range(90)]
    plan = planning.make(rules, FIELDS, alone)
    assert len(plan.rules_of) <= BITS
    judged(plan, rules, given)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), max_size=4), st.booleans(), st.integers(-12, 12))
def test_intervals_of_a_number_are_those_that_counting_finds(
    ranges: list[tuple[int, int]], negated: bool, value: int
) -> None:
    part = Any(
        tuple(All((model.Test("size", "above", (str(a),)), model.Test("size", "below", (str(b),)))) for a, b in ranges)
    )
    plan = planning.make([Not(part) if negated else part], FIELDS)
    assume(not plan.inexact)  # too many alternatives when turned round
    bits = plan.bits
    for numbered in plan.numbers.values():
        bits &= numbered.bounds[bisect_right(numbered.bounds, value, key=lambda bound: bound.lower) - 1].wanted
    inside = any(a < value < b for a, b in ranges)
    assert bool(bits) == (inside != negated)


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        (model.Test("name", "regex", (r"\b.",)), 'name regex: the kernel can\'t search for "\\b.": it has \\b'),
        (model.Test("name", "regex", (r"x\b.",)), 'the kernel searches for a part of "x\\b." only: it has \\b'),
        (model.Test("name", "regex", ("(?m)^a$",)), "it looks at lines"),
        (model.Test("name", "regex", ("é",), ignore_case=True), "ignores the case of a character beyond ASCII"),
        (model.Test("name", "regex", ("a.{300}b",)), 'a part of "a.{300}b" only: it needs more than 512 states'),
        (Not(model.Test("name", "regex", (r"x\b",))), 'the kernel can\'t search for "x\\b": it has \\b'),
        (model.Test("kind", "is", ("0x1",)), "the text is made in Python"),
        (model.Test("user", "is", ("root",)), "only Python knows the field's text"),
        (model.Test("flag", "exists"), "the kernel can't compare so"),
        (model.Test("containerInit", "is", ("true",)), "only Python knows the field's text"),
        (model.Test("count", "is", ("0",)), "left out where it is 0"),
    ],
)
def test_what_the_kernel_does_not_decide_alone_is_named_with_the_reason(condition: Condition, why: str) -> None:
    plan = planning.make([condition, model.Test("name", "is", ("x",))], FIELDS)
    assert why in plan.inexact[0]
    assert 0 not in plan.exact_bits
    assert 1 in plan.exact_bits


def test_a_condition_of_too_many_alternatives_is_left_to_python() -> None:
    either = Any((model.Test("name", "contains", ("a",)), model.Test("words", "contains", ("b",))))
    plan = planning.make([All((either,) * 5)], FIELDS)
    assert "more than 16 alternatives" in plan.inexact[0]
    assert plan.rules_of == ((0,),)
    assert not plan.texts


def test_a_rule_that_can_never_hold_asks_for_nothing() -> None:
    never = All((model.Test("pid", "is", ("1",)), model.Test("pid", "is", ("2",))))
    assert planning.make([never, Any()], FIELDS).bits == 0


def test_no_rules_want_nothing() -> None:
    assert planning.make([], FIELDS).bits == 0


def test_rules_of_one_shape_share_bits_and_those_of_others_keep_theirs() -> None:
    rules: list[Condition] = [model.Test("name", "contains", (f"n{number}",)) for number in range(500)]
    rules.append(model.Test("pid", "is", ("1",)))
    plan = planning.make(rules, FIELDS, alone=[499])
    assert len(plan.rules_of) <= BITS
    assert (500,) in plan.rules_of
    assert (499,) in plan.rules_of
    assert set(plan.exact_bits) == {499}
    assert {rule for of in plan.rules_of for rule in of} == set(range(501))
    most = max(len(of) for of in plan.rules_of)
    assert most <= 500 // (BITS - 4) + 1, "they are spread over nearly all bits"


def test_what_keeps_out_one_of_the_rules_that_share_a_bit_does_not_keep_out_the_others() -> None:
    rules: list[Condition] = [
        All((model.Test("name", "contains", ("a",)), Not(model.Test("name", "contains", (f"x{number}x",)))))
        for number in range(200)
    ]
    plan = planning.make(rules, FIELDS)
    [walk] = plan.texts["name"]
    [automaton] = walk.automata
    found = automaton.walk(b"ax5x")
    bits = (found.wanted | walk.free) & ~found.refused
    assert {rule for bit, of in enumerate(plan.rules_of) if bits >> bit & 1 for rule in of} >= set(range(200)) - {5}


def test_a_table_that_would_be_too_large_leaves_the_field_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bpfd.rules.automaton_large.MOST_STATES", 1000)
    many = model.Test("name", "contains", tuple(f"{number:03d}{'x' * 9}{number:03d}" for number in range(500)))
    plan = planning.make([many, model.Test("pid", "is", ("1",))], FIELDS)
    assert "too large a table" in plan.inexact[0]
    assert not plan.texts
    assert set(plan.exact_bits) == {1}


def test_more_intervals_than_the_kernel_holds_leave_the_field_to_python() -> None:
    many = model.Test("size", "is", tuple(str(3 * number) for number in range(planning.MOST_BOUNDS)))
    plan = planning.make([many], FIELDS)
    assert "intervals" in plan.inexact[0]
    assert not plan.numbers
    assert plan.exact_bits == {}


def test_a_rule_for_some_runtimes_is_a_candidate_in_these_alone() -> None:
    plan = planning.make([model.Test("containerRuntime", "is", ("docker", "kube"))], FIELDS)
    assert {runtime for runtime, bits in plan.scope.items() if bits} == {"docker", "kube"}
    assert set(plan.scope) == set(RUNTIMES)
    other = planning.make([Not(model.Test("containerRuntime", "is", ("docker",)))], FIELDS)
    assert {runtime for runtime, bits in other.scope.items() if not bits} == {"docker"}


def test_names_of_numbers_are_for_the_kernel_where_no_number_could_be_meant() -> None:
    rules = [
        model.Test("call", "is", ("ab", "3")),
        model.Test("call", "contains", ("a",)),
        model.Test("call", "contains", ("1",)),
    ]
    plan = planning.make(rules, FIELDS)
    assert (sorted(plan.exact_bits), list(plan.inexact)) == ([0, 1], [2])
    assert {bound.lower for bound in plan.numbers["call"].bounds} == {0, 1, 2, 3, 4}


def test_the_kernel_decides_yes_and_no_alone_also_where_no_is_left_out() -> None:
    for name in ("flag", "rare"):
        for clause in (model.Test(name, "is", ("true",)), model.Test(name, "is", ("false",))):
            plan = planning.make([clause, Not(clause), model.Test("slow", "above", ("1",))], FIELDS)
            assert (set(plan.exact_bits), plan.inexact) == ({0, 1, 2}, {})


def test_a_number_that_is_spelled_is_compared_by_the_kernel_and_what_spells_none_never_holds() -> None:
    rules = [model.Test("spelled", "is", ("0xff",)), model.Test("spelled", "is", ("0xFF", "255", "x"))]
    plan = planning.make(rules, FIELDS)
    assert (set(plan.exact_bits), plan.inexact) == ({0, 1}, {})
    assert {bound.lower for bound in plan.numbers["spelled"].bounds} == {0, 0xFF, 0x100}


def test_ancestors_are_gathered_only_where_a_rule_asks_for_them() -> None:
    asking = Any((model.Test("name", "is", ("a",)), Not(model.Test("ancestors", "contains", ("sshd",)))))
    assert planning.make([asking], FIELDS).wants_ancestors
    assert not planning.make([model.Test("parent", "is", ("sshd",))], FIELDS).wants_ancestors


PEOPLE_WRITE = (
    "/home/*/.ssh/id_* /root/.ssh/* */.aws/credentials */.kube/config /etc/cron.*/* /var/spool/cron/* /proc/[0-9]*/mem "
    "/proc/*/environ /dev/shm/*.so */.git/config */.docker/config.json /etc/ssl/private/*.key */.env */id_rsa* /tmp/.* "
    "/sys/fs/cgroup/*/release_agent /run/containerd/*.sock */wp-config.php /lib*/systemd/system/*.service "
    "/usr/lib/modules/*/kernel/*.ko"
).split()
AND_SEARCH_FOR = (
    r"^/(usr/)?(local/)?s?bin/[^/]+$ ^/dev/(sd[a-z]\d*|nvme\d+n\d+(p\d+)?)$ \.(bash|zsh|python|mysql)_history$ "
    r"(?i)(passwd|shadow|secret) ^/(tmp|var/tmp|dev/shm)/.*\.(sh|py|pl|so)$ /\.(ssh|gnupg|aws)/ "
    r"^/proc/(self|\d+)/(maps|mem|root|fd) ^/etc/(passwd|shadow|sudoers(\.d/.*)?)$"
).split()


def test_thirty_patterns_that_people_write_are_one_automaton_that_decides_all_of_them() -> None:
    rules: list[Condition] = [model.Test("name", "glob", (pattern,)) for pattern in PEOPLE_WRITE]
    rules += [model.Test("name", "regex", (pattern,)) for pattern in AND_SEARCH_FOR]
    rules += [model.Test("name", "suffix", (".CONF",), ignore_case=True)]
    plan = planning.make(rules, FIELDS)
    assert not plan.inexact
    [walk] = plan.texts["name"]
    assert len(walk.automata) == 1
    assert walk.automata[0].states <= 4096
    for text, expected in (
        (b"/home/anna/.ssh/id_rsa", {0, 13, 25}),
        (b"/tmp/.x/My.conf", {14, 28}),
        (b"/usr/bin/\xff", {20}),
        (b"/nothing/here", set()),
    ):
        assert {bit for bit in range(64) if walk.automata[0].walk(text).wanted >> bit & 1} == expected


def test_all_clauses_on_one_field_are_judged() -> None:
    rule = All(
        (
            model.Test("name", "prefix", ("a",)),
            model.Test("name", "suffix", ("b",)),
            model.Test("name", "regex", ("^.{3,5}$",)),
            Not(model.Test("name", "glob", ("*?A*",))),
        )
    )
    plan = planning.make([rule], FIELDS)
    assert plan.exact_bits == {0: 1}
    assert len(plan.texts["name"]) == 3


MANY = model.Test("name", "contains", tuple(f"never-{number:04d}-{number * 7919 % 9973}" for number in range(500)))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(texts | globs | regexes, min_size=1, max_size=4),
    st.lists(events(), min_size=1, max_size=4),
    st.sampled_from([0, 11]),
)
def test_beside_many_plain_texts_other_patterns_have_automata_of_their_own_as_far_as_there_is_room(
    rules: list[Condition], given: list[tuple[Event, dict[str, bytes], dict[str, int]]], others: int
) -> None:
    more = tuple(Field(f"other{number}", "a text that no rule asks for") for number in range(others))
    plan = planning.make([MANY, *rules], FIELDS + more)
    judged(plan, [MANY, *rules], given)
    automata = sum(len(walk.automata) for walks in plan.texts.values() for walk in walks)
    assert automata <= 16 - others


@pytest.mark.parametrize(("others", "why"), [(8, ""), (11, "there is room for no other")])
def test_without_room_for_another_automaton_the_kernel_does_not_decide(others: int, why: str) -> None:
    more = tuple(Field(f"other{number}", "a text that no rule asks for") for number in range(others))
    plan = planning.make([MANY, model.Test("name", "glob", ("a*b?c",))], FIELDS + more)
    assert why in plan.inexact.get(1, "")
    assert (1 in plan.exact_bits) == (not why)
    twice = All((model.Test("name", "prefix", ("a",)), model.Test("name", "suffix", ("b",))))
    assert ("another clause on name" in planning.make([twice], FIELDS + more).inexact.get(0, "")) == bool(why)


def test_rules_that_must_be_alone_get_their_patterns_before_others() -> None:
    greedy = [model.Test("name", "glob", (f"*a{number}*b{number}*",)) for number in range(40)]
    mine = model.Test("name", "glob", ("/srv/*/secret?",))
    plan = planning.make([*greedy, mine], FIELDS, alone=[40])
    assert len(plan.inexact) > 30
    assert 40 in plan.exact_bits
