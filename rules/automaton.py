"""Thousands of patterns as one automaton: Aho and Corasick's (1975), as a dense table that a bounded loop can walk.

A pattern is bytes that may be tied to the text's begin, its end, or both. The text's end is a symbol of its own, so all
of these are one automaton; it takes one step a byte however many patterns there are.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

HIT = 1 << 31
"""Set in an entry whose state ends a pattern; the row of that state begins with the number of its mask."""
END = 1
"""The class of the text's end. Class 0 is no class: that column holds the mask's number."""
OTHER = 2
"""The class of every byte that no pattern has."""
BEGIN = 1
"""The state where a text begins."""
SMALL = 2000
"""How many symbols all patterns together may have to be built without numpy."""
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
    table: memoryview
    """Entries of 32 bits."""
    masks: tuple[Mask, ...]
    """What is found at a state, by the number in its row's first entry; number 0 is nothing."""

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
            entry = table[row + symbol]
            row = entry & ~HIT
            if entry & HIT:
                mask = self.masks[table[row]]
                wanted |= mask.wanted
                refused |= mask.refused
                undecided = undecided or mask.undecided
        return Mask(wanted, refused, undecided)


class TooLarge(Exception):
    """The patterns need more states than there may be."""


def build(patterns: Sequence[Pattern], same: Sequence[tuple[int, int]] = ()) -> Automaton:
    """The automaton of `patterns`. `same` lists pairs of bytes that count as one: (0, 32) makes NUL a space.

    Many patterns are built with numpy, which is not loaded before. Raises `TooLarge`.
    """
    classes, count = _classes(patterns, same)
    stride = 1 << (count - 1).bit_length()
    sequences = [_symbols(pattern, classes) for pattern in patterns]
    marks = [Mask(pattern.wanted, pattern.refused, pattern.undecided) for pattern in patterns]
    make = build_small
    if sum(len(symbols) for _, symbols in sequences) > SMALL:
        from bpfd.rules.automaton_large import build_table as make
    table, masks = make(sequences, marks, stride)
    return Automaton(bytes(classes), stride, BEGIN * stride, memoryview(table).cast("I"), masks)


def build_small(
    sequences: Sequence[tuple[bool, bytes]], marks: Sequence[Mask], stride: int
) -> tuple[bytes, tuple[Mask, ...]]:
    """The table and masks of symbol sequences, each with whether it is tied to the text's begin and what it sets.

    State 0 is the root, state 1 where a text begins. Breadth first: a state's longest proper suffix is made before it.
    """
    children: list[dict[int, int]] = [{}, {}]
    found = [Mask(0, 0, False), Mask(0, 0, False)]
    for (tied, symbols), mark in zip(sequences, marks, strict=True):
        state = BEGIN if tied else 0
        for symbol in symbols:
            if symbol not in children[state]:
                children[state][symbol] = len(children)
                children.append({})
                found.append(Mask(0, 0, False))
            state = children[state][symbol]
        found[state] = _joined(found[state], mark)
    table = array("I", bytes(4 * stride * len(children)))
    failing = [0] * len(children)
    waiting = deque([0, BEGIN])
    while waiting:
        state = waiting.popleft()
        row, back = state * stride, failing[state] * stride
        if state:
            table[row : row + stride] = table[back : back + stride]
            found[state] = _joined(found[state], found[failing[state]])
        for symbol, child in children[state].items():
            failing[child] = table[back + symbol] if state else 0
            table[row + symbol] = child
        waiting.extend(children[state].values())
    return _with_hits(table, found, stride)


def _with_hits(table: array[int], found: list[Mask], stride: int) -> tuple[bytes, tuple[Mask, ...]]:
    """Entries as rows with HIT instead of state numbers, and the number of its mask in each row's first."""
    masks = {Mask(0, 0, False): 0}
    numbers = [masks.setdefault(mask, len(masks)) for mask in found]
    entries = [state * stride | (HIT if number else 0) for state, number in enumerate(numbers)]
    finished = array("I", [entries[state] for state in table])
    finished[::stride] = array("I", numbers)
    return finished.tobytes(), tuple(masks)


def _joined(one: Mask, other: Mask) -> Mask:
    return Mask(one.wanted | other.wanted, one.refused | other.refused, one.undecided or other.undecided)


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
