"""The sieve of thousands of patterns, made with numpy: the same as `bpfd.rules.sieve` makes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from bpfd.rules import sieve
from bpfd.rules.sieve import BLOCKS, FOLD, HASH, WORD_SIZE, Sieve


def of_patterns(texts: Sequence[bytes]) -> Sieve:
    """The sieve of plain patterns, each of which may begin anywhere, with case or without."""
    shape = sieve.shape_of(texts)
    if shape is None or not texts:
        return sieve.of_patterns(texts)
    shortest, ahead, length = shape
    begins = b"".join({text[: ahead + length] for text in texts})
    columns = numpy.frombuffer(begins, dtype=numpy.uint8).reshape(-1, ahead + length).T.astype(numpy.uint32) | FOLD
    at_each = [sum(columns[at + byte] << 8 * byte for byte in range(length)) for at in range(ahead + 1)]
    blocks = numpy.unique(numpy.concatenate(at_each))
    shift = sieve.shift_for(len(blocks))
    numbers = blocks * numpy.uint32(HASH) >> shift
    first, second = numbers >> WORD_SIZE, numbers & (1 << WORD_SIZE) - 1
    found = numpy.zeros(sieve.table_bits(shift), dtype=bool)
    found[first] = True
    found[first >> WORD_SIZE << WORD_SIZE | second] = True
    return Sieve(BLOCKS, shortest, ahead, shape.mask, shift, numpy.packbits(found, bitorder="little").tobytes())
