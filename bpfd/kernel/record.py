"""How an event lies in the ring: one layout, made from a tracer's fields, for the C side and for the decoder.

    header | one number of 8 bytes a numeric field, 16 bytes an address | a u16 length a string | the strings, packed

The C side fills `struct bpfd_event`, which begins with that layout and goes on with a place for each string.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterator
from typing import Any

from bpfd.event import Container, Event
from bpfd.plugin import BPFTracer, Field
from bpfd.rules import plan

HEADER = (
    ("u64", "bpfd_time", "Q"),
    ("u64", "bpfd_cgroup_id", "Q"),
    ("u64", "bpfd_born", "Q"),
    ("u64", "bpfd_candidates", "Q"),
    ("s64", "return_value", "q"),
    ("u32", "pid", "I"),
    ("u32", "tid", "I"),
    ("u32", "ppid", "I"),
    ("u32", "uid", "I"),
    ("u32", "gid", "I"),
    ("u32", "bpfd_generation", "I"),
    ("u64", "bpfd_inode", "Q"),
    ("u32", "ns_pid", "I"),
    ("u16", "ancestors_length", "H"),
    ("u16", "bpfd_signal", "H"),
    ("char", "command[16]", "16s"),
    ("char", "bpfd_parent[16]", "16s"),
)
"""C type, C name, struct code of what every record begins with. Offsets are naturally aligned: no padding.

Names that a tracer might want for a field of its own begin with bpfd_.
"""

WALK = 512
"""BPFD_WALK in filter.h: a text of so many bytes or more is left to Python."""

KERNEL_ACTION = "kernelAction"
"""The key of an event's data that says what the kernel did to the process already."""
SIGNALS = {9: "kill", 19: "stop", 2: "interrupt"}
"""The signals that the kernel sends, by the names of the actions."""
ANCESTORS = 256
"""Room for the ancestors' commands, 16 of them: BPFD_ANCESTORS in filter.h."""

_C_TYPE = {"s64": "s64", "u64": "u64", "bool": "u64", "address": "u8"}
_CODE = {"s64": "q", "u64": "Q", "bool": "Q", "address": "16s"}

Clock = Callable[[], int]
"""What to add to nanoseconds of the boot clock to have wall-clock ones."""
Lookup = Callable[[int], Container]
Users = Callable[[int], str]
"""From a user's number to the name."""
Decoder = Callable[[bytes], tuple[Event, tuple[int, int]]]
"""From a record to the event, and which set of rules the kernel judged it by, with the bits that are left."""


def numbers(fields: tuple[Field, ...]) -> Iterator[Field]:
    return (field for field in fields if not field.is_string)


def strings(fields: tuple[Field, ...]) -> Iterator[Field]:
    return (field for field in fields if field.is_string)


def c_declarations(fields: tuple[Field, ...]) -> str:
    """The C text that says the layout: `struct bpfd_event`, the fields' numbers, and `bpfd_pack`."""
    wire = [f"  {kind} {name};" for kind, name, _ in HEADER]
    wire += [f"  {_C_TYPE[f.type]} {f.name}{'[16]' if f.type == 'address' else ''};" for f in numbers(fields)]
    text = list(strings(fields))
    total = sum(field.length for field in text) + ANCESTORS + 8
    places = [f"  char {field.name}[{2 * field.length}];" for field in text]
    places.append(f"  char bpfd_walk_room[{2 * WALK}];")
    lines = [
        "struct bpfd_event {",
        *wire,
        f"  u16 bpfd_length[{max(len(text), 1)}];",
        f"  char bpfd_packed[{total}];",
        f"  u16 bpfd_start[{max(len(text), 1)}];",
        "  u64 bpfd_wanted, bpfd_refused, bpfd_undecided, bpfd_exact, bpfd_key, bpfd_own[4];",
        "  u32 bpfd_step, bpfd_do, bpfd_text, bpfd_plan, bpfd_more, bpfd_is_late, bpfd_of_other;",
        "  u32 bpfd_place, bpfd_base, bpfd_size;",
        f"  char bpfd_ancestors[{2 * ANCESTORS}];",
        *places,
        "};",
    ]
    for number, field in enumerate(text):
        lines.append(f"#define BPFD_NUMBER_{field.name} {number}")
        lines.append(f"#define BPFD_LENGTH_{field.name} {field.length}")
    lines.append(f"#define BPFD_STRINGS {len(text)}")
    lines.append(f"#define BPFD_HAS_LATE {int(any(field.late for field in fields))}")
    lines.append("#define BPFD_PACK_STRINGS(e, at) " + " ".join(f"BPFD_PACK(e, at, {f.name})" for f in text))
    lines.append("#define BPFD_CLEAR_NUMBERS(e) " + " ".join(_clear(f) for f in numbers(fields)))
    lines += _questions(fields)
    return "\n".join(lines) + "\n"


def _questions(fields: tuple[Field, ...]) -> list[str]:
    """Macros that tell the kernel filter where each field lies, by its number in the filter's tables."""
    texts = []
    known = {field.name for field in strings(fields)}
    for number, name in enumerate(plan.text_fields(fields)):
        if name in known:
            at = f"__builtin_offsetof(struct bpfd_event, {name}) + (e)->bpfd_start[BPFD_NUMBER_{name}]"
            texts.append(
                f"if ((e)->bpfd_text == {number}) {{ (e)->bpfd_base = {at};"
                f" (e)->bpfd_size = (e)->bpfd_length[BPFD_NUMBER_{name}]; }}"
            )
    early: list[str] = []
    late: list[str] = []
    for number, field in enumerate(plan.number_fields(fields)):
        if number >= len(plan.OWN_NUMBERS):
            asked = f"BPFD_ASK_NUMBER(e, image, head, {number}, BPFD_KEY_{field.type}((e)->{field.name}))"
            (late if field.late else early).append(asked)
    return [
        "#define BPFD_LOCATE_TEXT(e) " + " ".join(texts),
        "#define BPFD_ASK_NUMBERS(e, image, head) " + " ".join(early),
        "#define BPFD_ASK_LATE_NUMBERS(e, image, head) " + " ".join(late),
    ]


def _clear(field: Field) -> str:
    if field.type == "address":
        return f"__builtin_memset((e)->{field.name}, 0, 16);"
    return f"(e)->{field.name} = 0;"


def layout(fields: tuple[Field, ...]) -> struct.Struct:
    """The fixed part of a record, little or big endian as this machine is."""
    codes = "".join(code for _, _, code in HEADER) + "".join(_CODE[f.type] for f in numbers(fields))
    return struct.Struct("=" + codes + "H" * max(sum(1 for _ in strings(fields)), 1))


def make_decoder(tracer: type[BPFTracer], container_of: Lookup, user_of: Users, clock: Clock, host: str) -> Decoder:
    """The decoder of a tracer's records. Hot path, event thread only: it allocates the event and nothing else.

    Text is decoded with `surrogateescape`; a value that is left out of the event because it is empty is one of an
    `optional` field.
    """
    fields = tracer.fields
    fixed = layout(fields)
    unpack, begin = fixed.unpack_from, fixed.size
    number_plan, text_plan = _number_plan(fields), _text_plan(fields)
    settle = tracer.settle if tracer.settle.__func__ is not BPFTracer.settle.__func__ else None  # type: ignore[attr-defined]
    commands = _Commands()
    name, new_event = tracer.name, tuple.__new__

    def decode(record: bytes) -> tuple[Event, tuple[int, int]]:
        values = unpack(record)
        (time, cgroup, start, candidates, result, pid, tid, ppid, uid, gid, generation) = values[:11]
        (inode, ns_pid, ancestors_length, signal, command, parent) = values[11:17]
        data: dict[str, str] = {}
        at = begin + ancestors_length
        for index, key, show, optional in text_plan:
            end = at + values[index]
            raw = record[at:end]
            at = end
            if raw or not optional:
                data[key] = show(raw)
        for index, key, show, left_out in number_plan:
            number = values[index]
            if number != left_out:
                data[key] = show(number)
        if settle is not None:
            settle(data, result)
        if signal:
            data[KERNEL_ACTION] = SIGNALS[signal]
        container = container_of(cgroup)
        event = new_event(
            Event,
            (
                time + clock(),
                name,
                pid,
                tid,
                ppid,
                uid,
                gid,
                commands[command],
                result,
                data,
                container,
                "",
                host,
                start,
                time - start if start else 0,
                user_of(uid),
                commands[parent],
                _decode(record[begin : begin + ancestors_length]) if ancestors_length else "",
                ns_pid == 1 and container.id != "",
                inode,
                ns_pid,
            ),
        )
        return event, (generation, candidates)

    return decode


NumberPlan = list[tuple[int, str, Callable[[Any], str], int | bytes | None]]
TextPlan = list[tuple[int, str, Callable[[bytes], str], bool]]


def _number_plan(fields: tuple[Field, ...]) -> NumberPlan:
    """Of each number or address: its place among the fixed part's values, name, text, and what is left out."""
    return [(len(HEADER) + at, f.name, f.show or _SHOW[f.type], _left_out(f)) for at, f in enumerate(numbers(fields))]


def _text_plan(fields: tuple[Field, ...]) -> TextPlan:
    """Of each text: the place of its length among the fixed part's values, name, how it is decoded, and whether it is
    left out where it is empty."""
    first = len(HEADER) + len(list(numbers(fields)))
    return [
        (first + at, f.name, f.show or (_spaced if f.spaces else _decode), f.optional)
        for at, f in enumerate(strings(fields))
    ]


def _left_out(field: Field) -> int | bytes | None:
    """The value with which a number or an address is left out of the event; None: it is always there."""
    if not field.optional:
        return None
    return bytes(16) if field.type == "address" else 0


class _Commands(dict[bytes, str]):
    """Commands by their bytes, decoded once; programs are few. Bounded: a process may call itself anything."""

    def __missing__(self, command: bytes) -> str:
        if len(self) >= 4096:
            self.clear()
        text = self[command] = _decode(command.split(b"\0", 1)[0])
        return text


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _spaced(raw: bytes) -> str:
    return raw.replace(b"\0", b" ").decode("utf-8", "surrogateescape")


def _address(raw: bytes) -> str:
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)


def _bool(number: int) -> str:
    return "true" if number else "false"


_SHOW: dict[str, Callable[[Any], str]] = {"s64": str, "u64": str, "bool": _bool, "address": _address}
