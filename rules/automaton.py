"""What the kernel walks a text through: one automaton for thousands of patterns, as a dense table.

It takes one step a byte however many patterns there are. The text's end is a symbol of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bpfd.rules.sieve import Sieve

HIT = 1 << 31
"""Set in an entry whose state ends a pattern; the row of that state begins with the number of its mask."""
END = 1
"""The class of the text's end. Class 0 is no class: that column holds the mask's number."""
FIRST_CLASS = 2
"""The first class of bytes."""
MOST_CLASSES = 256
SMALL = 2000
"""How many symbols all patterns together may have to be built without numpy."""


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
    ignore_case: bool = False
    """A to Z of the text count as a to z; `text` has none of the former."""

    @property
    def symbols(self) -> int:
        return len(self.text) + self.at_end


class Mask(NamedTuple):
    wanted: int
    refused: int
    undecided: bool

    def with_(self, other: Mask) -> Mask:
        """What is found where both are."""
        return Mask(self.wanted | other.wanted, self.refused | other.refused, self.undecided or other.undecided)


NOTHING = Mask(0, 0, False)


@dataclass(frozen=True, slots=True)
class Automaton:
    """The table: entry `row + class` is the next row, with HIT. Rows are offsets, already times `stride`."""

    classes: bytes
    """The class of each of the 256 bytes."""
    stride: int
    """Entries a row, a power of two."""
    start: int
    """The row where a text begins. Row 0 is where most bytes lead back to."""
    table: memoryview
    """Entries of 32 bits."""
    masks: tuple[Mask, ...]
    """What is found at a state, by the number in its row's first entry; number 0 is nothing."""
    sieve: Sieve
    """Where in a text a walk that is at row 0 can go on behind."""

    @property
    def states(self) -> int:
        return len(self.table) // self.stride

    def walk(self, text: bytes) -> Mask:
        """What the kernel finds in `text`: the law that the C side is tested against."""
        row, at, found = self.start, 0, NOTHING
        while at < len(text):
            if row == 0 and (skipped := self.sieve.skips(text, at)):
                at += skipped
                continue
            row, found = self._step(row, self.classes[text[at]], found)
            at += 1
        return self._step(row, END, found)[1]

    def _step(self, row: int, symbol: int, found: Mask) -> tuple[int, Mask]:
        entry = self.table[row + symbol]
        row = entry & ~HIT
        return row, found.with_(self.masks[self.table[row]]) if entry & HIT else found


class TooLarge(Exception):
    """The patterns need more states than there may be."""


def stride_of(classes: int) -> int:
    """The entries a row, for so many classes of bytes. Raises `TooLarge`."""
    if classes + FIRST_CLASS > MOST_CLASSES:
        raise TooLarge(f"{classes} classes of bytes")
    return 1 << (classes + FIRST_CLASS - 1).bit_length()
