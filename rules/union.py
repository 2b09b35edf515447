"""Several automata walked as one: a state of it is a state of each, made as far as texts can lead there.

Most are at home most of the time, so a state is kept as those that are not, and a row as what differs from the row
where all are at home.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bpfd.rules import literal_trie, sieve
from bpfd.rules.automaton import END, FIRST_CLASS, HIT, NOTHING, Automaton, Mask, Pattern, TooLarge, stride_of
from bpfd.rules.budget import Budget
from bpfd.rules.bytewise import ByteDfa
from bpfd.rules.dfa import FOUND_STATE
from bpfd.rules.literal_trie import Part

MOST_STATES = 4096
"""How many states the automaton of several may have: a table of 1 MiB with 64 classes."""

Away = frozenset[tuple[int, int]]
"""The parts that are not at home, each with its state."""
State = tuple[Away, Mask]
"""Where all parts are, and what is found on the way in."""


def parts_of(patterns: Iterable[Pattern]) -> list[Part]:
    """The parts for plain patterns: one with case, one without, as far as there are such."""
    listed = list(patterns)
    either = [[p for p in listed if p.ignore_case == ignoring] for ignoring in (False, True)]
    return [literal_trie.make(found, bool(number)) for number, found in enumerate(either) if found]


def part_of(search: ByteDfa, mark: Mask) -> Part:
    """The part for a pattern that has an automaton of its own. Once it has matched it may go home and search again."""
    dfa = search.dfa
    home_row = dfa.rows[search.home]
    ways = [
        {} if state == FOUND_STATE else {c: to for c, to in enumerate(row) if to != home_row[c]}
        for state, row in enumerate(dfa.rows)
    ]
    at_end = {state: mark for state, ends in enumerate(dfa.at_end) if ends and state != FOUND_STATE}
    if search.home in at_end:
        at_end[FOUND_STATE] = mark
    home_ways = {c: to for c, to in enumerate(home_row) if to != search.home}
    begins = None if home_ways else ()
    return Part(search.classes, search.home, home_ways, ways, dfa.start, {FOUND_STATE: mark}, at_end, begins)


def build(
    parts: Sequence[Part],
    budget: Budget,
    same: Sequence[tuple[int, int]] = (),
    most_states: int = MOST_STATES,
) -> Automaton:
    """One automaton that finds what each part finds. `same`: pairs of bytes that count as one.

    Raises `TooLarge`, or `TooDear` where the budget does not reach.
    """
    alphabet = _Alphabet(parts, same)
    stride = stride_of(alphabet.count)
    walker = _Walker(parts, alphabet, budget, most_states)
    walker.walk()
    return walker.automaton(stride, None if sieve.blurs(same) else _begins(parts))


def _begins(parts: Sequence[Part]) -> list[bytes] | None:
    """The plain patterns that may begin anywhere; None: there are patterns of another kind that may."""
    begins: list[bytes] = []
    for part in parts:
        if part.begins is None:
            return None
        begins += part.begins
    return begins


class _Alphabet:
    """Classes of bytes that are alike to every part."""

    def __init__(self, parts: Sequence[Part], same: Sequence[tuple[int, int]]) -> None:
        columns = list(zip(*(part.classes for part in parts), strict=True)) if parts else [()] * 256
        for one, other in same:
            columns[one] = columns[other]
        numbers: dict[tuple[int, ...], int] = {}
        self.classes = bytearray(256)
        stride_of(len(set(columns)))
        for byte, column in enumerate(columns):
            self.classes[byte] = FIRST_CLASS + numbers.setdefault(column, len(numbers))
        self.count = len(numbers)
        self.of_part: list[dict[int, list[int]]] = [{} for _ in parts]
        """For each part and each of its classes, the common classes."""
        for column, number in numbers.items():
            for part, own in enumerate(column):
                self.of_part[part].setdefault(own, []).append(number)


@dataclass(slots=True)
class _Walker:
    """Finds all states, from the home of all parts and from where they start."""

    parts: Sequence[Part]
    alphabet: _Alphabet
    budget: Budget
    most_states: int
    numbers: dict[State, int] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    home_ways: list[dict[int, int]] = field(default_factory=list)
    """For each class, where it leads the parts that are at home and do not stay there."""
    kinds: list[int] = field(default_factory=list)
    """For each class, a number that it shares with those that lead alike from home."""
    ways: dict[tuple[int, int], Mapping[int, int]] = field(default_factory=dict)
    """For parts and their states, where common classes lead that do not lead where the home's do."""
    start: int = 0

    def walk(self) -> None:
        self.home_ways = [{} for _ in range(self.alphabet.count)]
        for number, part in enumerate(self.parts):
            for own, target in part.home_ways.items():
                for common in self.alphabet.of_part[number].get(own, ()):
                    self.home_ways[common][number] = target
        self._number({}, False)
        self.start = self._number({number: part.start for number, part in enumerate(self.parts)}, False)
        kinds: dict[frozenset[tuple[int, int]], int] = {}
        self.kinds = [kinds.setdefault(frozenset(ways.items()), len(kinds)) for ways in self.home_ways]
        root = [self._number(ways) for ways in self.home_ways]
        at = 0
        while at < len(self.states):
            self.rows.append(self._row(root, self.states[at][0]))
            at += 1

    def _row(self, root: Sequence[int], away: Away) -> list[int]:
        """Where each class leads from a state; `root` is the row where all parts are at home."""
        row = list(root)
        moves = self._moves(away)
        self.budget.spend(1 + len(moves) // 4)
        reached: dict[tuple[int, tuple[tuple[int, int], ...]], int] = {}
        for common, moved in moves.items():
            key = (self.kinds[common], tuple(moved.items()))
            number = reached.get(key)
            if number is None:
                number = reached[key] = self._number({**self.home_ways[common], **moved})
            row[common] = number
        return row

    def _moves(self, away: Away) -> dict[int, dict[int, int]]:
        """For each class that leads elsewhere than from home, which parts it leads where."""
        if len(away) == 1:
            [(part, state)] = away
            return {common: {part: target} for common, target in self._ways(part, state).items()}
        moves: dict[int, dict[int, int]] = {}
        for part, state in away:
            for common, target in self._ways(part, state).items():
                moves.setdefault(common, {})[part] = target
        return moves

    def _ways(self, part: int, state: int) -> Mapping[int, int]:
        found = self.ways.get((part, state))
        if found is None:
            classes = self.alphabet.of_part[part]
            own = self.parts[part].ways[state]
            found = {common: target for c, target in own.items() for common in classes.get(c, ())}
            self.ways[part, state] = found
        return found

    def _number(self, places: Mapping[int, int], tell: bool = True) -> int:
        """The number of the state where parts are at `places` and the others at home; a new one if there is none."""
        self.budget.spend(1 + len(places))
        mask = NOTHING
        away = []
        for number, state in places.items():
            part = self.parts[number]
            if tell and state in part.hits:
                mask = mask.with_(part.hits[state])
            if state != part.home and (part.ways[state] or part.at_end.get(state) != part.at_end.get(part.home)):
                away.append((number, state))
        key = (frozenset(away), mask)
        found = self.numbers.get(key)
        if found is None:
            found = self.numbers[key] = len(self.states)
            self.states.append(key)
            if found >= self.most_states:
                raise TooLarge(f"more than {self.most_states} states")
        return found

    def _found_at_end(self) -> list[Mask]:
        """For each state, what is found if the text ends there."""
        homes = {n: part.at_end[part.home] for n, part in enumerate(self.parts) if part.home in part.at_end}
        found = []
        for away, _ in self.states:
            mask = NOTHING
            for number, state in away:
                mask = mask.with_(self.parts[number].at_end.get(state, NOTHING))
            for number in homes.keys() - {number for number, _ in away}:
                mask = mask.with_(homes[number])
            found.append(mask)
        return found

    def automaton(self, stride: int, begins: Sequence[bytes] | None) -> Automaton:
        """The table: the states, then one for each mask that the text's end finds. `begins`: as `_begins` has it."""
        masks = {NOTHING: 0}
        numbers = [masks.setdefault(mask, len(masks)) for _, mask in self.states]
        ends: dict[Mask, int] = {NOTHING: 0}
        at_end = [ends.setdefault(mask, len(ends)) for mask in self._found_at_end()]
        numbers += [masks.setdefault(mask, len(masks)) for mask in ends if mask != NOTHING]
        entries = [state * stride | (HIT if number else 0) for state, number in enumerate(numbers)]
        end_entries = [0, *entries[len(self.states) :]]
        table = array("I", bytes(4 * stride * len(numbers)))
        for state, row in enumerate(self.rows):
            at = state * stride
            table[at] = numbers[state]
            table[at + END] = end_entries[at_end[state]]
            table[at + FIRST_CLASS : at + FIRST_CLASS + len(row)] = array("I", [entries[target] for target in row])
        for state in range(len(self.rows), len(numbers)):
            table[state * stride] = numbers[state]
        view = memoryview(table.tobytes()).cast("I")
        classes = bytes(self.alphabet.classes)
        found = sieve.of_row(view, classes) if begins is None else sieve.of_patterns(begins)
        return Automaton(classes, stride, self.start * stride, view, tuple(masks), found)
