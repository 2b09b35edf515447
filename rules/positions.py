"""An expression as the places where it takes a character, and which of them may follow which (Glushkov's automaton)."""

from __future__ import annotations

from dataclasses import dataclass, field

from bpfd.rules.budget import Budget, TooDear
from bpfd.rules.expression import Begin, Chars, Either, End, Expression, Ranges, Repeat, Sequence

MOST_POSITIONS = 600
"""How many characters an expression may take, with all its repetitions written out."""

FOUND, FOUND_AT_END = 1, 2
"""The lowest bits of a set: the expression has matched; it has if the text ends here."""
FIRST_BIT = 2
"""The bit of the first place."""


@dataclass(frozen=True, slots=True)
class Positions:
    """Sets of places are ints, a bit for each, with FOUND and FOUND_AT_END."""

    takes: tuple[Ranges, ...]
    """What each place takes."""
    follow: tuple[int, ...]
    """For each place, the set that comes after it."""
    at_begin: int
    """The set where the text begins."""
    anew: int
    """What is added after each character: the search begins there too."""


def of(expression: Expression, budget: Budget) -> Positions:
    """The places of `expression`. Raises `TooDear`."""
    if _size(expression) > MOST_POSITIONS:
        raise TooDear(f"it takes more than {MOST_POSITIONS} characters, with its repetitions written out")
    graph = _Graph()
    start = graph.node()
    graph.accept = graph.add(expression, start)
    after: dict[int, int] = {}
    follow = []
    for _, target in graph.takes:
        if target not in after:
            after[target] = graph.reach(target, False, budget)
        follow.append(after[target])
    at_begin, anew = graph.reach(start, True, budget), graph.reach(start, False, budget)
    return Positions(tuple(ranges for ranges, _ in graph.takes), tuple(follow), at_begin, anew)


def _size(expression: Expression) -> int:
    match expression:
        case Chars():
            return 1
        case Sequence(parts) | Either(parts):
            return sum(map(_size, parts)) + 1
        case Repeat(part, least, most):
            return _size(part) * max(least + (most is None), most or 0)
        case _:
            return 1


@dataclass(slots=True)
class _Graph:
    """Nodes with ways between them: free ones, ones that only the text's begin or end opens, and characters."""

    ways: list[list[tuple[type | None, int]]] = field(default_factory=list)
    takes: list[tuple[Ranges, int]] = field(default_factory=list)
    """For each place, what it takes and where it leads."""
    taken_at: list[list[int]] = field(default_factory=list)
    """For each node, the bits of the places there."""
    accept: int = 0

    def node(self) -> int:
        self.ways.append([])
        self.taken_at.append([])
        return len(self.ways) - 1

    def add(self, expression: Expression, start: int) -> int:
        """Lay `expression` out from `start`; returns where it ends."""
        match expression:
            case Chars(ranges):
                end = self.node()
                self.taken_at[start].append(1 << (FIRST_BIT + len(self.takes)))
                self.takes.append((ranges, end))
                return end
            case Sequence(parts):
                for part in parts:
                    start = self.add(part, start)
                return start
            case Either(parts):
                end = self.node()
                for part in parts:
                    self._lead(self.add(part, self._copy(start)), end)
                return end
            case Repeat(part, least, most):
                return self._repeat(part, least, most, start)
            case Begin() | End():
                end = self.node()
                self.ways[start].append((type(expression), end))
                return end

    def _copy(self, start: int) -> int:
        node = self.node()
        self._lead(start, node)
        return node

    def _lead(self, start: int, end: int) -> None:
        self.ways[start].append((None, end))

    def _repeat(self, part: Expression, least: int, most: int | None, start: int) -> int:
        for _ in range(least):
            start = self.add(part, start)
        end = self.node()
        if most is None:
            loop = self._copy(start)
            self._lead(self.add(part, loop), loop)
            self._lead(loop, end)
            return end
        for _ in range(most - least):
            self._lead(start, end)
            start = self.add(part, self._copy(start))
        self._lead(start, end)
        return end

    def reach(self, start: int, at_begin: bool, budget: Budget) -> int:
        """The set that `start` reaches without taking a character."""
        found = 0
        seen = set()
        waiting = [(start, False)]
        while waiting:
            node, ended = place = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            budget.spend(1)
            if node == self.accept:
                found |= FOUND_AT_END if ended else FOUND | FOUND_AT_END
            if not ended:
                for bit in self.taken_at[node]:
                    found |= bit
            for only, target in self.ways[node]:
                if only is None or (only is Begin and at_begin):
                    waiting.append((target, ended))
                elif only is End:
                    waiting.append((target, True))
        return found
