"""A tracer's rules as its BPF program reads them: pages of one array map, swapped in whole.

The first page holds the head, with the class of each byte, and the first of the automata's sieves and rows; the rest
hold the others, the intervals of numbers, and what automata find. The layout is that of `struct bpfd_page` in filter.h,
which asserts the same offsets.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import TypeAlias

from bpfd.plugin import Field
from bpfd.rules.automaton import Automaton, Mask
from bpfd.rules.model import RUNTIMES
from bpfd.rules.plan import Plan, TextPlan, number_fields, text_fields

PAGE_BYTES = 65536
PAGE_WORDS = PAGE_BYTES // 4
SCOPES = 32
MOST_MASKS = 2048
ORDER_AT, TEXT_AT, NUMBER_AT, CLASSES_AT, ASKS_AT, SIEVE_AT, ROWS_AT = 304, 432, 688, 1456, 5552, 5680, 8192
EMIT, NUMBERS, TEXT, LATE = range(4)
"""The steps, as BPFD_STEP_ in filter.h."""
SIEVE_BYTES = 256
"""A sieve's table begins at a multiple of so many bytes, or of its size: it lies in one page."""
SMALL_TABLE = 1 << 18
"""Entries of a table that are moved one by one; with more it is numpy's work."""
UNKNOWN_SCOPE = SCOPES - 1
_TEXT = struct.Struct("=QII")
_NUMBER = struct.Struct("=QIIII")
_SIEVE = struct.Struct("=IIBBBB4x")
_MASK = struct.Struct("=QQQ")
_BOUND = struct.Struct("=QQ")
_NO_RULES_YET = 0xFFFFFFFF
"""A generation that no plan has."""

Buffer: TypeAlias = "bytes | bytearray | memoryview"
"""A buffer of single bytes."""


def scope_number(runtime: str) -> int:
    """The index of a container runtime in the head's scopes."""
    return RUNTIMES.index(runtime) if runtime in RUNTIMES else UNKNOWN_SCOPE


@dataclass(slots=True)
class Image:
    """What the pages of a map are to hold: parts at their places, which do not overlap. The rest is 0."""

    parts: list[tuple[int, Buffer]] = field(default_factory=list)
    """Each with its place, in bytes from the begin of the first page."""
    end: int = ROWS_AT

    @property
    def pages(self) -> int:
        return -(-self.end // PAGE_BYTES)

    def add(self, part: Buffer, aligned: int) -> int:
        """Put `part` behind what is there, at a multiple of `aligned` bytes: where."""
        place = -(-self.end // aligned) * aligned
        self.parts.append((place, part))
        self.end = place + len(part)
        return place

    def add_page(self, page: bytes) -> int:
        """Put `page` into a page of its own: which."""
        return self.add(page, PAGE_BYTES) // PAGE_BYTES


def nothing() -> Image:
    """What passes no event at all: for a program whose rules are still to come."""
    return Image([(8, struct.pack("=I", _NO_RULES_YET))])


def lay_out(plan: Plan, tracer_fields: tuple[Field, ...], generation: int, signals: Mapping[str, int] = {}) -> Image:
    """The pages of `plan`. `generation` is what every record judged by it carries, not 0.

    `signals` gives, for `kill`, `stop` and `interrupt`, the bits of rules that have the kernel send that signal.
    """
    head, image, masks = bytearray(ROWS_AT), Image(), _Masks()
    order = _order(plan, tracer_fields)
    head[ORDER_AT : ORDER_AT + len(order)] = order
    # The head and the rows that are walked most share the first page: for most events no other is looked at.
    _lay_rows(plan, tracer_fields, head, image, masks)
    _lay_numbers(plan, tracer_fields, head, image)
    masks_page = image.add_page(b"".join(_MASK.pack(*mask) for mask in masks.all))
    scope = [plan.scope.get(runtime, plan.bits) for runtime in RUNTIMES]
    scope += [plan.bits] * (SCOPES - len(scope))
    scoped = any(bits != plan.bits for bits in scope)
    sent = [signals.get(name, 0) for name in ("kill", "stop", "interrupt")]
    numbers = (generation, scoped, masks_page, plan.wants_ancestors)
    struct.pack_into(f"=QIIII{SCOPES}Q3Q", head, 0, plan.bits, *numbers, *scope, *sent)
    image.parts.append((0, head))
    return image


def _lay_rows(plan: Plan, tracer_fields: tuple[Field, ...], head: bytearray, image: Image, masks: _Masks) -> None:
    """All automata's sieves and rows one after the other, each told to the head."""
    for _, walk, automaton, number, _ in _walks(plan, tracer_fields):
        sieve = automaton.sieve
        place = image.add(sieve.table, max(len(sieve.table), SIEVE_BYTES)) // 4 if sieve.table else 0
        numbers = (place, sieve.mask, sieve.shift, sieve.ahead, sieve.shortest, sieve.kind)
        _SIEVE.pack_into(head, SIEVE_AT + number * _SIEVE.size, *numbers)
        aligned = automaton.stride * 4
        base = -(-image.end // aligned) * aligned // 4
        image.add(_rows(automaton, base, masks.add(automaton.masks)), aligned)
        _TEXT.pack_into(head, TEXT_AT + number * _TEXT.size, walk.free, base + automaton.start, base)
        struct.pack_into("=Q", head, ASKS_AT + number * 8, walk.asks)
        head[CLASSES_AT + number * 256 : CLASSES_AT + number * 256 + 256] = automaton.classes


def _walks(plan: Plan, tracer_fields: tuple[Field, ...]) -> Iterator[tuple[str, TextPlan, Automaton, int, bool]]:
    """Each automaton in the order in which texts are walked: of which field and walk, its number in the head, and
    whether another one of the same walk follows. The first of a field has the field's number.
    """
    texts = text_fields(tracer_fields)
    further = count(len(texts))
    for name in _in_order(plan, tracer_fields):
        first = True
        for walk in plan.texts[name]:
            for automaton in walk.automata:
                number = texts.index(name) if first else next(further)
                yield name, walk, automaton, number, automaton is not walk.automata[-1]
                first = False


def _lay_numbers(plan: Plan, tracer_fields: tuple[Field, ...], head: bytearray, image: Image) -> None:
    """Each number's intervals in a page of its own, told to the head."""
    for number, known in enumerate(number_fields(tracer_fields)):
        found = plan.numbers.get(known.name)
        if found is None:
            continue
        bias = 1 << 63 if known.type == "s64" else 0
        page = image.add_page(b"".join(_BOUND.pack(bound.lower + bias, bound.wanted) for bound in found.bounds))
        _NUMBER.pack_into(head, NUMBER_AT + number * _NUMBER.size, found.free, 1, page, len(found.bounds), 0)


class _Masks:
    """What all automata find, in one table. What has no room there is taken for undecided: Python judges it."""

    def __init__(self) -> None:
        self.all: list[Mask] = [Mask(0, 0, False)]
        self._numbers: dict[Mask, int] = {self.all[0]: 0}

    def add(self, masks: tuple[Mask, ...]) -> list[int]:
        return [self._number(mask) for mask in masks]

    def _number(self, mask: Mask) -> int:
        number = self._numbers.get(mask)
        if number is None and len(self.all) >= MOST_MASKS - 1:
            mask = Mask(0, 0, True)
            number = self._numbers.get(mask)
        if number is None:
            number = self._numbers[mask] = len(self.all)
            self.all.append(mask)
        return number


def _rows(automaton: Automaton, base: int, numbers: list[int]) -> Buffer:
    """The automaton's rows, moved to `base`, with the masks' numbers in the common table."""
    table, stride = automaton.table, automaton.stride
    if len(table) > SMALL_TABLE:
        from bpfd.rules.automaton_large import move

        return move(table, stride, base, numbers)
    moved = array("I", [entry + base for entry in table])
    moved[::stride] = array("I", [numbers[number] for number in table.tolist()[::stride]])
    return moved.tobytes()


def _in_order(plan: Plan, tracer_fields: tuple[Field, ...]) -> list[str]:
    """The texts to walk, those that the probe fills before the late ones."""
    late = {field.name for field in tracer_fields if field.late}
    return sorted(plan.texts, key=lambda name: name in late)


def _order(plan: Plan, tracer_fields: tuple[Field, ...]) -> bytes:
    """The steps in the order in which they sort out most for least: numbers, what the probe filled, late fields."""
    known = {field.name: field for field in tracer_fields}
    late = {field.name for field in tracer_fields if field.late}
    texts = text_fields(tracer_fields)
    early_steps, late_steps = bytearray(), bytearray()
    if plan.numbers.keys() - late:
        early_steps += bytes((NUMBERS, 0, 0, 0))
    if plan.numbers.keys() & late:
        late_steps += bytes((NUMBERS, 0, 0, 0))
    for name, _, _, number, more in _walks(plan, tracer_fields):
        steps = late_steps if name in late else early_steps
        also = known[name].also if name in known else ""
        if also:
            steps += bytes((TEXT, texts.index(also), number, 1))
        steps += bytes((TEXT, texts.index(name), number, more))
    if late_steps:
        early_steps += bytes((LATE, 0, 0, 0))
    return bytes(early_steps + late_steps + bytes((EMIT, 0, 0, 0)))
