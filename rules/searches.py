"""The automaton of one pattern that is more than plain text, made once and kept while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from bpfd.rules import bytewise, dfa, positions, re2_syntax
from bpfd.rules.budget import Budget, TooDear
from bpfd.rules.bytewise import ByteDfa
from bpfd.rules.expression import ANY, Chars, Expression, Unsupported, of_glob

MOST_STEPS = 40_000
"""What one pattern may take, in steps of `Budget`."""
_ROOM = 1 << 20
"""How many entries all automata that are kept may have together."""


class Search(NamedTuple):
    """A pattern that takes an automaton of its own: a glob, a regular expression, or that there is any text."""

    operator: str
    value: str
    ignore_case: bool


class _Made(NamedTuple):
    found: ByteDfa | str
    """The automaton, or why there is none."""
    steps: int

    @property
    def size(self) -> int:
        return 256 if isinstance(self.found, str) else 256 + len(self.found.dfa.rows) * len(self.found.dfa.rows[0])


class _Kept:
    """Automata by pattern; the one that was asked for the longest ago goes first. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: OrderedDict[Search, _Made] = OrderedDict()
        self._size = 0

    def get(self, search: Search) -> _Made:
        with self._lock:
            made = self._made.get(search)
            if made is not None:
                self._made.move_to_end(search)
                return made
        made = _make(search)
        with self._lock:
            if search not in self._made:
                self._made[search] = made
                self._size += made.size
            while self._size > _ROOM:
                self._size -= self._made.popitem(last=False)[1].size
        return made


_kept = _Kept()


def automaton(search: Search, budget: Budget) -> ByteDfa:
    """The automaton of `search`. It takes as much of `budget` whether it is made now or was before, so that the same
    rules get the same plan. Any thread.

    Raises `Unsupported` or `TooDear`, which say why there is none.
    """
    budget.spend(1)
    made = _kept.get(search)
    budget.spend(made.steps)
    if isinstance(made.found, str):
        raise Unsupported(made.found)
    return made.found


def expression(search: Search, loosely: bool = False) -> Expression:
    """What the pattern is made of; `loosely`: what matches it all, and maybe more. Raises `Unsupported`."""
    if search.operator == "exists":
        return Chars(ANY)
    if search.operator == "regex":
        return re2_syntax.parse(search.value, search.ignore_case, loosely=loosely)
    try:
        return of_glob(search.value, search.ignore_case)
    except ValueError as error:
        raise Unsupported(str(error)) from None


def _make(search: Search) -> _Made:
    budget = Budget(MOST_STEPS)
    try:
        parsed = expression(search)
        budget.spend(len(search.value))
        places = positions.of(parsed, budget)
        symbols = dfa.alphabet(places.takes)
        found: ByteDfa | str = bytewise.of(dfa.determine(places, symbols, budget), symbols, budget)
    except (Unsupported, TooDear) as error:
        found = str(error)
    return _Made(found, MOST_STEPS - max(budget.left, 0))
