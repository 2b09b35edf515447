"""An event from a table, in the form of its JSON or with its fields side by side: for rules' tests and `bpfd why`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bpfd.event import Container, Event
from bpfd.plugin import Field
from bpfd.rules import fields, values
from bpfd.rules.context import Context
from bpfd.rules.locate import KeyPath
from bpfd.rules.model import RUNTIMES
from bpfd.rules.nearest import hint, quoted

_CONTAINER = {"containerID": "id", "containerRuntime": "runtime", "containerName": "name", "containerImage": "image"}
_OTHER_NAMES = {"tgid": "pid", "returnValue": "return_value", "containerInit": "container_init", "nsPid": "ns_pid"}
_NESTED = ("data", "container")
_IGNORED = ("rule", "tracer", "severity", "tags", "output", "start", "missed")
"""Keys of an event's JSON that no rule looks at."""
_IGNORED_DATA = ("kernelAction",)
"""The same of its data: what the kernel did, once a rule had matched."""


def event(table: Mapping[str, object], context: Context, path: KeyPath) -> Event:
    """The event of `table`; what it leaves out is empty or 0. Notes what is wrong; the event then means nothing."""
    known = context.fields or {}
    own: dict[str, Any] = {}
    inside: dict[str, Any] = {}
    data: dict[str, str] = {}
    for key, value in table.items():
        where = (*path, key)
        if key in _NESTED:
            continue
        field = known.get(key)
        if field is None:
            if key not in _IGNORED and context.fields is not None:
                what = (
                    f'tracer "{context.tracer}" has no field {quoted(key)}; {hint(key, [*known, *_NESTED], "fields")}'
                )
                context.problems.add(where, what)
        elif key in _CONTAINER:
            inside[_CONTAINER[key]] = _text(value, where, context)
        elif fields.getter(key) is not None:
            own[_OTHER_NAMES.get(key, key)] = _own(value, field, where, context)
        else:
            data[key] = _text(value, where, context)
    for key, value in _table(table, "data", context, path).items():
        if key in _IGNORED_DATA:
            continue
        if context.fields is not None and (key not in known or fields.getter(key) is not None):
            mine = [name for name in known if fields.getter(name) is None]
            what = f'tracer "{context.tracer}" has no field {quoted(key)}; {hint(key, mine, "fields")}'
            context.problems.add((*path, "data", key), what)
        data[key] = _text(value, (*path, "data", key), context)
    inside |= _container(_table(table, "container", context, path), context, (*path, "container"))
    runtime = inside.get("runtime", "not-found")
    if runtime not in RUNTIMES:
        context.problems.add(path, f"there is no runtime {quoted(runtime)}; {hint(runtime, RUNTIMES, 'runtimes')}")
    numbers = {"time": 0, "pid": 0, "tid": 0, "ppid": 0, "uid": 0, "gid": 0, "return_value": 0}
    own = {**numbers, "command": "", **own}
    return Event(tracer=context.tracer, data=data, container=Container(**inside), **own)


def _container(table: Mapping[str, object], context: Context, path: KeyPath) -> dict[str, Any]:
    inside: dict[str, Any] = {}
    for key, value in table.items():
        if key == "labels" and isinstance(value, dict):
            inside[key] = {label: _text(text, (*path, key, label), context) for label, text in value.items()}
        elif key in _CONTAINER.values():
            inside[key] = _text(value, (*path, key), context)
        else:
            context.problems.add((*path, key), f"is no key of a container; {hint(key, _KEYS, 'keys')}")
    return inside


_KEYS = (*_CONTAINER.values(), "labels")


def _table(table: Mapping[str, object], key: str, context: Context, path: KeyPath) -> Mapping[str, object]:
    inner = table.get(key, {})
    if isinstance(inner, dict):
        return inner
    context.problems.add((*path, key), f"is {values.kind(inner)}, not a table; write {key} = {{ ... }}")
    return {}


def _own(value: object, field: Field, path: KeyPath, context: Context) -> str | int:
    if field.is_string:
        return _text(value, path, context)
    if field.type == "bool":
        return _text(value, path, context) == "true"
    try:
        return values.number(value, field)
    except ValueError as error:
        context.problems.add(path, str(error))
        return 0


def _text(value: object, path: KeyPath, context: Context) -> str:
    """The text that the event would carry."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) or (isinstance(value, int) and abs(value) < 1 << 64):
        return str(value)
    context.problems.add(path, f"is {values.kind(value)}, not text; write it in quotes")
    return ""
