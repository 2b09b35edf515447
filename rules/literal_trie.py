"""Plain patterns as a tree of their prefixes with ways back (Aho and Corasick 1975), as parts of an automaton."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bpfd.rules.automaton import NOTHING, Mask, Pattern

_FOLD = bytes(byte + 32 if ord("A") <= byte <= ord("Z") else byte for byte in range(256))


@dataclass(frozen=True, slots=True)
class Part:
    """A deterministic automaton, told by what sets its states apart from one of them, the home.

    What it has found is told once: a state that is entered with a hit need not remember it.
    """

    classes: bytes
    """The class of each of the 256 bytes."""
    home: int
    home_ways: Mapping[int, int]
    """Where the home's classes lead, those that do not lead home."""
    ways: Sequence[Mapping[int, int]]
    """For each state, where its classes lead, those that do not lead where the home's do."""
    start: int
    hits: Mapping[int, Mask]
    """What is found when a state is entered."""
    at_end: Mapping[int, Mask]
    """What is found if the text ends in a state."""
    begins: Sequence[bytes] | None
    """The plain patterns that it looks for from home on; None: patterns of another kind."""


def make(patterns: Iterable[Pattern], ignore_case: bool) -> Part:
    """The part for plain patterns: all with case, or all without."""
    patterns = list(patterns)
    classes = _classes(patterns, ignore_case)
    children: list[dict[int, int]] = [{}, {}]  # the root, and where a text begins
    hits: dict[int, Mask] = {}
    at_end: dict[int, Mask] = {}
    for pattern in patterns:
        state = int(pattern.at_begin)
        for symbol in pattern.text.translate(classes):
            if symbol not in children[state]:
                children[state][symbol] = len(children)
                children.append({})
            state = children[state][symbol]
        found = at_end if pattern.at_end else hits
        mark = Mask(pattern.wanted, pattern.refused, pattern.undecided)
        found[state] = found.get(state, NOTHING).with_(mark)
    begins = [pattern.text for pattern in patterns if not pattern.at_begin]
    return Part(classes, 0, children[0], _with_ways_back(children, hits, at_end), 1, hits, at_end, begins)


def _classes(patterns: Sequence[Pattern], ignore_case: bool) -> bytes:
    """A class for each byte that occurs; 0 for all others."""
    used = sorted({byte for pattern in patterns for byte in pattern.text})
    numbers = {byte: number for number, byte in enumerate(used, 1)}
    return bytes(numbers.get(_FOLD[byte] if ignore_case else byte, 0) for byte in range(256))


def _with_ways_back(
    children: list[dict[int, int]], hits: dict[int, Mask], at_end: dict[int, Mask]
) -> list[Mapping[int, int]]:
    """Breadth first: a state's longest proper suffix comes before it. Fills in what is found by way of the suffixes."""
    root = children[0]
    ways: list[Mapping[int, int]] = [{} for _ in children]
    failing = [0] * len(children)
    waiting = deque([*root.values(), 1])
    while waiting:
        state = waiting.popleft()
        back = failing[state]
        for found in (hits, at_end):
            if back in found:
                found[state] = found.get(state, NOTHING).with_(found[back])
        ways[state] = {**ways[back], **children[state]}
        for symbol, child in children[state].items():
            failing[child] = ways[back].get(symbol, root.get(symbol, 0))
        waiting.extend(children[state].values())
    return ways
