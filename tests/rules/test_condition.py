"""Falco's condition language."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfd.errors import RuleError
from bpfd.event import Container, Event
from bpfd.rules import condition, predicate
from bpfd.rules.check import Known
from bpfd.rules.condition import Both, Compare, Either, Item, Macro, Negated
from bpfd.rules.load import parse_rule
from bpfd.rules.model import Condition

EVENT = Event(
    time=5,
    tracer="open",
    pid=10,
    tid=10,
    ppid=1,
    uid=0,
    gid=0,
    command="cat",
    return_value=3,
    data={"path": "/etc/shadow", "flags": "O_RDONLY", "size": "10", "peer": "10.1.2.3"},
    container=Container("4f1c", "docker", "web", "nginx:1.27", {"app": "shop"}),
)


def a(field: str, operator: str = "exists", *items: str) -> Compare:
    return Compare(field, operator, tuple(map(Item, items)))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a exists", a("a")),
        ("a", Macro("a")),
        ("a = b", a("a", "=", "b")),
        ("a=b", a("a", "=", "b")),
        ("a or b and c", Either((Macro("a"), Both((Macro("b"), Macro("c")))))),
        ("(a or b) and c", Both((Either((Macro("a"), Macro("b"))), Macro("c")))),
        ("not a and b", Both((Negated(Macro("a")), Macro("b")))),
        ("not not a", Macro("a")),
        ("not(a)", Negated(Macro("a"))),
        ("a in (b, /c/*, d-e)", a("a", "in", "b", "/c/*", "d-e")),
        ("a in b", a("a", "in", "b")),
        ("a in (b,)", a("a", "in", "b")),
        ("a.b[c.d/e] contains x", a("a.b[c.d/e]", "contains", "x")),
        ("\n a >= -3\n", a("a", ">=", "-3")),
        (r"""a = "x \" \\ \d y" """, Compare("a", "=", (Item(r"x " + '"' + r" \ \d y", True),))),
        ("a = 'x \"y'", Compare("a", "=", (Item('x "y', True),))),
        ('a = ""', Compare("a", "=", (Item("", True),))),
        ("notes and orders", Both((Macro("notes"), Macro("orders")))),
    ],
)
def test_the_language_reads_as_falcos(text: str, tree: condition.Node) -> None:
    assert condition.parse(text) == tree


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(",
        "a or",
        "and a",
        "a b",
        "a = ",
        "a in ()",
        "a in (b c)",
        "a = 'x",
        ")",
        "a) or (b",
        "a = b c",
        "= 3",
        "a !b",
    ],
)
def test_what_is_no_condition_is_an_error(text: str) -> None:
    with pytest.raises(condition.ConditionError):
        condition.parse(text)


@given(st.text(alphabet="ab()= '\"\\,notrdi<>!\n", max_size=60))
def test_any_text_is_a_condition_or_an_error(text: str) -> None:
    try:
        tree = condition.parse(text)
    except condition.ConditionError as error:
        assert str(error).isprintable()  # noqa: PT017 - both ways are right
    else:
        assert isinstance(tree, condition.Node)


def test_a_condition_of_a_mebibyte_takes_less_than_a_second() -> None:
    for text in (
        "not " * 250_000 + "a",
        "a or " * 200_000 + "a",
        "a in (" + "b," * 500_000 + ")",
        "a = '" + "\\'" * 500_000,
    ):
        begun = time.process_time()
        try:
            condition.parse(text)
        except condition.ConditionError as error:
            assert "expected a value" in str(error)  # noqa: PT017 - the last text has no end
        assert time.process_time() - begun < 2


def tree(known: Known, text: str, more: str = "") -> Condition:
    return parse_rule(f"tracer = 'open'\ncondition = '''{text}'''\n{more}", "x.toml", known, "x").condition


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("command = cat", True),
        ("command != cat", False),
        ("command in (dog, cat)", True),
        ("command startswith c and command endswith t", True),
        ("path contains shadow", True),
        ("path icontains SHADOW", True),
        ("path glob /etc/*", True),
        ("path iglob /ETC/*", True),
        ("path regex '^/etc/sh.*w$'", True),
        ("path pmatch (/etc, /var)", True),
        ("path pmatch (/etc/)", True),
        ("path pmatch (/etc/shadow)", True),
        ("path pmatch (/etc/sha)", False),
        ("path pmatch (/)", True),
        ("uid = 0 and pid in (9, 10)", True),
        ("uid > 0", False),
        ("uid >= 0", True),
        ("uid <= 0", True),
        ("uid < 1", True),
        ("size >= 10 and size <= 10", True),
        ("size > 10 or size < 10", False),
        ("returnValue >= -9223372036854775808", True),
        ("origin exists", False),
        ("not origin exists", True),
        ("origin = ''", True),
        ("path != ''", True),
        ("peer = 10.1.2.3", True),
        ("peer in (192.168.0.0/16, 10.0.0.0/8)", True),
        ("peer in (fd00::/8)", False),
        ("containerLabel[app] = shop", True),
        ("containerLabel[tier] exists", False),
        ("containerRuntime = docker and containerName = web", True),
        ("flags contains O_RDONLY or nothing", True),
    ],
)
def test_each_operator_means_what_falco_means(known: Known, text: str, expected: bool) -> None:
    fields = known.tracers["open"]
    made = tree(known, text, "[macros]\nnothing = 'uid = 77'\n")
    assert predicate.compile(made, fields)(EVENT) is expected


def test_macros_and_lists_are_put_in(known: Known) -> None:
    more = """
[macros]
reads = "flags contains O_RDONLY"
sensitive = "reads and path startswith /etc/"
[lists]
pagers = ["less", "cat"]
"""
    matches = predicate.compile(tree(known, "sensitive and command in (pagers, vim)", more), known.tracers["open"])
    assert matches(EVENT)
    assert matches(EVENT._replace(command="vim"))
    assert not matches(EVENT._replace(command="pagers"))
    quoted = predicate.compile(tree(known, 'command in ("pagers")', more), known.tracers["open"])
    assert quoted(EVENT._replace(command="pagers"))


@pytest.mark.parametrize("depth", [1, 60])
def test_deep_trees_can_be_compiled_and_compared(known: Known, depth: int) -> None:
    text = "not (uid = 1 or " * depth + "uid = 0" + ")" * depth
    made = tree(known, text)
    assert made == tree(known, text)
    assert hash(made) == hash(tree(known, text))
    assert predicate.compile(made, known.tracers["open"])(EVENT) is (depth % 2 == 0)


def test_a_thousand_parentheses_and_macros_that_explode_end_in_an_error_at_once(known: Known) -> None:
    chain = "".join(f"m{n} = 'uid = 1 or (uid = 2 and m{n - 1})'\n" for n in range(1, 500))
    double = "".join(f"m{n} = 'm{n - 1} or m{n - 1}'\n" for n in range(1, 100))
    begun = time.process_time()
    for text, macros in (("(" * 1000 + "uid = 0" + ")" * 1000, ""), ("m499", chain), ("m99", double)):
        with pytest.raises(RuleError):
            tree(known, text, f"[macros]\nm0 = 'uid = 0'\n{macros}")
    assert time.process_time() - begun < 1
