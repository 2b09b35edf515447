"""An automaton of many patterns, built level by level with numpy.

A row is the row of the longest proper suffix, with the state's own children over it. 10,000 patterns of 20 bytes take
about 0.1 s; numpy takes 13 MB of memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy
import numpy.typing

from bpfd.rules import sieve, sieve_large
from bpfd.rules.automaton import END, FIRST_CLASS, HIT, NOTHING, Automaton, Mask, Pattern, TooLarge, stride_of
from bpfd.rules.sieve import Sieve

MOST_STATES = 1 << 20
MOST_ENTRIES = 1 << 26
"""What a table may grow to: 256 MiB of kernel memory."""
_BEGIN = 1
"""The state where a text begins."""

Words = numpy.typing.NDArray[numpy.uint32]
Numbers = numpy.typing.NDArray[numpy.int64]
Masks = numpy.typing.NDArray[numpy.uint64]


class Level(NamedTuple):
    """States side by side, their parents, and the symbols that lead to them."""

    first: int
    beyond: int
    parents: Numbers
    symbols: Numbers


def build(patterns: Sequence[Pattern], same: Sequence[tuple[int, int]] = ()) -> Automaton:
    """The automaton of plain `patterns`, all with case or all without. `same`: pairs of bytes that count as one.

    Raises `TooLarge`.
    """
    of_patterns, count = _classes(patterns)
    stride = stride_of(count)
    trie = _Trie(patterns, of_patterns, stride)
    classes = _with_same(of_patterns, same)
    if trie.states > MOST_STATES or trie.states * stride > MOST_ENTRIES:
        raise TooLarge(f"{trie.states} states")
    table = numpy.empty((trie.states, stride), dtype=numpy.uint32)
    found = numpy.zeros((trie.states, 3), dtype=numpy.uint64)
    marks = numpy.array([(p.wanted, p.refused, p.undecided) for p in patterns], dtype=numpy.uint64).reshape(-1, 3)
    numpy.bitwise_or.at(found, trie.last, marks)
    _fill(table, found, trie)
    masks, numbers = _numbered(found)
    table[:, 0] = numbers
    start = _BEGIN * stride if any(pattern.at_begin for pattern in patterns) else 0
    view = table.data.cast("B").cast("I")
    return Automaton(classes, stride, start, view, masks, _sieve(patterns, same, view[:stride], classes))


def _sieve(patterns: Sequence[Pattern], same: Sequence[tuple[int, int]], row: memoryview, classes: bytes) -> Sieve:
    if sieve.blurs(same):
        return sieve.of_row(row, classes)
    return sieve_large.of_patterns([pattern.text for pattern in patterns if not pattern.at_begin])


def _classes(patterns: Sequence[Pattern]) -> tuple[bytes, int]:
    """The class of each byte, and how many there are; the first is that of bytes that no pattern has."""
    used = sorted(set(b"".join(pattern.text for pattern in patterns)))
    numbers = {byte: number for number, byte in enumerate(used, FIRST_CLASS + 1)}
    classes = bytearray(numbers.get(byte, FIRST_CLASS) for byte in range(256))
    if patterns and patterns[0].ignore_case:
        for upper in range(ord("A"), ord("Z") + 1):
            classes[upper] = classes[upper + 32]
    return bytes(classes), len(used) + 1


def _with_same(classes: bytes, same: Sequence[tuple[int, int]]) -> bytes:
    """The classes of a text's bytes: one that counts as another is never found itself, though a pattern may have it."""
    of_text = bytearray(classes)
    for one, other in same:
        of_text[one] = of_text[other]
    return bytes(of_text)


def move(table: memoryview, stride: int, base: int, numbers: Sequence[int]) -> memoryview:
    """The same as `bpfd.kernel.image` does for small tables: rows moved to `base`, masks given other numbers."""
    rows = numpy.frombuffer(table, dtype=numpy.uint32).reshape(-1, stride)
    moved = rows + numpy.uint32(base)
    moved[:, 0] = numpy.array(numbers, dtype=numpy.uint32)[rows[:, 0]]
    return moved.data.cast("B")


class _Trie:
    """All patterns' prefixes as states: 0 is the root, 1 where a text begins; each has a tree of levels below it."""

    def __init__(self, patterns: Sequence[Pattern], classes: bytes, stride: int) -> None:
        self.states = 2
        self.levels: list[tuple[Level, Level]] = []
        """For each level: what lies below the root, and what lies below the begin."""
        end = bytes([END])
        texts = [p.text.translate(classes) + end if p.at_end else p.text.translate(classes) for p in patterns]
        order = sorted(range(len(texts)), key=texts.__getitem__)
        """So that patterns with a prefix in common are neighbours."""
        sequences = [texts[number] for number in order]
        tied = numpy.array([patterns[number].at_begin for number in order], dtype=bool)
        self._at = tied.astype(numpy.int64)
        """For each pattern in order, the state that it has reached."""
        lengths = numpy.array([len(symbols) for symbols in sequences], dtype=numpy.int64)
        flat = numpy.frombuffer(b"".join(sequences), dtype=numpy.uint8)
        begins = numpy.concatenate(([0], numpy.cumsum(lengths)[:-1])) if sequences else lengths
        for level in range(int(lengths.max(initial=0))):
            sides = []
            for side in (~tied, tied):
                alive = numpy.nonzero(side & (lengths > level))[0]
                sides.append(self._grow(alive, flat[begins[alive] + level], stride))
            self.levels.append((sides[0], sides[1]))
            if self.states > MOST_STATES:
                break
        self.last = numpy.empty_like(self._at)
        """For each pattern, the state that it ends in."""
        self.last[order] = self._at

    def _grow(self, alive: Numbers, symbols: numpy.typing.NDArray[numpy.uint8], stride: int) -> Level:
        """One more symbol for the patterns `alive`: a new state for each different prefix."""
        ways = self._at[alive] * stride + symbols
        is_new = numpy.ones(len(ways), dtype=bool)
        numpy.not_equal(ways[1:], ways[:-1], out=is_new[1:])
        first, count = self.states, int(is_new.sum())
        self._at[alive] = first - 1 + numpy.cumsum(is_new)
        self.states += count
        new = ways[is_new]
        return Level(first, first + count, new // stride, new % stride)


def _fill(table: Words, found: Masks, trie: _Trie) -> None:
    """Rows from the root down; a level below the root before the same level below the begin, which falls back to it."""
    failing = numpy.zeros(trie.states, dtype=numpy.int64)
    table[0] = 0
    tops = Level(0, 1, *_NOWHERE), Level(_BEGIN, _BEGIN + 1, *_NOWHERE)
    none = Level(0, 0, *_NOWHERE), Level(0, 0, *_NOWHERE)
    for sides, below in zip([tops, *trie.levels], [*trie.levels, none], strict=True):
        for (first, beyond, _, _), children in zip(sides, below, strict=True):
            rows = slice(first, beyond)
            numpy.take(table, failing[rows], axis=0, out=table[rows], mode="clip")
            _hang(children, table, found, failing)


_NOWHERE = numpy.zeros(0, dtype=numpy.int64), numpy.zeros(0, dtype=numpy.int64)


def _hang(children: Level, table: Words, found: Masks, failing: Numbers) -> None:
    """Lead to `children` from their parents, whose rows are those of their longest proper suffixes so far."""
    first, beyond, parents, symbols = children
    stride, states = table.shape[1], slice(first, beyond)
    # The row that the parent's suffix leads to: its own children are in it by now.
    back = (table[failing[parents], symbols] & ~numpy.uint32(HIT)) // numpy.uint32(stride)
    failing[states] = back
    found[states] |= found[back]
    entries = numpy.arange(first * stride, beyond * stride, stride, dtype=numpy.uint32)
    entries[found[states].any(axis=1)] |= numpy.uint32(HIT)
    table[parents, symbols] = entries


def _numbered(found: Masks) -> tuple[tuple[Mask, ...], numpy.typing.NDArray[numpy.uint32]]:
    """The different masks, the empty one first, and for each state the number of its own."""
    numbers = numpy.zeros(len(found), dtype=numpy.uint32)
    finding = numpy.nonzero(found.any(axis=1))[0]  # most states find nothing
    unique, inverse = numpy.unique(found[finding], axis=0, return_inverse=True)
    numbers[finding] = inverse.reshape(-1) + 1
    masks = (Mask(int(wanted), int(refused), bool(undecided)) for wanted, refused, undecided in unique.tolist())
    return (NOTHING, *masks), numbers
