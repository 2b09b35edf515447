"""A tracer's rules as its BPF program reads them: pages of one array map, swapped in whole.

The first page holds the head, with the class of each byte and what automata find; the rest hold the automata's rows and
the intervals of numbers. The layout is that of `struct bpfd_page` in filter.h, which asserts the same offsets.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy

from bpfd.plugin import Field
from bpfd.rules.automaton import Automaton, Mask
from bpfd.rules.model import RUNTIMES
from bpfd.rules.plan import Plan, number_fields, text_fields

PAGE_BYTES = 65536
PAGE_WORDS = PAGE_BYTES // 4
SCOPES = 32
MOST_MASKS = 2048
ORDER_AT, TEXT_AT, NUMBER_AT, CLASSES_AT, MASKS_AT = 272, 400, 656, 1424, 8192
EMIT, NUMBERS, TEXT, LATE = range(4)
"""The steps, as BPFD_STEP_ in filter.h."""
UNKNOWN_SCOPE = SCOPES - 1
_TEXT = struct.Struct("=QII")
_NUMBER = struct.Struct("=QIIII")
_MASK = struct.Struct("=QQQ")
_BOUND = struct.Struct("=QQ")


def scope_number(runtime: str) -> int:
    """The index of a container runtime in the head's scopes."""
    return RUNTIMES.index(runtime) if runtime in RUNTIMES else UNKNOWN_SCOPE


def lay_out(plan: Plan, tracer_fields: tuple[Field, ...], generation: int) -> list[bytes]:
    """The pages of `plan`, in order. `generation` is what every record judged by it carries, not 0."""
    head = bytearray(PAGE_BYTES)
    scope = [plan.scope.get(runtime, plan.bits) for runtime in RUNTIMES]
    scope += [plan.bits] * (SCOPES - len(scope))
    scoped = any(bits != plan.bits for bits in scope)
    struct.pack_into(f"=QII{SCOPES}Q", head, 0, plan.bits, generation, scoped, *scope)
    pages = [b""]
    masks = _Masks()
    texts = {name: number for number, name in enumerate(text_fields(tracer_fields))}
    for name, text in plan.texts.items():
        number = texts[name]
        base = len(pages) * PAGE_WORDS
        numbers = masks.add(text.automaton.masks)
        pages += _rows(text.automaton, base, numbers)
        _TEXT.pack_into(head, TEXT_AT + number * _TEXT.size, text.free, base + text.automaton.start, 0)
        at = CLASSES_AT + number * 256
        head[at : at + 256] = text.automaton.classes
    for number, known in enumerate(number_fields(tracer_fields)):
        found = plan.numbers.get(known.name)
        if found is None:
            continue
        at = NUMBER_AT + number * _NUMBER.size
        _NUMBER.pack_into(head, at, found.free, 1, len(pages), len(found.bounds), 0)
        bias = 1 << 63 if known.type == "s64" else 0
        pages.append(b"".join(_BOUND.pack(bound.lower + bias, bound.wanted) for bound in found.bounds))
    for number, mask in enumerate(masks.all):
        _MASK.pack_into(head, MASKS_AT + number * _MASK.size, *mask)
    order = _order(plan, tracer_fields, texts)
    head[ORDER_AT : ORDER_AT + len(order)] = order
    pages[0] = bytes(head)
    return pages


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


def _rows(automaton: Automaton, base: int, numbers: list[int]) -> list[bytes]:
    """The automaton's rows, moved to `base` and with the masks' numbers in the common table, cut into pages."""
    rows = automaton.table.reshape(-1, automaton.stride).copy()
    own = rows[:, 0].copy()
    rows += numpy.uint32(base)
    rows[:, 0] = numpy.array(numbers, dtype=numpy.uint32)[own]
    data = rows.tobytes()
    return [data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES)]


def _order(plan: Plan, tracer_fields: tuple[Field, ...], texts: Mapping[str, int]) -> bytes:
    """The steps in the order in which they sort out most for least: numbers, what the probe filled, late fields."""
    known = {field.name: field for field in tracer_fields}
    order = bytearray()
    if plan.numbers:
        order += bytes((NUMBERS, 0, 0, 0))
    early = [name for name in plan.texts if not (name in known and known[name].late)]
    late = [name for name in plan.texts if name in known and known[name].late]
    for name in early:
        order += _ask(name, known, texts)
    if any(field.late for field in tracer_fields):
        order += bytes((LATE, 0, 0, 0))
    for name in late:
        order += _ask(name, known, texts)
    return bytes(order + bytes((EMIT, 0, 0, 0)))


def _ask(name: str, known: Mapping[str, Field], texts: Mapping[str, int]) -> bytes:
    """Walk a text; if another is judged too, that one first, by the same automaton."""
    plan = texts[name]
    also = known[name].also if name in known else ""
    other = bytes((TEXT, texts[also], plan, 1)) if also else b""
    return other + bytes((TEXT, plan, plan, 0))
