"""The values of a rule's filters: strings and numbers as TOML has them, made the text that a test compares with."""

from __future__ import annotations

from ipaddress import ip_address

from bpfd.plugin import Field
from bpfd.rules import fields
from bpfd.rules.locate import KeyPath
from bpfd.rules.nearest import quoted
from bpfd.rules.problems import Problems

LIMITS = {"s64": (-(1 << 63), (1 << 63) - 1), "u64": (0, (1 << 64) - 1)}
_BOOLEAN = {"true": "true", "1": "true", "false": "false", "0": "false"}


def strings(value: object, path: KeyPath, problems: Problems, example: str) -> tuple[str, ...]:
    """A list of strings, none empty, each once. Notes what is wrong, and returns what is right."""
    if not isinstance(value, list):
        problems.add(path, f"is {kind(value)}, not a list; write {example}")
        return ()
    good: dict[str, None] = {}
    for index, item in enumerate(value):
        if not isinstance(item, str):
            problems.add((*path, index), f"is {kind(item)}, not a string; write {example}")
        elif not item:
            problems.add((*path, index), "is empty; write a name or leave it out")
        else:
            good[item] = None
    return tuple(good)


def one(item: object, field: Field) -> str:
    """One value as the text that `field` is compared with. Raises ValueError: what is wrong; what to do."""
    if fields.is_number(field):
        return str(number(item, field))
    if field.type == "bool" and field.show is None:
        return _boolean(item, field)
    if not isinstance(item, str):
        raise ValueError(f'is {kind(item)}, but "{field.name}" is text; write it in quotes')
    if not item:
        raise ValueError("is an empty string; write some text or remove it")
    if field.type == "address" and field.show is None:
        return _address(item, field)
    return item


def number(item: object, field: Field) -> int:
    """A whole number that `field` can hold, from an integer or its decimal text. Raises ValueError."""
    low, high = LIMITS[field.type]
    if isinstance(item, bool) or not isinstance(item, int | str):
        raise ValueError(f'is {kind(item)}, but "{field.name}" is a whole number; write one')
    if isinstance(item, str):
        digits = item.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
            raise ValueError(f'{quoted(item)} is no whole number, but "{field.name}" is one; write digits only')
        item = int(item)
    if not low <= item <= high:
        shown = item if abs(item) < 1 << 128 else "it"  # Python refuses to print numbers of thousands of digits
        raise ValueError(f'{shown} is out of range; "{field.name}" goes from {low} to {high}')
    return item


def _boolean(item: object, field: Field) -> str:
    text = str(item).lower() if isinstance(item, bool | int | str) else ""
    if text not in _BOOLEAN:
        raise ValueError(f'is {kind(item)}, but "{field.name}" is yes or no; write true or false')
    return _BOOLEAN[text]


def _address(item: str, field: Field) -> str:
    try:
        return str(ip_address(item))
    except ValueError:
        what = f'{quoted(item)} is no IP address, but "{field.name}" is one; write such as "10.0.0.1"'
        raise ValueError(what) from None


def kind(value: object) -> str:
    """What a TOML value is, for people."""
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string" if value else "an empty string"
    names: dict[type, str] = {int: "a number", float: "a number with a point", list: "a list", dict: "a table"}
    return names.get(type(value), "a date or time")
