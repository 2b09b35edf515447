"""One clause of a rule, whichever way it is written: the operator must fit the field, and each value too."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import ip_network

from bpfd.counted import counted
from bpfd.plugin import Field, Named
from bpfd.rules import fields, values
from bpfd.rules.context import Context
from bpfd.rules.locate import KeyPath
from bpfd.rules.model import RUNTIMES, Operator, Test
from bpfd.rules.nearest import hint, quoted

_TEXT: tuple[Operator, ...] = ("contains", "is", "prefix", "suffix", "glob", "regex", "exists")
_NUMBER: tuple[Operator, ...] = ("is", "above", "below", "exists")
_ADDRESS: tuple[Operator, ...] = ("is", "net", "exists")
_BOOL: tuple[Operator, ...] = ("is", "exists")


def allowed(field: Field) -> tuple[tuple[Operator, ...], str]:
    """The operators that judge `field`, and what it is, for people."""
    if fields.is_text(field):
        return _TEXT, "text"
    if field.type == "address":
        return _ADDRESS, "an address"
    if field.type == "bool":
        return _BOOL, "yes or no"
    return _NUMBER, "a number"


def fits(
    field: Field, operator: Operator, context: Context, path: KeyPath, words: Mapping[str, str] | None = None
) -> bool:
    """Whether `operator` judges `field`; notes a problem if not, in which `words` stand for the operators."""
    operators, kind = allowed(field)
    if operator in operators:
        return True
    if words is not None:
        names = ", ".join(words[name] for name in operators if name in words)
        word = words.get(operator, operator)
        context.problems.add(path, f'"{field.name}" is {kind}, which "{word}" does not judge; use {names}')
        return False
    context.problems.add(
        path, f'"{field.name}" is {kind}, which "{operator}" does not judge; use {", ".join(operators)}'
    )
    return False


def make(
    field: Field, operator: Operator, items: object, context: Context, path: KeyPath, ignore_case: bool = False
) -> Test | None:
    """A clause with `items`, one value or a list of them, each with its own problem. None: nothing that is right."""
    if not fits(field, operator, context, path):
        return None
    if items == []:
        context.problems.add(path, "is an empty list, which nothing matches; name a value, or remove the clause")
        return None
    many = items if isinstance(items, list) else [items]
    good: dict[str, None] = {}
    long = []
    for index, item in enumerate(many):
        where = (*path, index) if isinstance(items, list) else path
        try:
            value = _value(item, field, operator, context)
        except ValueError as error:
            context.problems.add(where, str(error))
            continue
        good[value] = None
        if operator == "is" and not ignore_case and (words := _words(field)) and not _may_be(value, words):
            what = f'{quoted(value)} is nothing that "{field.name}" can be; it never matches, '
            context.problems.warn(where, what + hint(value, words, "choices"))
        if is_too_long(value, field, operator):
            long.append((where, value))
    for where, value in long:
        kept = f'"{field.name}" keeps {counted(field.length - 1, "byte")}'
        context.problems.warn(where, f"{quoted(value)} is longer than that: {kept}; it never matches, shorten it")
    return Test(field.name, operator, tuple(good), ignore_case) if good else None


def _words(field: Field) -> tuple[str, ...]:
    """All that `field` can be beside numbers; none: it may be any text."""
    if isinstance(field.show, Named):
        return tuple(field.show.names.values())
    return RUNTIMES if field.name == "containerRuntime" else ()


def _may_be(value: str, words: Collection[str]) -> bool:
    """A number that has no name is shown as it is."""
    return value in words or value.removeprefix("-").isdigit()


def is_too_long(value: str, field: Field, operator: Operator) -> bool:
    """Whether no text that the field keeps can pass. Text that a tracer makes of a value may have any length."""
    if not field.is_string or field.show is not None or operator not in ("contains", "is", "prefix", "suffix"):
        return False
    return len(value.encode()) > field.length - 1


def _value(item: object, field: Field, operator: Operator, context: Context) -> str:
    if operator == "net":
        return _network(item)
    value = values.one(item, field)
    if operator in ("glob", "regex"):
        context.take_pattern(operator, value)
    return value


def _network(item: object) -> str:
    try:
        if not isinstance(item, str):
            raise ValueError
        return str(ip_network(item, strict=False))
    except ValueError:
        raise ValueError(f'{quoted(item)} is no network; write such as "10.0.0.0/8" or "fd00::/8"') from None
