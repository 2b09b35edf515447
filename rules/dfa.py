"""Deterministic automata: made from an expression's places by sets of them, and made as small as can be."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from bpfd.rules.budget import Budget, TooDear
from bpfd.rules.expression import MOST_CHARACTER, Ranges
from bpfd.rules.positions import FIRST_BIT, FOUND, FOUND_AT_END, Positions

MOST_STATES = 512
"""How many states one pattern may have."""
FOUND_STATE = 0
"""The state in which the pattern has matched, whatever follows. It leads to itself."""


@dataclass(frozen=True, slots=True)
class Dfa:
    """States by number, with a row each: for each class of symbols, the next state."""

    rows: tuple[tuple[int, ...], ...]
    at_end: tuple[bool, ...]
    """For each state, whether the pattern has matched if the text ends there."""
    start: int


@dataclass(frozen=True, slots=True)
class Alphabet:
    """The characters in classes: all of one class are in the same sets."""

    lows: tuple[int, ...]
    """Where a run of characters of one class begins; the first is 0."""
    class_of_run: tuple[int, ...]
    sets: tuple[int, ...]
    """For each class, the bits of the places that take it."""

    def class_of(self, character: int) -> int:
        return self.class_of_run[self.run_of(character)]

    def run_of(self, character: int) -> int:
        return bisect_right(self.lows, character) - 1


def alphabet(takes: Sequence[Ranges]) -> Alphabet:
    """The classes of what the places of an expression take."""
    changes: dict[int, int] = {0: 0}
    for place, ranges in enumerate(takes):
        bit = 1 << (FIRST_BIT + place)
        for low, high in ranges:
            changes[low] = changes.get(low, 0) ^ bit
            changes[high + 1] = changes.get(high + 1, 0) ^ bit
    classes: dict[int, int] = {}
    lows, numbers = sorted(low for low in changes if low <= MOST_CHARACTER), []
    bits = 0
    for low in lows:
        bits ^= changes[low]
        numbers.append(classes.setdefault(bits, len(classes)))
    return Alphabet(tuple(lows), tuple(numbers), tuple(classes))


def determine(positions: Positions, symbols: Alphabet, budget: Budget) -> Dfa:
    """The automaton whose states are sets of places. Raises `TooDear`."""
    if positions.at_begin & FOUND:
        return Dfa(((0,) * len(symbols.sets), (1,) * len(symbols.sets)), (True, True), 1)
    numbers = {positions.at_begin: 1}
    sets = [FOUND, positions.at_begin]
    rows: list[tuple[int, ...]] = [(FOUND_STATE,) * len(symbols.sets)]
    at = 1
    while at < len(sets):
        row = []
        for taken in symbols.sets:
            reached = _step(sets[at] & taken, positions, budget)
            if reached & FOUND:
                row.append(FOUND_STATE)
                continue
            if reached not in numbers:
                numbers[reached] = len(sets)
                sets.append(reached)
                if len(sets) > MOST_STATES:
                    raise TooDear(f"it needs more than {MOST_STATES} states")
            row.append(numbers[reached])
        rows.append(tuple(row))
        at += 1
    return minimal(Dfa(tuple(rows), (True, *(bool(places & FOUND_AT_END) for places in sets[1:])), 1), budget)


def _step(places: int, positions: Positions, budget: Budget) -> int:
    follow, reached, steps = positions.follow, positions.anew, 1
    while places:
        lowest = places & -places
        reached |= follow[lowest.bit_length() - 1 - FIRST_BIT]
        places ^= lowest
        steps += 1
    budget.spend(steps)
    return reached


def minimal(dfa: Dfa, budget: Budget) -> Dfa:
    """The smallest automaton that judges alike (Hopcroft 1971). The found state stays the first, and by itself."""
    blocks = _blocks(dfa, budget)
    block_of = [0] * len(dfa.rows)
    ordered = sorted(blocks, key=min)
    for number, block in enumerate(ordered):
        for state in block:
            block_of[state] = number
    chosen = [min(block) for block in ordered]
    rows = tuple(tuple(block_of[target] for target in dfa.rows[state]) for state in chosen)
    return Dfa(rows, tuple(dfa.at_end[state] for state in chosen), block_of[dfa.start])


def _blocks(dfa: Dfa, budget: Budget) -> list[set[int]]:
    """The states in blocks of those that judge alike."""
    count = len(dfa.rows)
    columns = dict.fromkeys(zip(*dfa.rows, strict=True))  # classes that lead alike everywhere are looked at once
    sources: list[list[list[int]]] = []
    for column in columns:
        leading: list[list[int]] = [[] for _ in range(count)]
        for state, target in enumerate(column):
            leading[target].append(state)
        sources.append(leading)
    budget.spend(count * len(columns) // 4)
    others = range(1, count)
    blocks = [{FOUND_STATE}, {s for s in others if dfa.at_end[s]}, {s for s in others if not dfa.at_end[s]}]
    blocks = [block for block in blocks if block]
    block_of = [0] * count
    for number, block in enumerate(blocks):
        for state in block:
            block_of[state] = number
    waiting = set(range(len(blocks)))
    while waiting:
        splitter = tuple(blocks[waiting.pop()])
        for leading in sources:
            reached = [source for target in splitter for source in leading[target]]
            budget.spend(1 + len(reached) // 4)
            for number, inside in _by_block(reached, block_of).items():
                if len(inside) == len(blocks[number]):
                    continue
                blocks[number] -= inside
                new = len(blocks)
                blocks.append(inside)
                for state in inside:
                    block_of[state] = new
                smaller = new if len(inside) <= len(blocks[number]) else number
                waiting.add(new if number in waiting else smaller)
    return blocks


def _by_block(states: Sequence[int], block_of: Sequence[int]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for state in states:
        found.setdefault(block_of[state], set()).add(state)
    return found
