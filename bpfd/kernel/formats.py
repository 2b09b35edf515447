"""What a trace event's record holds, as the kernel describes it in the event's `format` file.

Documentation/trace/events.rst; the text is made by f_show in kernel/trace/trace_events.c.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Shape = Literal["number", "pointer", "array", "text", "dynamic"]
"""`array`: so many elements in the record itself; `text`: an array of characters there; `dynamic`: an array elsewhere
in the record, which the field gives the place and length of."""

_FIELD = re.compile(
    r"^\tfield:(?P<declared>[^;]+);\toffset:(?P<offset>\d+);\tsize:(?P<size>\d+);\tsigned:(?P<signed>[01]);",
    re.MULTILINE,
)
_DECLARED = re.compile(r"(?P<type>.*?)\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:\[(?P<length>[^]]*)\])?")
_DYNAMIC = re.compile(r"__(?P<kind>data_loc|rel_loc) (?P<type>.*?)\[\]\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)")
_NAMED = re.compile(r"__print_symbolic(?:_u64)?\(\s*REC->(\w+)\s*,")
_PAIR = re.compile(r"\{\s*([^{}]+?)\s*,\s*\"([^\"]*)\"\s*\}")
_MOST_NAMES = 4096
_ELEMENT_BYTES = {"char": 1, "u8": 1, "__u8": 1, "s8": 1, "u16": 2, "short": 2, "int": 4, "u32": 4, "u64": 8, "long": 8}


@dataclass(frozen=True, slots=True)
class FormatField:
    """One field of a record."""

    name: str
    type: str
    """As the kernel's source has it: `const char *`, `pid_t`, `__u8`."""
    offset: int
    size: int
    """In the record, in bytes; of a dynamic array's place: 4."""
    signed: bool
    shape: Shape
    element: int = 1
    """Arrays: the bytes of an element."""
    relative: bool = False
    """Dynamic arrays: the place is counted from the field's end, not the record's beginning."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Numbers: what the kernel itself calls the values when it prints them."""


def read(path: Path) -> tuple[FormatField, ...]:
    """The fields of the event whose format file is `path`, without the common ones. Raises OSError, ValueError."""
    return parse(path.read_text(errors="replace"))


def parse(text: str) -> tuple[FormatField, ...]:
    """The fields that a format file's `text` describes. Raises ValueError for one that can't be read."""
    described, _, printed = text.partition("print fmt:")
    names = _names(printed)
    found = []
    for match in _FIELD.finditer(described):
        one = _field(match, names)
        if not one.name.startswith("common_"):
            found.append(one)
    return tuple(found)


def _field(match: re.Match[str], names: Mapping[str, Mapping[int, str]]) -> FormatField:
    declared = match["declared"].strip()
    offset, size, signed = int(match["offset"]), int(match["size"]), match["signed"] == "1"
    dynamic = _DYNAMIC.fullmatch(declared)
    if dynamic:
        element = _element(dynamic["type"])
        relative = dynamic["kind"] == "rel_loc"
        return FormatField(dynamic["name"], dynamic["type"], offset, size, signed, "dynamic", element, relative)
    plain = _DECLARED.fullmatch(declared)
    if plain is None:
        raise ValueError(f"a field is declared as {declared!r}, which is not understood")
    name, type_ = plain["name"], plain["type"].strip()
    if plain["length"] is not None:
        shape: Shape = "text" if type_ in ("char", "const char") else "array"
        length = int(plain["length"]) if plain["length"].isdigit() and int(plain["length"]) else 0
        element = size // length if length and size % length == 0 else _element(type_)
        return FormatField(name, type_, offset, size, signed, shape, element)
    if type_.endswith("*"):
        return FormatField(name, type_, offset, size, signed, "pointer")
    if size not in (1, 2, 4, 8):
        return FormatField(name, type_, offset, size, signed, "array")
    return FormatField(name, type_, offset, size, signed, "number", names=names.get(name, {}))


def _element(type_: str) -> int:
    last = type_.removeprefix("const ").removeprefix("unsigned ").strip()
    if type_.strip() == "unsigned long" or last.endswith("*"):
        return 8
    return _ELEMENT_BYTES.get(last, 8 if "64" in last else 4 if "32" in last else 1)


def _names(printed: str) -> dict[str, dict[int, str]]:
    """The names that `__print_symbolic` gives to values of fields; those that are not plain numbers are left out."""
    found: dict[str, dict[int, str]] = {}
    for match in _NAMED.finditer(printed):
        names: dict[int, str] = {}
        at = match.end()
        while len(names) < _MOST_NAMES and (pair := _PAIR.match(printed, _skip(printed, at))):
            number = constant(pair[1])
            if number is None:
                names = {}
                break
            names.setdefault(number, pair[2])
            at = pair.end()
        if names:
            found[match[1]] = names
    return found


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " ,\t":
        at += 1
    return at


def constant(expression: str) -> int | None:
    """The value of a C constant such as `(1UL << 3)`; None: it is more than numbers, `|`, `<<` and brackets."""
    plain = re.sub(r"\b(0[xX][0-9a-fA-F]+|\d+)[uUlL]*\b", r"\1", expression)
    plain = re.sub(r"\(\s*(?:unsigned |signed )?[a-z_][a-z0-9_ ]*\)\s*(?=[(\d-])", "", plain)
    plain = re.sub(r"\b0+(?=\d)", "0o", plain)
    try:
        return _value(ast.parse(plain.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> int:
    match node:
        case ast.Constant(int(number)):
            return int(number)
        case ast.UnaryOp(ast.USub(), operand):
            return -_value(operand)
        case ast.BinOp(left, ast.BitOr(), right):
            return _value(left) | _value(right)
        case ast.BinOp(left, ast.LShift(), right):
            return _value(left) << min(_value(right), 63)
    raise ValueError
