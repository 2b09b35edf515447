"""Any trace event of the kernel, by its name: no code, the kernel's own description of it is enough."""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from bpfd.errors import KernelError, UnknownTracerError
from bpfd.kernel import formats, probes
from bpfd.kernel.formats import FormatField
from bpfd.plugin import BPFTracer, Field, Named, TracerFamily
from bpfd.plugins import is_taken

PREFIX = "tracepoint:"
TEXT_BYTES = 1024
"""How much of a text of unknown length is kept, the closing NUL included."""
_PLACE = re.compile(r"([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_-]{1,128})")
_NOT_ATTACHABLE = frozenset(("ftrace",))
"""What the tracing of functions writes; no program can attach there (kernel/trace/trace_export.c)."""
_C_TYPE = {(1, True): "s8", (2, True): "s16", (4, True): "s32", (8, True): "s64"} | {
    (1, False): "u8",
    (2, False): "u16",
    (4, False): "u32",
    (8, False): "u64",
}
UNREAD = b"?"
"""What the kernel's side makes of text that is not in memory (filter.h)."""
_SOCKET_ADDRESS_BYTES = 28
"""sizeof(struct sockaddr_in6), which the events of tcp: use for both families."""


class Tracepoints(TracerFamily):
    """Any trace event of the kernel, such as tracepoint:sched:sched_process_exit

    Its fields are those of the event's format file: numbers, texts, arrays, addresses; values that the kernel itself
    prints by name are shown so. A field whose name every event has already is called `arg_NAME`. Pid, command,
    container and so on are those of the process that runs when the event comes, which for events of interrupts and
    timers is whoever was interrupted. Events of the daemon itself are left out.
    """

    prefix = PREFIX
    example = "tracepoint:sched:sched_process_exit"

    @classmethod
    def find(cls, name: str) -> type[BPFTracer] | None:
        place = _PLACE.fullmatch(name.removeprefix(PREFIX))
        if place is None or place[1] in _NOT_ATTACHABLE:
            return None
        found = read_format(name, place[1], place[2])
        return None if found is None else _tracer(name, place[1], place[2], found)

    @classmethod
    def names(cls) -> Iterable[str]:
        return [f"{PREFIX}{one}" for one in available() if one.partition(":")[0] not in _NOT_ATTACHABLE]


def available() -> list[str]:
    """Every trace event of this kernel, `category:name`; none where that can't be known."""
    try:
        return (probes.tracefs() / "available_events").read_text().split()
    except (OSError, KernelError):
        return []


def read_format(name: str, category: str, event: str) -> tuple[FormatField, ...] | None:
    """What the kernel says of an event, for the tracer `name`; None: there is none. Raises `UnknownTracerError`."""
    try:
        return formats.read(probes.tracefs() / "events" / category / event / "format")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, KernelError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        what = f'the fields of "{name}" are read from the kernel\'s tracefs, which failed: {reason}'
        raise UnknownTracerError(f"{what}; do it as root, on the machine that the rule is for") from None


def _tracer(name: str, category: str, event: str, described: tuple[FormatField, ...]) -> type[BPFTracer]:
    parts = [_part(one, from_user=category == "syscalls") for one in described if one.name != "__syscall_nr"]
    kept = [part for part in parts if part is not None]
    body = "".join(f"  {c}\n" for _, c in kept)
    text = (
        '#include "filter.h"\n#include "trace_event.h"\n'
        f"int tracepoint__{category}__{event}(void *args) {{\n"
        "  struct bpfd_event *e = bpfd_begin();\n  if (!e)\n    return 0;\n"
        f"{body}  return bpfd_submit(args, e);\n}}\n"
    )
    members = {
        "__doc__": f"The kernel's trace event {category}:{event}.",
        "__module__": __name__,
        "name": name,
        "fields": tuple(field for field, _ in kept),
        "program": text,
        "probes": (f"tracepoint:{category}:{event}",),
    }
    return type(event, (BPFTracer,), members)


def field_name(name: str) -> str:
    """The name of a kernel's field in events: its own, unless every event, or the C side, has one of that name."""
    return f"arg_{name}" if is_taken(name) else name


def _part(one: FormatField, from_user: bool) -> tuple[Field, str] | None:
    """A field, and the C that fills it. None: it holds nothing."""
    name = field_name(one.name)
    match one.shape:
        case "number":
            return _number(one, name)
        case "pointer":
            return _pointer(one, name, from_user)
        case "text":
            c = f"bpfd_array_text(e, {name}, args, {one.offset}, {one.size})"
            return Field(name, f"{one.type}[{one.size}]", length=one.size + 1), c
        case "array":
            return _array(one, name) if one.size else None
        case "dynamic":
            return _dynamic(one, name)


def _number(one: FormatField, name: str) -> tuple[Field, str]:
    c = f"e->{name} = BPFD_NUMBER_AT(args, {_C_TYPE[one.size, one.signed]}, {one.offset});"
    if one.type in ("bool", "_Bool"):
        return Field(name, one.type, type="bool"), c
    show = Named(one.names) if one.names else _device if one.type == "dev_t" else None
    doc = f"{one.type}; by name: {_some(one.names)}" if one.names else one.type
    example = next(iter(one.names.values()), "")
    return Field(name, doc, type="s64" if one.signed else "u64", show=show, example=example), c


def _device(number: int) -> str:
    """As the kernel prints it; MINORBITS in include/linux/kdev_t.h."""
    return f"{number >> 20},{number & 0xFFFFF}"


def _some(names: Any) -> str:
    listed = list(names.values())
    return ", ".join(listed[:8]) + (" …" if len(listed) > 8 else "")


def _pointer(one: FormatField, name: str, from_user: bool) -> tuple[Field, str]:
    value = f"BPFD_NUMBER_AT(args, u64, {one.offset})"
    if one.type.removeprefix("const ").replace(" ", "") in ("char*", "unsignedchar*"):
        read = "bpfd_user_string" if from_user else "bpfd_kernel_string"
        return Field(name, one.type, length=TEXT_BYTES), f"{read}(e, {name}, {value});"
    return Field(name, one.type, type="u64", show=hex), f"e->{name} = {value};"


def _array(one: FormatField, name: str) -> tuple[Field, str]:
    doc = f"{one.type}[{one.size // one.element}]"
    if "addr" in one.name and one.size in (4, 16) and one.element == 1:
        kind = "ipv4" if one.size == 4 else "ipv6"
        return Field(name, doc, type="address"), f"bpfd_{kind}_at(e, {name}, args, {one.offset})" + ";" * (
            kind == "ipv6"
        )
    c = f"bpfd_kernel_bytes(e, {name}, (char *)args + {one.offset}, {one.size})"
    show: Callable[[bytes], str] = partial(_numbers, one.element, one.signed)
    if "addr" in one.name and one.size == _SOCKET_ADDRESS_BYTES:
        show = socket_address
    return Field(name, doc, length=one.size + 1, show=show), c


def _dynamic(one: FormatField, name: str) -> tuple[Field, str]:
    base = one.offset + 4 if one.relative else 0
    if one.type in ("char", "const char"):
        c = f"bpfd_kernel_string(e, {name}, BPFD_PLACE_AT(args, {one.offset}, {base}));"
        return Field(name, f"{one.type}[]", length=TEXT_BYTES), c
    show = partial(_numbers, one.element, one.signed)
    c = f"bpfd_dynamic_bytes(e, {name}, args, {one.offset}, {base})"
    return Field(name, f"{one.type}[]", length=TEXT_BYTES + 1, show=show), c


def _numbers(element: int, signed: bool, raw: bytes) -> str:
    """An array as text: bytes in hexadecimal, longer numbers in decimal with commas between."""
    if element == 1:
        return raw.hex(":") if len(raw) == 6 else raw.hex()
    whole = raw[: len(raw) - len(raw) % element]
    order: Any = "little" if struct.pack("=H", 1)[0] else "big"
    return ",".join(
        str(int.from_bytes(whole[at : at + element], order, signed=signed)) for at in range(0, len(whole), element)
    )


def socket_address(raw: bytes) -> str:
    """A `struct sockaddr` as text: `10.0.0.1:443`, `[::1]:443`, a socket's path, `@name`; else, or if cut, its bytes.

    One that could not be read is "?".
    """
    if len(raw) < 2:
        return "?" if raw == UNREAD else raw.hex()
    (family,) = struct.unpack_from("=H", raw)
    if family == 2 and len(raw) >= 16:
        return f"{ipaddress.IPv4Address(raw[4:8])}:{int.from_bytes(raw[2:4], 'big')}"
    if family == 10 and len(raw) >= 24:
        return f"[{ipaddress.IPv6Address(raw[8:24])}]:{int.from_bytes(raw[2:4], 'big')}"
    if family == 1:
        path = raw[2:]
        if path[:1] == b"\0":
            return "@" + path[1:].decode("utf-8", "surrogateescape")
        return path.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    return raw.hex()
