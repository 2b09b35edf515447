"""Where in a text no pattern begins, told by blocks of bytes (Wu and Manber 1994, kept as in Bloom 1970) or by each.

A walk that is at row 0 has no part of a pattern behind it. By blocks, it looks at the one that stands `ahead` bytes
from it: each pattern that begins here or up to there has that block near its own begin. If no pattern has, the walk
goes on behind that place. By bytes, it goes on behind the next four if no pattern begins with one of them. Either is
one look for what would be up to four steps. A false alarm costs steps, and there is never a miss.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

NO_SIEVE, BYTES, BLOCKS = range(3)
"""The kinds, as BPFD_BYTES and BPFD_BLOCKS in filter.h."""
FOLD = 0x20
"""Set in all bytes: A to Z count as a to z, and NUL as the space that stands for it."""
HASH = 0x9E3779B1
"""What a block is multiplied by; of 32 bits the highest are taken (Knuth, The Art of Computer Programming 6.4)."""
WORD_SIZE = 5
"""Of the 32 bits of a word, as a power of two. A block has two bits in one word, so that one look tells of both."""
LEAST_SIZE, MOST_SIZE = 10, 18
"""Of the bits, as powers of two: the most still fit into the first page, beside the head (image.py). 10,000 patterns
set a quarter of them, and one block of twelve is a false alarm."""
BITS_EACH = 16
"""How many bits there are for a block, as far as there may be."""
BLOCK = 4
"""Bytes of the longest block, and how many bytes are looked at one by one."""
LONGEST = 255
"""The shortest pattern counts as so long where it is longer, and where there is none."""
FEW = 8
"""With so many bytes that patterns begin with, or fewer, it is worth while to look for these bytes."""
_AHEAD = (0, 0, 0, 1, 1, 1, 2)
"""How far ahead the block stands, by the shortest pattern's bytes."""
_FARTHEST = 3
"""The same for longer ones."""
_LONG = 6
"""Patterns of so many bytes are looked for by blocks, whatever they begin with."""


@dataclass(frozen=True, slots=True)
class Sieve:
    """Where no pattern begins: `struct bpfd_sieve` in filter.h."""

    kind: int
    shortest: int
    """Bytes of the shortest pattern, 1 to 255: where fewer are left of a text, none begins."""
    ahead: int
    """How far ahead the block stands: 0 to 3 bytes."""
    mask: int
    """Which bits of 32 are the block's; the text's bytes begin at the lowest."""
    shift: int
    """How many bits of a hash are too many to number a word of `table` and two of its bits."""
    table: bytes
    """By blocks, words of bits. By bytes, for each of the 256 whether a pattern begins with it."""

    def skips(self, text: bytes, at: int) -> int:
        """How many bytes a walk that is at row 0 goes on without a step; 0: it takes a step."""
        if at + self.shortest > len(text):
            return len(text) - at
        if self.kind == BYTES:
            return 0 if any(self.table[byte] for byte in text[at : at + BLOCK]) else BLOCK
        if self.kind == NO_SIEVE:
            return 0
        first = at + self.ahead
        bits = _bits_of(_block(text[first : first + BLOCK], self.mask), self.shift)
        return 0 if all(self.table[bit >> 3] >> (bit & 7) & 1 for bit in bits) else self.ahead + 1


class Shape(NamedTuple):
    """Which blocks of some patterns are looked for."""

    shortest: int
    ahead: int
    length: int
    """Bytes of a block."""

    @property
    def mask(self) -> int:
        return (1 << 8 * self.length) - 1


def of_patterns(texts: Sequence[bytes]) -> Sieve:
    """The sieve of plain patterns, each of which may begin anywhere, with case or without."""
    shape = shape_of(texts)
    if shape is None:
        return of_firsts(texts)
    _, ahead, length = shape
    begins = {text[: ahead + length] for text in texts}
    blocks = {_block(begin[at : at + length], shape.mask) for begin in begins for at in range(ahead + 1)}
    shift = shift_for(len(blocks))
    table = bytearray(table_bits(shift) // 8)
    for block in blocks:
        for bit in _bits_of(block, shift):
            table[bit >> 3] |= 1 << (bit & 7)
    return Sieve(BLOCKS, shape.shortest, ahead, shape.mask, shift, bytes(table))


def shape_of(texts: Sequence[bytes]) -> Shape | None:
    """The longest and farthest blocks that all of `texts` have; None: they are better looked for by single bytes."""
    shortest = min(map(len, texts), default=LONGEST)
    ahead = _AHEAD[shortest] if shortest < len(_AHEAD) else _FARTHEST
    if not ahead or (shortest < _LONG and len(_firsts(texts)) <= FEW):
        return None
    return Shape(min(shortest, LONGEST), ahead, min(BLOCK, shortest - ahead))


def of_firsts(texts: Sequence[bytes]) -> Sieve:
    """The sieve of plain patterns of which only the first bytes are looked for."""
    if not all(texts):
        return Sieve(NO_SIEVE, 1, 0, 0, 0, b"")
    firsts = _firsts(texts)
    return _of_bytes(min(map(len, texts)), [byte for byte in range(256) if byte | FOLD in firsts], len(firsts))


def of_row(row: Sequence[int], classes: bytes) -> Sieve:
    """The sieve of an automaton of which no more is known than where its row 0 leads, by the class of a byte."""
    begins = [byte for byte in range(256) if row[classes[byte]]]
    return _of_bytes(1, begins, len(begins))


def blurs(same: Iterable[tuple[int, int]]) -> bool:
    """Whether there are bytes among those that count as one which a block tells apart."""
    return any(one | FOLD != other | FOLD for one, other in same)


def shift_for(blocks: int) -> int:
    """The shift of a sieve of so many blocks."""
    return 32 - WORD_SIZE - min(MOST_SIZE, max(LEAST_SIZE, (blocks * BITS_EACH).bit_length()))


def table_bits(shift: int) -> int:
    """How many bits the table of a sieve with this shift has."""
    return 1 << 32 - WORD_SIZE - shift


def _of_bytes(shortest: int, begins: Collection[int], different: int) -> Sieve:
    if different > FEW:
        return Sieve(NO_SIEVE, min(shortest, LONGEST), 0, 0, 0, b"")
    return Sieve(BYTES, min(shortest, LONGEST), 0, 0, 0, bytes(byte in begins for byte in range(256)))


def _firsts(texts: Iterable[bytes]) -> set[int]:
    return {text[0] | FOLD for text in texts}


def _block(text: bytes, mask: int) -> int:
    return (int.from_bytes(text, "little") | FOLD * 0x01010101) & mask


def _bits_of(block: int, shift: int) -> tuple[int, int]:
    """The two bits of a block, as numbers of bits of the table."""
    first, second = divmod((block * HASH & 0xFFFFFFFF) >> shift, 1 << WORD_SIZE)
    return first, first >> WORD_SIZE << WORD_SIZE | second
