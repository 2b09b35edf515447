"""Lines of keys in TOML text."""

from __future__ import annotations

import time

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from bpfd.rules import locate

TEXT = '''# tracer = "no"
tracer = "exec"
"quoted \\u0041" = 1
description = """
tracer = "not this one"
[nor this]  ""quoted"" \\""" still
"""
literal = \'\'\'
[x]
\'\'\'
actions = [
  "stdout", # ]
  "kill",
]

[filterEvents.command]  # a comment
values = ["a", ["b",
  "c"], { deep = "d", list = [1,
    2] }]
other.dotted . "key" = { inner = 1, more.inner = 2 }
[[tests]]
event = { pid = 1, data = { path = "/etc" } }
[[tests]]
event.pid = 3
[tests.sub]
last = true
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("tracer",), 2),
        (("quoted A",), 3),
        (("description",), 4),
        (("literal",), 8),
        (("actions",), 11),
        (("actions", 0), 12),
        (("actions", 1), 13),
        (("filterEvents",), 16),
        (("filterEvents", "command"), 16),
        (("filterEvents", "command", "values"), 17),
        (("filterEvents", "command", "values", 1, 1), 18),
        (("filterEvents", "command", "values", 2), 18),
        (("filterEvents", "command", "values", 2, "list", 1), 19),
        (("filterEvents", "command", "other", "dotted", "key", "more", "inner"), 20),
        (("tests", 0), 21),
        (("tests", 0, "event", "data", "path"), 22),
        (("tests", 1), 23),
        (("tests", 1, "event", "pid"), 24),
        (("tests", 1, "sub", "last"), 26),
    ],
)
def test_each_key_and_element_is_found_on_its_line(path: locate.KeyPath, line: int) -> None:
    tomli.loads(TEXT)
    assert locate.lines(TEXT, [path]) == {path: line}


def test_a_key_that_is_missing_is_shown_at_its_nearest_parent() -> None:
    missing = ("filterEvents", "command", "nothing")
    assert locate.lines(TEXT, [missing, ("nothing",)]) == {missing: 16, ("nothing",): 1}


KEYS = st.sampled_from(["a", "b.c", '"d e"', "'f'", "g"])
VALUES = st.recursive(
    st.sampled_from(["1", "true", '"x"', "'y'", '"""\nz\n"""', "'''\n'''", "1.5", "1979-05-27"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: "[" + ",\n ".join(parts) + "]"),
    max_leaves=6,
)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=5, unique_by=lambda pair: pair[0][0:3]), KEYS, VALUES)
def test_the_last_key_is_found_whatever_stands_above_it(above: list[tuple[str, str]], header: str, value: str) -> None:
    text = "".join(f"{key} = {given}\n" for key, given in above) + f"[top.{header}]\n\nwanted = {value}\n"
    table = tomli.loads(text)
    parts = [str(part) for part in tomli.loads(f"{header}=1")]
    path: tuple[str, ...] = ("top", *parts, *(("c",) if header == "b.c" else ()), "wanted")
    assert table
    assert locate.lines(text, [path])[path] == text.count("\n", 0, text.index("wanted")) + 1


@given(st.text(alphabet="ab\"'\\[]{}=,.# \n1"))
def test_text_that_is_no_toml_never_raises(text: str) -> None:
    assert all(0 <= offset < len(text) for _, offset in locate.positions(text))


def test_keys_that_would_take_tomli_seconds_are_refused_at_once() -> None:
    text = "\n".join(f"b{number}." + ".".join("a" * 999) + " = 1" for number in range(520))
    begun = time.process_time()
    with pytest.raises(locate.TooManyParts) as caught:
        locate.refuse_long_keys(text)
    assert caught.value.line == 1
    assert time.process_time() - begun < 1
