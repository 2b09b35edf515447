"""Macros and lists: names for parts of conditions, from any file of the rules directory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bpfd.rules import condition, values
from bpfd.rules.problems import Problems

KEYS = ("macros", "lists")
_KEYS = frozenset(KEYS)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_RESERVED = ("and", "or", "not", *condition.OPERATORS)


@dataclass(frozen=True, slots=True)
class Definitions:
    """What conditions may use, by name."""

    macros: Mapping[str, condition.Node] = field(default_factory=dict)
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def merged(self, other: Definitions) -> Definitions:
        """Both; `other` wins where both have a name."""
        if not (self and other):
            return self or other
        return Definitions({**self.macros, **other.macros}, {**self.lists, **other.lists})

    def __bool__(self) -> bool:
        return bool(self.macros or self.lists)


NONE = Definitions()


def is_library(table: Mapping[str, object]) -> bool:
    """Whether a file holds macros and lists only, and no rule."""
    return not _KEYS.isdisjoint(table) and all(key in (*KEYS, "description") for key in table)


def read(table: Mapping[str, object], problems: Problems) -> Definitions:
    """The `[macros]` and `[lists]` of a file's table. What is wrong goes into `problems`."""
    if _KEYS.isdisjoint(table):
        return NONE
    macros = {}
    for name, text in _named(table, "macros", problems).items():
        if not isinstance(text, str):
            problems.add(("macros", name), f"is {values.kind(text)}, not a condition; write it in quotes")
            continue
        try:
            macros[name] = condition.parse(text)
        except condition.ConditionError as error:
            problems.add(("macros", name), str(error))
    lists = {
        name: values.strings(items, ("lists", name), problems, f'{name} = ["a", "b"]')
        for name, items in _named(table, "lists", problems).items()
    }
    return Definitions(macros, lists)


def _named(table: Mapping[str, object], key: str, problems: Problems) -> dict[str, object]:
    named = table.get(key, {})
    if not isinstance(named, dict):
        problems.add((key,), f"is {values.kind(named)}, not a table; write [{key}] and below it a line for each")
        return {}
    good = {}
    for name, value in named.items():
        if not _NAME.fullmatch(name) or name in _RESERVED:
            problems.add((key, name), "is no name that a condition can use; take letters, digits and _")
        else:
            good[name] = value
    return good
