"""Finds the plugins that are installed, and checks what they bring: one that fails is named and left out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from bpfd import hookspecs
from bpfd.event import printable
from bpfd.plugin import FIELD_NAME, NAME, Action, BPFTracer, Field, Tracer
from bpfd.rules import fields as own_fields

GROUP = "bpfd"
"""The entry-point group of plugins."""
BUILT_IN = "bpfd"
"""The distribution whose plugins win where two bring the same name."""
MOST_STRINGS, MOST_NUMBERS = 15, 27
"""How many fields the kernel's tables have room for, beside the event's own."""
MOST_LENGTH = 16384
PAGE = 4096


@dataclass(frozen=True, slots=True)
class Plugins:
    """What all plugins bring together, by name."""

    tracers: dict[str, type[Tracer] | type[BPFTracer]] = field(default_factory=dict)
    actions: dict[str, type[Action]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """A line for each plugin, class or part of one that was left out."""


def load_plugins() -> Plugins:
    """Import every plugin and ask it for its tracers and actions. Never raises for what a plugin does."""
    found = entry_points(group=GROUP)
    plugins = Plugins()
    for entry in sorted(found, key=lambda entry: (_origin(entry) != BUILT_IN, _origin(entry), entry.name)):
        manager = pluggy.PluginManager(GROUP)
        manager.add_hookspecs(hookspecs)
        where = f"plugin {_origin(entry)} ({entry.value})"
        try:
            manager.register(entry.load(), entry.name)
            manager.check_pending()
        except (Exception, SystemExit) as error:
            plugins.problems.append(f"{where}: cannot be loaded: {_said(error)}; left out")
            continue
        _take(manager.hook.bpfd_register_tracers, plugins.tracers, check_tracer, plugins.problems, where)
        _take(manager.hook.bpfd_register_actions, plugins.actions, check_action, plugins.problems, where)
    return plugins


def _origin(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "?"


def _said(error: BaseException) -> str:
    return printable(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def _take(
    hook: Callable[[], list[Iterable[Any]]],
    into: dict[str, Any],
    check: Callable[[object], list[str]],
    problems: list[str],
    where: str,
) -> None:
    """Call one plugin's hook and keep the classes that pass the check."""
    try:
        classes = [one for listed in hook() for one in listed]
    except (Exception, SystemExit) as error:
        problems.append(f"{where}: its hook failed: {_said(error)}; left out")
        return
    for one in classes:
        wrong = check(one)
        if not wrong and one.name in into:
            wrong = [f'name: "{one.name}" is taken by {into[one.name].__module__}; choose another']
        if wrong:
            name = printable(getattr(one, "__qualname__", repr(one)))
            problems += [f"{where}: {name}: {text}" for text in wrong]
        else:
            into[one.name] = one


def check_tracer(tracer: object) -> list[str]:
    """What is wrong with a tracer class, a line each."""
    if not isinstance(tracer, type) or not issubclass(tracer, Tracer | BPFTracer):
        return ["is no subclass of bpfd.Tracer or bpfd.BPFTracer"]
    wrong = [*_check_name(tracer), *_check_fields(tracer.fields)]
    if issubclass(tracer, BPFTracer):
        return wrong + _check_program(tracer)
    return wrong + _check_methods(tracer, {"start": ("emit",), "stop": ()})


def check_action(action: object) -> list[str]:
    """What is wrong with an action class, a line each."""
    if not isinstance(action, type) or not issubclass(action, Action):
        return ["is no subclass of bpfd.Action"]
    wrong = [*_check_name(action), *_check_methods(action, {"act": ("event",), "close": ()})]
    settings = action.settings
    if not isinstance(settings, Mapping) or not all(isinstance(t, str) for item in settings.items() for t in item):
        wrong.append(f"settings: must give each key a line of text, not {settings!r}")
    return wrong


def _check_name(plugin: type) -> list[str]:
    wrong = []
    name = getattr(plugin, "name", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        wrong.append(f'name: must be small letters, digits, - and _, such as "setuid", not {name!r}')
    if not (plugin.__doc__ or "").strip():
        wrong.append("has no docstring; its first line is what lists show")
    return wrong


def _check_methods(plugin: type, wanted: Mapping[str, tuple[str, ...]]) -> list[str]:
    wrong = []
    for name, arguments in wanted.items():
        method = getattr(plugin, name, None)
        if not callable(method) or getattr(method, "__isabstractmethod__", False):
            wrong.append(f"{name}: is missing; define {name}(self{''.join(f', {a}' for a in arguments)})")
            continue
        signature = inspect.signature(method)
        try:
            signature.bind(None, *arguments)
        except TypeError:
            wrong.append(f"{name}{signature}: must take (self{''.join(f', {a}' for a in arguments)})")
    return wrong


def _check_fields(fields: object) -> list[str]:
    if not isinstance(fields, tuple) or not all(isinstance(one, Field) for one in fields):
        return [f"fields: must be a tuple of bpfd.Field, not {type(fields).__name__}"]
    wrong = []
    names = [one.name for one in fields]
    taken = {one.name for one in own_fields.OWN} - set(own_fields.SHARED)
    for one in fields:
        where = f"fields: {one.name!r}"
        if not FIELD_NAME.fullmatch(one.name):
            wrong.append(f"{where}: must be letters, digits and _")
        if one.name in taken:
            wrong.append(f"{where}: every event has a field of that name; choose another")
        if names.count(one.name) > 1:
            wrong.append(f"{where}: is there twice")
        if one.is_string and not 2 <= one.length <= MOST_LENGTH:
            wrong.append(f"{where}: length must be from 2 to {MOST_LENGTH} bytes, not {one.length}")
        if one.type not in ("string", "s64", "u64", "bool", "address"):
            wrong.append(f'{where}: type must be "string", "s64", "u64", "bool" or "address", not {one.type!r}')
        if one.also and not any(other.name == one.also and other.is_string for other in fields):
            wrong.append(f"{where}: also names {one.also!r}, which is no string field")
    strings = sum(one.is_string for one in fields)
    if strings > MOST_STRINGS or len(fields) - strings > MOST_NUMBERS:
        wrong.append(f"fields: at most {MOST_STRINGS} strings and {MOST_NUMBERS} numbers")
    return wrong


def _check_program(tracer: type[BPFTracer]) -> list[str]:
    wrong = []
    program = getattr(tracer, "program", None)
    if program is None or not hasattr(program, "is_file") or not program.is_file():
        wrong.append(f"program: {program} is no file; name the C file beside the module")
    size = tracer.ring_bytes
    if type(size) is not int or size < PAGE or size & (size - 1):
        wrong.append(f"ring_bytes: must be a power of two of at least {PAGE}, not {size!r}")
    return wrong
