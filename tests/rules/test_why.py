"""Explanations, messages, lengths of time and covered rules."""

from __future__ import annotations

import pytest

from bpfd.event import Event
from bpfd.rules import duration, lint, output, why
from bpfd.rules.check import Known
from bpfd.rules.load import parse_rule
from bpfd.rules.model import Rule

EVENT = Event(1, "open", 10, 11, 5, 1000, 0, "cat", 0, {"path": "/x\n", "origin": "/etc"})


def rule(known: Known, text: str, name: str = "x") -> Rule:
    return parse_rule(f'tracer = "open"\n{text}', f"{name}.toml", known, name)


def test_each_clause_says_whether_it_held_and_what_it_looked_at(known: Known) -> None:
    made = rule(
        known,
        '[filterEvents]\npath.prefix = ["/etc"]\nuid.is = 0\n'
        '[excludeEvents]\ncommand = { values = ["CA"], ignoreCase = true }',
    )
    lines = why.explain(made.condition, known.tracers["open"], EVENT)
    assert [(line.depth, line.held, line.text) for line in lines] == [
        (0, False, "all of:"),
        (1, True, r'path starts with "/etc": path = "/x\n", origin = "/etc"'),
        (1, False, 'uid is "0": uid = "1000"'),
        (1, False, "not:"),
        (2, True, 'command contains "CA", upper or lower case: command = "cat"'),
    ]


def test_a_rule_that_names_nothing_is_explained_too(known: Known) -> None:
    (line,) = why.explain(rule(known, "").condition, known.tracers["open"], EVENT)
    assert (line.held, line.text) == (True, "every event")


def test_many_values_are_cut_and_missing_fields_are_nothing(known: Known) -> None:
    made = rule(known, "condition = 'size in (1,2,3,4,5,6) or size exists'")
    texts = [line.text for line in why.explain(made.condition, known.tracers["open"], EVENT)]
    assert texts == [
        "any of:",
        'size is "1", "2", "3", "4" or 2 more: size = nothing',
        "size is there: size = nothing",
    ]


def test_a_message_is_filled_from_the_event_and_printable() -> None:
    message = output.compile("{command} opened {path} {{{uid}}} {nothing}{containerName}!")
    assert message(EVENT) == r"cat opened /x\n {1000} !"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{command} {{x}}", ""),
        ("a } b", 'has a lone "}"; write it twice to show it'),
        ("{command", 'has a lone "{"; write it twice to show it'),
        ("{comand}", 'there is no field "comand"; did you mean "command"?'),
        ("x" * 5000, "has more than 4096 characters; shorten it"),
    ],
)
def test_a_message_is_checked(text: str, problem: str) -> None:
    from bpfd.rules import fields

    assert output.problem(text, fields.table(())) == problem


@pytest.mark.parametrize(
    ("text", "length"), [("500ms", 5 * 10**8), ("10s", 10**10), ("1h30m", 5400 * 10**9), ("30d", 2592000 * 10**9)]
)
def test_lengths_of_time_are_read(text: str, length: int) -> None:
    assert duration.parse(text) == length


@pytest.mark.parametrize(
    "text", ["", "10", "s", "10 s", "0s", "31d", "-1s", "1.5s", "\u0661s", 10, "9" * 10 + "s", "1s" * 99]
)
def test_what_is_no_length_of_time_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"length of time"):
        duration.parse(text)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("", '[filterEvents.path]\nprefix = "/etc/"'),
        ('[filterEvents.path]\nprefix = "/etc/"', '[filterEvents.path]\nprefix = ["/etc/ssh/", "/etc/pam.d/"]'),
        ('severity = "alert"', '[filterEvents.path]\nprefix = "/etc/"'),
        ('[filterEvents.path]\nvalues = ["etc"]', '[filterEvents.path]\nis = "/etc/shadow"'),
        ("[filterEvents.uid]\nis = [0, 1]", "[filterEvents.uid]\nis = [0]\n[filterEvents.gid]\nis = [0]"),
        ("[filterEvents.uid]\nabove = 999", "[filterEvents.uid]\nabove = 1000"),
        ("[filterEvents.uid]\nbelow = 10", "[filterEvents.uid]\nis = [0, 9]"),
        ('[filterEvents.path]\nglob = "/etc/*.conf"', '[filterEvents.path]\nis = "/etc/a.conf"'),
        ('[filterEvents.path]\nregex = "^/etc/"', '[filterEvents.path]\nis = ["/etc/a", "/etc/b"]'),
    ],
)
def test_a_rule_that_another_covers_is_found(known: Known, wide: str, narrow: str) -> None:
    assert lint.covered([rule(known, wide, "wide"), rule(known, narrow, "narrow")]) == {"narrow": "wide"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('[filterEvents.path]\nprefix = "/etc/"', '[filterEvents.path]\nsuffix = "/etc/x"'),
        ("", 'actions = ["kill"]\n[filterEvents.path]\nprefix = "/etc/"'),
        ("enabled = false", '[filterEvents.path]\nprefix = "/etc/"'),
        ('severity = "debug"', 'severity = "warning"\n[filterEvents.path]\nprefix = "/etc/"'),
        ("[excludeEvents.uid]\nis = 0", "[filterEvents.gid]\nis = 0"),
        ("[filterEvents.uid]\nabove = 999", "[filterEvents.uid]\nis = [999, 1000]"),
        ("[filterEvents.uid]\nabove = 999", "[filterEvents.uid]\nbelow = 2000"),
    ],
)
def test_rules_that_differ_are_not_covered(known: Known, one: str, other: str) -> None:
    assert lint.covered([rule(known, one, "one"), rule(known, other, "other")]) == {}


def test_of_two_equal_rules_one_is_named(known: Known) -> None:
    same = "[filterEvents.uid]\nis = [0]"
    assert lint.covered([rule(known, same, "a"), rule(known, same, "b")]) == {"a": "b"}
