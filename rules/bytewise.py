"""An automaton over characters made one over the bytes of a text, which judges alike whatever the bytes are.

Text is decoded with `surrogateescape`: a byte that belongs to no well-formed sequence of UTF-8 (Unicode, table 3-7) is
the character U+DC00 + byte. Whether it does shows later, so a state inside a sequence remembers both: where the
character will lead if the sequence becomes whole, and where its bytes lead if each stands for itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache

from bpfd.rules.budget import Budget, TooDear
from bpfd.rules.dfa import FOUND_STATE, MOST_STATES, Alphabet, Dfa, minimal

STRAY = 0xDC00
_HIGH = 0x80
_LEADS = (
    *((lead, 1, (lead & 0x1F) << 6, 0x80, 0xBF) for lead in range(0xC2, 0xE0)),
    *((lead, 2, (lead & 0x0F) << 12, 0x80, 0xBF) for lead in range(0xE0, 0xF0)),
    *((lead, 3, (lead & 0x07) << 18, 0x80, 0xBF) for lead in range(0xF0, 0xF5)),
)
"""For each byte that begins a sequence: how many follow, the first character, and what the next byte may be."""
_NEXT = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}
"""Where the next byte may not be all of 0x80 to 0xBF."""
_EDGES = frozenset((0x80, 0x90, 0xA0, 0xC0, 0xC2, 0xE0, 0xE1, 0xED, 0xEE, 0xF0, 0xF1, 0xF4, 0xF5))
"""Bytes at which another kind of byte begins, whatever the pattern."""

Node = tuple[tuple[int, int, object], ...]
"""Inside a sequence: which bytes may follow, each run of them with the class of a character, or another node."""


@dataclass(frozen=True, slots=True)
class ByteDfa:
    """An automaton over bytes, and which bytes are alike to it."""

    classes: bytes
    """The class of each of the 256 bytes."""
    dfa: Dfa
    home: int
    """The state that most ways lead to: where a search begins anew, or from where none leads on."""


@dataclass(frozen=True, slots=True)
class _Inside:
    """A state inside a sequence of UTF-8."""

    node: Node
    state: int
    """Where the sequence began."""
    stray: int
    """Where its bytes lead up to now, each taken for itself."""


def of(dfa: Dfa, symbols: Alphabet, budget: Budget) -> ByteDfa:
    """The automaton over bytes that judges as `dfa` does the decoded text. Raises `TooDear`."""
    high = _high_classes(symbols)
    runs = [_run_target(dfa, state, high) for state in range(len(dfa.rows))]
    if None in runs:
        over_bytes, classes = _Lift(dfa, symbols, budget, runs).lifted()
    else:
        over_bytes, classes = _without_sequences(dfa, symbols)
    return _with_classes_joined(over_bytes, classes)


def _high_classes(symbols: Alphabet) -> set[int]:
    """The classes of all characters that are not ASCII."""
    return set(symbols.class_of_run[symbols.run_of(_HIGH) :])


def _run_target(dfa: Dfa, state: int, high: set[int]) -> int | None:
    """Where a run of bytes beyond ASCII leads from `state` however long it is and whatever characters are in it; None:
    that depends."""
    targets = {dfa.rows[state][number] for number in high}
    target = min(targets)
    return target if targets == {target} == {dfa.rows[target][number] for number in high} else None


def _without_sequences(dfa: Dfa, symbols: Alphabet) -> tuple[Dfa, bytes]:
    """Each byte beyond ASCII is taken for a character: it is alike for these states."""
    high = min(_high_classes(symbols))
    return dfa, bytes([*(symbols.class_of(byte) for byte in range(_HIGH)), *[high] * (256 - _HIGH)])


def _with_classes_joined(dfa: Dfa, classes: bytes) -> ByteDfa:
    columns = list(zip(*dfa.rows, strict=True))
    numbers: dict[tuple[int, ...], int] = {}
    joined = [numbers.setdefault(column, len(numbers)) for column in columns]
    rows = tuple(zip(*numbers, strict=True))
    most = Counter(target for row in rows[1:] for target in row if target != FOUND_STATE).most_common(1)
    return ByteDfa(
        bytes(joined[number] for number in classes),
        Dfa(rows, dfa.at_end, dfa.start),
        most[0][0] if most else dfa.start,
    )


@dataclass(slots=True)
class _Lift:
    """Makes the automaton over bytes: first the states of `dfa`, then those inside sequences."""

    dfa: Dfa
    symbols: Alphabet
    budget: Budget
    runs: list[int | None]
    """For each state of `dfa`, where a run of bytes beyond ASCII leads, if that is alike for all."""
    numbers: dict[_Inside, int] = field(default_factory=dict)
    found: list[_Inside] = field(default_factory=list)
    leads: dict[int, Node] = field(default_factory=dict)
    strays: dict[int, int] = field(default_factory=dict)
    """For each byte beyond ASCII, the class of the character that it is by itself."""

    def lifted(self) -> tuple[Dfa, bytes]:
        self._prepare()
        samples, classes = self._samples()
        rows = [(FOUND_STATE,) * len(samples)]
        for state in range(1, len(self.dfa.rows)):
            rows.append(tuple(self._from_boundary(state, byte) for byte in samples))
        at = 0
        while at < len(self.found):
            self.budget.spend(len(samples))
            rows.append(tuple(self._from_inside(self.found[at], byte) for byte in samples))
            at += 1
        at_end = (*self.dfa.at_end, *(self.dfa.at_end[inside.stray] for inside in self.found))
        return minimal(Dfa(tuple(rows), at_end, self.dfa.start), self.budget), classes

    def _prepare(self) -> None:
        for byte in range(_HIGH, 256):
            self.strays[byte] = self.symbols.class_of(STRAY + byte)
        block = _Blocks(self.symbols)
        for lead, following, first, low, high in _LEADS:
            self.leads[lead] = _clipped(block.node(following, first), *_NEXT.get(lead, (low, high)))

    def _samples(self) -> tuple[list[int], bytes]:
        """A byte of each class, and the classes: ASCII's as they are, and runs of others that are alike."""
        edges = set(_EDGES)
        waiting: list[object] = list(self.leads.values())
        seen: set[int] = set()
        while waiting:
            node = waiting.pop()
            if not isinstance(node, tuple) or id(node) in seen:
                continue
            seen.add(id(node))
            for low, high, child in node:
                edges |= {low, high + 1}
                waiting.append(child)
        for byte in range(_HIGH + 1, 256):
            if self.strays[byte] != self.strays[byte - 1] or self.leads.get(byte) != self.leads.get(byte - 1):
                edges.add(byte)
        samples: dict[int, int] = {}
        classes = bytearray()
        ascii_classes: dict[int, int] = {}
        for byte in range(_HIGH):
            number = ascii_classes.setdefault(self.symbols.class_of(byte), len(samples))
            samples.setdefault(number, byte)
            classes.append(number)
        for byte in range(_HIGH, 256):
            if byte in edges:
                samples[len(samples)] = byte
            classes.append(len(samples) - 1)
        return [samples[number] for number in range(len(samples))], bytes(classes)

    def _from_boundary(self, state: int, byte: int) -> int:
        row = self.dfa.rows[state]
        if byte < _HIGH:
            return row[self.symbols.class_of(byte)]
        alike = self.runs[state]
        if alike is not None:
            return alike
        stray = row[self.strays[byte]]
        node = self.leads.get(byte)
        if node is None or state == FOUND_STATE:
            return stray
        return self._number(_Inside(node, state, stray))

    def _from_inside(self, inside: _Inside, byte: int) -> int:
        for low, high, child in inside.node:
            if low <= byte <= high:
                if isinstance(child, int):
                    return self.dfa.rows[inside.state][child]
                assert isinstance(child, tuple)
                return self._number(_Inside(child, inside.state, self.dfa.rows[inside.stray][self.strays[byte]]))
        return self._from_boundary(inside.stray, byte)

    def _number(self, inside: _Inside) -> int:
        number = self.numbers.get(inside)
        if number is None:
            number = self.numbers[inside] = len(self.dfa.rows) + len(self.found)
            self.found.append(inside)
            if number >= 4 * MOST_STATES:
                raise TooDear(f"it needs more than {4 * MOST_STATES} states to tell characters from bytes")
        return number


@dataclass(slots=True)
class _Blocks:
    """The nodes for blocks of characters: 64 that differ in the last byte, 64 of these, and 64 of those."""

    symbols: Alphabet
    known: dict[Node, Node] = field(default_factory=dict)

    def node(self, following: int, first: int) -> Node:
        size = 64 ** (following - 1)
        run = self.symbols.run_of(first)
        if run == self.symbols.run_of(first + 64 * size - 1):
            return _uniform(following, self.symbols.class_of_run[run])
        runs: list[tuple[int, int, object]] = []
        for number in range(64):
            low = first + number * size
            child: object = self.symbols.class_of(low) if following == 1 else self.node(following - 1, low)
            if runs and runs[-1][2] == child:
                runs[-1] = (runs[-1][0], 0x80 + number, child)
            else:
                runs.append((0x80 + number, 0x80 + number, child))
        made = tuple(runs)
        return self.known.setdefault(made, made)


@lru_cache(maxsize=256)
def _uniform(following: int, number: int) -> Node:
    """The node for characters that are all of one class."""
    return ((0x80, 0xBF, number if following == 1 else _uniform(following - 1, number)),)


def _clipped(node: Node, low: int, high: int) -> Node:
    return tuple((max(a, low), min(b, high), child) for a, b, child in node if a <= high and b >= low)
