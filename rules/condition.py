"""Falco's condition language, read into a syntax tree. What its words mean is `resolve`'s.

    spawned and path startswith /etc/ and not (command in (apt, dpkg) or uid = 0)

`not` binds tightest, then `and`, then `or`. A word alone is a macro. Values are words or in quotes; in quotes a
backslash takes a following quote or backslash as it is, and is itself otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bpfd.rules.nearest import hint, quoted

MOST_DEEP = 64
"""How deep parentheses and `not` may be nested, macros included."""

UNARY = ("exists",)
LISTS = ("in", "pmatch")
BINARY = ("=", "==", "!=", "<", "<=", ">", ">=", "contains", "icontains", "startswith", "endswith", "glob", "iglob")
WORDS = ("regex",)
OPERATORS = (*BINARY, *WORDS, *LISTS, *UNARY)


class ConditionError(ValueError):
    """The condition can't be read; the text is `what is wrong; what to do`."""


@dataclass(frozen=True, slots=True)
class Item:
    """A value as written."""

    text: str
    in_quotes: bool = False


@dataclass(frozen=True, slots=True)
class Compare:
    """`field operator value`, or a list of values."""

    field: str
    operator: str
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Macro:
    name: str


@dataclass(frozen=True, slots=True)
class Both:
    """`and` between all of them."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """`or` between all of them."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Negated:
    part: Node


Node = Compare | Macro | Both | Either | Negated

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*(?:\[[^\[\]\s]*\])?")
_OPERATOR = re.compile(r"[=!<>]=?|[a-z]+")
_QUOTED = re.compile(r"""\"[^"\\]*+(?:\\.[^"\\]*+)*\"|'[^'\\]*+(?:\\.[^'\\]*+)*'""", re.DOTALL)
_BARE = re.compile(r"""[^\s()"',]+""")
_UNESCAPE = re.compile(r"""\\(["'\\])""")


def parse(text: str) -> Node:
    """Read a condition. Raises `ConditionError`; time and memory are linear in `text`."""
    reader = _Reader(text)
    node = reader.either(0)
    if not reader.at_end():
        raise reader.error('expected "and", "or" or the end')
    return node


class _Reader:
    """Recursive descent, with its depth bounded."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def either(self, depth: int) -> Node:
        parts = [self._both(depth)]
        while self._keyword("or"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self, depth: int) -> Node:
        parts = [self._one(depth)]
        while self._keyword("and"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _one(self, depth: int) -> Node:
        negations = 0
        while self._keyword("not"):
            negations += 1
        node = self._group(depth + 1) if self._mark("(") else self._clause()
        return Negated(node) if negations % 2 else node

    def _group(self, depth: int) -> Node:
        if depth > MOST_DEEP:
            raise ConditionError(f"is nested more than {MOST_DEEP} deep; give parts of it names in [macros]")
        node = self.either(depth)
        if not self._mark(")"):
            raise self.error('expected ")"')
        return node

    def _clause(self) -> Node:
        begin = self._at
        name = self._take(_NAME)
        if name is None or name.group() in ("and", "or"):
            self._at = begin
            raise self.error("expected a field or a macro")
        before = self._at
        operator = self._take(_OPERATOR)
        if operator is None or operator.group() in ("and", "or", "not"):
            self._at = before
            return Macro(name.group())
        if operator.group() not in OPERATORS:
            self._at = before
            what = f"{quoted(operator.group())} is no operator; {hint(operator.group(), OPERATORS, 'operators')}"
            raise ConditionError(what)
        return Compare(name.group(), operator.group(), self._items(operator.group()))

    def _items(self, operator: str) -> tuple[Item, ...]:
        if operator in UNARY:
            return ()
        if operator not in LISTS or not self._mark("("):
            return (self._item(),)
        items = []
        while not self._mark(")"):
            items.append(self._item())
            if not self._mark(","):
                if not self._mark(")"):
                    raise self.error('expected "," or ")"')
                break
        if not items:
            raise ConditionError(f'has an empty list after "{operator}"; name a value')
        return tuple(items)

    def _item(self) -> Item:
        if found := self._take(_QUOTED):
            return Item(_UNESCAPE.sub(r"\1", found.group()[1:-1]), in_quotes=True)
        if found := self._take(_BARE):
            return Item(found.group())
        raise self.error("expected a value")

    def at_end(self) -> bool:
        self._skip()
        return self._at == len(self._text)

    def _keyword(self, word: str) -> bool:
        before = self._at
        found = self._take(_NAME)
        if found is not None and found.group() == word:
            return True
        self._at = before
        return False

    def _mark(self, mark: str) -> bool:
        self._skip()
        if self._text.startswith(mark, self._at):
            self._at += len(mark)
            return True
        return False

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self._skip()
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def error(self, what: str) -> ConditionError:
        """What is wrong, with what stands there."""
        self._skip()
        there = self._text[self._at : self._at + 24]
        return ConditionError(f"{what}{f' before {quoted(there)}' if there else ' at its end'}")
