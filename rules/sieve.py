"""Where in a text no pattern begins, told by blocks of up to four bytes (Wu and Manber 1994, kept as in Bloom 1970).

A walk that is at row 0 has no part of a pattern behind it. It looks at the block that stands `ahead` bytes from it:
each pattern that begins here or up to there has that block near its own begin. If no pattern has, the walk goes on
behind that place: one look for what would be up to four steps. A false alarm costs steps, and there is never a miss.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

FOLD = 0x20
"""Set in all bytes: A to Z count as a to z, and NUL as the space that stands for it."""
HASHES = 0x9E3779B1, 0x85EBCA77
"""Odd numbers to multiply a block by; of 32 bits the highest are taken (Knuth, The Art of Computer Programming 6.4)."""
LEAST_SIZE, MOST_SIZE = 10, 18
"""Of the bits, as powers of two: the most still fit into the first page, beside the head (image.py). 10,000 patterns
set a quarter of them, and one block of fourteen is a false alarm."""
BITS_EACH = 16
"""How many bits there are for a block, as far as there may be."""
BLOCK = 4
"""Bytes of the longest block."""
LONGEST = 255
"""Patterns that are longer count as so long, and none as one of that kind."""
_AHEAD = (0, 0, 0, 1, 1, 1, 2)
"""How far ahead the block stands, by the shortest pattern's bytes."""
_FARTHEST = 3
"""The same for longer ones."""


@dataclass(frozen=True, slots=True)
class Sieve:
    """Where no pattern begins: `struct bpfd_sieve` in filter.h."""

    shortest: int
    """Bytes of the shortest pattern, 1 to 255: where fewer are left of a text, none begins."""
    ahead: int
    """How far ahead the block stands: 0 to 3 bytes."""
    mask: int
    """Which bits of 32 are the block's; the text's bytes begin at the lowest."""
    shift: int
    """How many bits of a hash are too many to number the bits of `bits`."""
    bits: bytes

    def may_begin(self, text: bytes, at: int) -> bool:
        """Whether a pattern may begin at `at`, or up to `ahead` bytes behind it."""
        if at + self.shortest > len(text):
            return False
        first = at + self.ahead
        block = _block(text[first : first + BLOCK], self.mask)
        return all(_is_set(self.bits, number) for number in _numbers(block, self.shift))


class Shape(NamedTuple):
    """Which blocks of some patterns are looked for."""

    shortest: int
    ahead: int
    length: int
    """Bytes of a block."""

    @property
    def mask(self) -> int:
        return (1 << 8 * self.length) - 1


def shape_of(texts: Iterable[bytes]) -> Shape | None:
    """The longest and farthest blocks that all of `texts` have; None: one is empty, and has none."""
    shortest = min(map(len, texts), default=LONGEST)
    if not shortest:
        return None
    ahead = _AHEAD[shortest] if shortest < len(_AHEAD) else _FARTHEST
    return Shape(min(shortest, LONGEST), ahead, min(BLOCK, shortest - ahead))


def of_patterns(texts: Sequence[bytes]) -> Sieve:
    """The sieve of plain patterns, each of which may begin anywhere, with case or without."""
    shape = shape_of(texts)
    if shape is None:
        return of_bytes(range(256))
    _, ahead, length = shape
    begins = {text[: ahead + length] for text in texts}
    blocks = {_block(begin[at : at + length], shape.mask) for begin in begins for at in range(ahead + 1)}
    return _of_blocks(blocks, shape)


def of_row(row: Sequence[int], classes: bytes) -> Sieve:
    """The sieve of an automaton of which no more is known than where its row 0 leads, by the class of a byte."""
    return of_bytes(byte for byte in range(256) if row[classes[byte]])


def of_bytes(begins: Iterable[int]) -> Sieve:
    """The sieve of what begins with one of some bytes."""
    return _of_blocks({byte | FOLD for byte in begins}, Shape(1, 0, 1))


def blurs(same: Iterable[tuple[int, int]]) -> bool:
    """Whether there are bytes among those that count as one which a block tells apart."""
    return any(one | FOLD != other | FOLD for one, other in same)


def shift_for(blocks: int) -> int:
    """How many bits of a hash are too many for a sieve of so many blocks."""
    return 32 - min(MOST_SIZE, max(LEAST_SIZE, (blocks * BITS_EACH).bit_length()))


def _of_blocks(blocks: set[int], shape: Shape) -> Sieve:
    shift = shift_for(len(blocks))
    bits = bytearray(1 << 32 - shift - 3)
    for block in blocks:
        for number in _numbers(block, shift):
            bits[number >> 3] |= 1 << (number & 7)
    return Sieve(shape.shortest, shape.ahead, shape.mask, shift, bytes(bits))


def _block(text: bytes, mask: int) -> int:
    return (int.from_bytes(text, "little") | FOLD * 0x01010101) & mask


def _numbers(block: int, shift: int) -> tuple[int, ...]:
    return tuple((block * hash_ & 0xFFFFFFFF) >> shift for hash_ in HASHES)


def _is_set(bits: bytes, number: int) -> bool:
    return bool(bits[number >> 3] >> (number & 7) & 1)
