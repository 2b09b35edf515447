"""A tracer's rules as its BPF program reads them: pages of one array map, swapped in whole.

The first page holds the head, with the class of each byte, and the first rows of the automata; the rest hold the other
rows, the intervals of numbers, and what automata find. The layout is that of `struct bpfd_page` in filter.h, which
asserts the same offsets.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Mapping
from itertools import count

from bpfd.plugin import Field
from bpfd.rules.automaton import Automaton, Mask
from bpfd.rules.model import RUNTIMES
from bpfd.rules.plan import Plan, TextPlan, number_fields, text_fields

PAGE_BYTES = 65536
PAGE_WORDS = PAGE_BYTES // 4
SCOPES = 32
MOST_MASKS = 2048
ORDER_AT, TEXT_AT, NUMBER_AT, CLASSES_AT, ROWS_AT = 304, 432, 688, 1456, 8192
EMIT, NUMBERS, TEXT, LATE = range(4)
"""The steps, as BPFD_STEP_ in filter.h."""
SMALL_TABLE = 1 << 18
"""Entries of a table that are moved one by one; with more it is numpy's work."""
UNKNOWN_SCOPE = SCOPES - 1
_TEXT = struct.Struct("=QII")
_NUMBER = struct.Struct("=QIIII")
_MASK = struct.Struct("=QQQ")
_BOUND = struct.Struct("=QQ")


def scope_number(runtime: str) -> int:
    """The index of a container runtime in the head's scopes."""
    return RUNTIMES.index(runtime) if runtime in RUNTIMES else UNKNOWN_SCOPE


def lay_out(
    plan: Plan, tracer_fields: tuple[Field, ...], generation: int, signals: Mapping[str, int] = {}
) -> list[bytes]:
    """The pages of `plan`, in order. `generation` is what every record judged by it carries, not 0.

    `signals` gives, for `kill`, `stop` and `interrupt`, the bits of rules that have the kernel send that signal.
    """
    head = bytearray(ROWS_AT)
    masks = _Masks()
    order = _order(plan, tracer_fields)
    head[ORDER_AT : ORDER_AT + len(order)] = order
    rows = _lay_rows(plan, tracer_fields, head, masks)
    # The head and the rows that are walked most share the first page: for most events no other is looked at.
    data = bytes(head) + rows
    pages = [data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES)]
    _lay_numbers(plan, tracer_fields, head, pages)
    masks_page = len(pages)
    pages.append(b"".join(_MASK.pack(*mask) for mask in masks.all))
    scope = [plan.scope.get(runtime, plan.bits) for runtime in RUNTIMES]
    scope += [plan.bits] * (SCOPES - len(scope))
    scoped = any(bits != plan.bits for bits in scope)
    sent = [signals.get(name, 0) for name in ("kill", "stop", "interrupt")]
    numbers = (generation, scoped, masks_page, plan.wants_ancestors)
    struct.pack_into(f"=QIIII{SCOPES}Q3Q", head, 0, plan.bits, *numbers, *scope, *sent)
    pages[0] = bytes(head) + pages[0][ROWS_AT:]
    return pages


def _lay_rows(plan: Plan, tracer_fields: tuple[Field, ...], head: bytearray, masks: _Masks) -> bytes:
    """All automata's rows one after the other, each told to the head."""
    rows = bytearray()
    for _, walk, automaton, number, _ in _walks(plan, tracer_fields):
        rows += bytes(-(ROWS_AT + len(rows)) % (automaton.stride * 4))
        base = (ROWS_AT + len(rows)) // 4
        _TEXT.pack_into(head, TEXT_AT + number * _TEXT.size, walk.free, base + automaton.start, base)
        head[CLASSES_AT + number * 256 : CLASSES_AT + number * 256 + 256] = automaton.classes
        rows += _rows(automaton, base, masks.add(automaton.masks))
    return bytes(rows)


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


def _lay_numbers(plan: Plan, tracer_fields: tuple[Field, ...], head: bytearray, pages: list[bytes]) -> None:
    """Each number's intervals in a page of its own, told to the head."""
    for number, known in enumerate(number_fields(tracer_fields)):
        found = plan.numbers.get(known.name)
        if found is None:
            continue
        place = NUMBER_AT + number * _NUMBER.size
        _NUMBER.pack_into(head, place, found.free, 1, len(pages), len(found.bounds), 0)
        bias = 1 << 63 if known.type == "s64" else 0
        pages.append(b"".join(_BOUND.pack(bound.lower + bias, bound.wanted) for bound in found.bounds))


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


def _rows(automaton: Automaton, base: int, numbers: list[int]) -> bytes:
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
