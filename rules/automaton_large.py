"""An automaton of many patterns, built level by level with numpy.

A row is the row of the longest proper suffix, with the state's own children over it. 10,000 patterns of 20 bytes take
about 0.3 s; numpy takes 13 MB of memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import numpy.typing

from bpfd.rules.automaton import HIT, MOST_ENTRIES, MOST_STATES, Mask, TooLarge

Words = numpy.typing.NDArray[numpy.uint32]
Masks = numpy.typing.NDArray[numpy.uint64]
Level = tuple[Words, Words, Words]
"""States, their parents, and the symbols that lead to them."""


def build_table(
    sequences: Sequence[tuple[bool, bytes]], marks: Sequence[Mask], stride: int
) -> tuple[bytes, tuple[Mask, ...]]:
    """The same as `bpfd.rules.automaton.build_small`, for many sequences. Raises `TooLarge`."""
    trie = _Trie(sequences, stride)
    if trie.states > MOST_STATES or trie.states * stride > MOST_ENTRIES:
        raise TooLarge(f"{trie.states} states")
    table = numpy.zeros((trie.states, stride), dtype=numpy.uint32)
    found = numpy.zeros((trie.states, 3), dtype=numpy.uint64)
    for mark, state in zip(marks, trie.last, strict=True):
        found[state] |= numpy.array(mark, dtype=numpy.uint64)
    _fill(table, found, trie)
    unique, numbers = numpy.unique(found, axis=0, return_inverse=True)
    masks, numbers = _nothing_first(unique, numbers.reshape(-1))
    hit = numpy.where(numbers.astype(bool), numpy.uint32(HIT), numpy.uint32(0))
    entries = table * numpy.uint32(stride) | hit[table]
    entries[:, 0] = numbers
    return entries.astype(numpy.uint32).tobytes(), masks


def move(table: memoryview, stride: int, base: int, numbers: Sequence[int]) -> bytes:
    """The same as `bpfd.kernel.image` does for small tables: rows moved to `base`, masks given other numbers."""
    rows = numpy.frombuffer(table, dtype=numpy.uint32).reshape(-1, stride)
    moved = rows + numpy.uint32(base)
    moved[:, 0] = numpy.array(numbers, dtype=numpy.uint32)[rows[:, 0]]
    return moved.tobytes()


class _Trie:
    """All patterns' prefixes as states: 0 is the root, 1 where a text begins; each has a tree of levels below it."""

    def __init__(self, sequences: Sequence[tuple[bool, bytes]], stride: int) -> None:
        count = len(sequences)
        self.begin = 1
        self.states = 2
        self.levels: list[tuple[Level, Level]] = []
        """For each level: what lies below the root, and what lies below the begin."""
        tied = numpy.array([tied for tied, _ in sequences], dtype=bool)
        self.last = tied.astype(numpy.int64)
        """For each pattern, the state that it ends in."""
        lengths = numpy.array([len(symbols) for _, symbols in sequences], dtype=numpy.int64)
        flat = numpy.frombuffer(b"".join(symbols for _, symbols in sequences), dtype=numpy.uint8)
        begins = numpy.concatenate(([0], numpy.cumsum(lengths)[:-1])) if count else lengths
        for level in range(int(lengths.max(initial=0))):
            sides = []
            for side in (~tied, tied):
                alive = numpy.nonzero(side & (lengths > level))[0]
                sides.append(self._grow(alive, flat[begins[alive] + level], stride))
            self.levels.append((sides[0], sides[1]))
            if self.states > MOST_STATES:
                return

    def _grow(
        self, alive: numpy.typing.NDArray[numpy.int64], symbols: numpy.typing.NDArray[numpy.uint8], stride: int
    ) -> Level:
        """One more symbol for the patterns `alive`: a new state for each different prefix."""
        unique, inverse = numpy.unique(self.last[alive] * stride + symbols, return_inverse=True)
        states = numpy.arange(self.states, self.states + len(unique), dtype=numpy.uint32)
        self.last[alive] = states[inverse]
        self.states += len(unique)
        return states, (unique // stride).astype(numpy.uint32), (unique % stride).astype(numpy.uint32)


def _fill(table: Words, found: Masks, trie: _Trie) -> None:
    """Rows from the root down; a level below the root before the same level below the begin, which falls back to it."""
    if not trie.levels:
        return
    failing = numpy.zeros(trie.states, dtype=numpy.uint32)
    for side, (states, parents, symbols) in enumerate(trie.levels[0]):
        table[side] = table[0]
        failing[states] = table[0][symbols] if side else 0
        table[parents, symbols] = states
    for depth, sides in enumerate(trie.levels):
        for side, (states, parents, symbols) in enumerate(sides):
            if depth:
                failing[states] = table[failing[parents], symbols]
            table[states] = table[failing[states]]
            found[states] |= found[failing[states]]
            if depth + 1 < len(trie.levels):
                children, above, through = trie.levels[depth + 1][side]
                table[above, through] = children


def _nothing_first(
    unique: Masks, numbers: numpy.typing.NDArray[numpy.int64]
) -> tuple[tuple[Mask, ...], numpy.typing.NDArray[numpy.int64]]:
    """The masks as they are numbered, the empty one first. It sorts first, if it is there; the root never has one."""
    masks = tuple(Mask(int(wanted), int(refused), bool(undecided)) for wanted, refused, undecided in unique.tolist())
    if masks and masks[0] == Mask(0, 0, False):
        return masks, numbers
    return (Mask(0, 0, False), *masks), numbers + 1
