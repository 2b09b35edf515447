"""Thousands of patterns as one automaton: Aho and Corasick's (1975), as a dense table that a bounded loop can walk.

A pattern is bytes that may be tied to the text's begin, its end, or both. The text's end is a symbol of its own, so all
of these are one automaton; it takes one step a byte however many patterns there are. The table is built level by level
with numpy: a row is the row of the longest proper suffix, with the state's own children over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy
import numpy.typing

Words = numpy.typing.NDArray[numpy.uint32]
Masks = numpy.typing.NDArray[numpy.uint64]

HIT = 1 << 31
"""Set in an entry whose state ends a pattern; the row of that state begins with the number of its mask."""
END = 1
"""The class of the text's end. Class 0 is no class: that column holds the mask's number."""
OTHER = 2
"""The class of every byte that no pattern has."""
MOST_STATES = 1 << 20
MOST_ENTRIES = 1 << 26
"""What a table may grow to: 256 MiB of kernel memory."""


class Pattern(NamedTuple):
    """Bytes to find, and which bits it sets when it is found."""

    text: bytes
    at_begin: bool
    at_end: bool
    wanted: int
    """Bits of the rule groups that this pattern lets through."""
    refused: int
    """Bits of the rule groups that this pattern keeps out."""
    undecided: bool = False
    """Finding it means that the text can't be judged: another judge must look."""


class Mask(NamedTuple):
    wanted: int
    refused: int
    undecided: bool


@dataclass(frozen=True, slots=True)
class Automaton:
    """The table: entry `row + class` is the next row, with HIT. Rows are offsets, already times `stride`."""

    classes: bytes
    """The class of each of the 256 bytes."""
    stride: int
    """Entries a row, a power of two."""
    start: int
    """The row where a text begins."""
    table: Words
    masks: tuple[Mask, ...]
    """What is found at a state, by the number in its row's first entry; number 0 is nothing."""
    same: tuple[tuple[int, int], ...] = field(default=())

    @property
    def states(self) -> int:
        return len(self.table) // self.stride

    def walk(self, text: bytes) -> Mask:
        """What the kernel finds in `text`: the law that the C side is tested against."""
        table, classes = self.table, self.classes
        wanted = refused = 0
        undecided = False
        row = self.start
        for symbol in (*(classes[byte] for byte in text), END):
            entry = int(table[row + symbol])
            row = entry & ~HIT
            if entry & HIT:
                mask = self.masks[int(table[row])]
                wanted |= mask.wanted
                refused |= mask.refused
                undecided = undecided or mask.undecided
        return Mask(wanted, refused, undecided)


class TooLarge(Exception):
    """The patterns need more states than there may be."""


def build(patterns: Sequence[Pattern], same: Sequence[tuple[int, int]] = ()) -> Automaton:
    """The automaton of `patterns`. `same` lists pairs of bytes that count as one: (0, 32) makes NUL a space.

    Raises `TooLarge`. 10,000 patterns of 20 bytes take about 0.2 s.
    """
    classes, count = _classes(patterns, same)
    stride = 1 << (count - 1).bit_length()
    sequences = [_symbols(pattern, classes) for pattern in patterns]
    trie = _Trie(sequences, stride)
    if trie.states > MOST_STATES or trie.states * stride > MOST_ENTRIES:
        raise TooLarge(f"{trie.states} states")
    table = numpy.zeros((trie.states, stride), dtype=numpy.uint32)
    found = numpy.zeros((trie.states, 3), dtype=numpy.uint64)
    for pattern, state in zip(patterns, trie.last, strict=True):
        found[state] |= numpy.array([pattern.wanted, pattern.refused, pattern.undecided], dtype=numpy.uint64)
    _fill(table, found, trie)
    unique, numbers = numpy.unique(found, axis=0, return_inverse=True)
    masks, numbers = _nothing_first(unique, numbers.reshape(-1))
    hit = numbers.astype(bool)
    entries = table * numpy.uint32(stride) | numpy.where(hit[table], numpy.uint32(HIT), numpy.uint32(0))
    entries[:, 0] = numbers
    return Automaton(bytes(classes), stride, trie.begin * stride, entries.reshape(-1), masks, tuple(same))


def _classes(patterns: Sequence[Pattern], same: Sequence[tuple[int, int]]) -> tuple[bytearray, int]:
    """A class for each byte that occurs, and how many classes there are with those of no byte."""
    used = bytearray(256)
    for pattern in patterns:
        for byte in set(pattern.text):
            used[byte] = 1
    classes, number = bytearray([OTHER]) * 256, OTHER
    for byte in range(256):
        if used[byte]:
            number += 1
            classes[byte] = number
    for one, other in same:
        classes[one] = classes[other]
    return classes, number + 1


def _symbols(pattern: Pattern, classes: bytearray) -> tuple[bool, bytes]:
    symbols = pattern.text.translate(classes)
    return pattern.at_begin, symbols + bytes([END]) if pattern.at_end else symbols


Level = tuple[Words, Words, Words]
"""States, their parents, and the symbols that lead to them."""


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
