"""Finds the plugins that are installed, and checks what they bring: one that fails is named and left out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, get_args

import pluggy

from bpfd import hookspecs
from bpfd.catalogue import Catalogue
from bpfd.event import printable
from bpfd.plugin import FIELD_NAME, NAME, Action, BPFTracer, Field, FieldType, Tracer, TracerFamily
from bpfd.rules import fields as own_fields

GROUP = "bpfd"
"""The entry-point group of plugins."""
BUILT_IN = "bpfd"
"""The distribution whose plugins win where two bring the same name."""
MOST_STRINGS, MOST_NUMBERS = 15, 27
"""How many fields the kernel's tables have room for, beside the event's own."""
MOST_LENGTH = 16384
MOST_COUNTS = 5
"""As many as `struct bpfd_counts` has room for."""
PREFIX = re.compile(r"[a-z][a-z0-9_]{0,31}:")
PAGE = 4096
MOST_SAID = 500
"""How much of what a plugin says is repeated."""
FIELD_TYPES: tuple[str, ...] = get_args(FieldType)
TAKEN = {one.name for one in own_fields.OWN} - set(own_fields.SHARED)
"""Names that every event has."""
C_KEYWORDS = frozenset(
    "asm auto break case char const continue default do double else enum extern float for goto if inline int long "
    "register restrict return short signed sizeof static struct switch typedef typeof union unsigned void volatile "
    "while".split()
)
C_MEMBERS = frozenset(("return_value", "ns_pid", "ancestors_length"))
"""What `struct bpfd_event` has beside the names of TAKEN and those that begin with bpfd_."""
C_MACRO_ARGUMENTS = frozenset("e at args image head key value".split())
"""What macros of filter.h call their arguments, which would take the place of a member of that name."""
TRACER_METHODS: Mapping[str, tuple[str, ...]] = {
    "__init__": (),
    "start": ("emit",),
    "stop": (),
    "container_changed": ("change",),
}
BPF_TRACER_METHODS: Mapping[str, tuple[str, ...]] = {"loaded": ("maps",), "settle": ("data", "return_value")}
ACTION_METHODS: Mapping[str, tuple[str, ...]] = {
    "__init__": ("settings",),
    "begin": ("counters",),
    "act": ("event",),
    "act_on_batch": ("events",),
    "send": ("alert",),
    "undo": ("event",),
    "close": (),
}


@dataclass(frozen=True, slots=True)
class Plugins:
    """What all plugins bring together, by name."""

    tracers: dict[str, type[Tracer] | type[BPFTracer]] = field(default_factory=dict)
    families: dict[str, type[TracerFamily]] = field(default_factory=dict)
    """By prefix."""
    actions: dict[str, type[Action]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """A line for each plugin, class or part of one that was left out."""

    @property
    def catalogue(self) -> Catalogue:
        """Every tracer by its name, those too that are made when they are named."""
        return Catalogue(self.tracers, self.families)


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
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit and what else a stranger may raise
            plugins.problems.append(f"{where}: cannot be loaded: {_said(error)}; left out")
            continue
        _take(manager.hook.bpfd_register_tracers, plugins.tracers, check_tracer, plugins, where)
        _take(manager.hook.bpfd_register_actions, plugins.actions, check_action, plugins, where)
    return plugins


def _origin(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "?"


def _said(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = ""
    return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__)[:MOST_SAID]


def _take(
    hook: Callable[[], list[Iterable[Any]]],
    into: dict[str, Any],
    check: Callable[[object], list[str]],
    plugins: Plugins,
    where: str,
) -> None:
    """Call one plugin's hook and keep the classes that pass the check."""
    try:
        classes = [one for listed in hook() for one in listed]
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        plugins.problems.append(f"{where}: its hook failed: {_said(error)}; left out")
        return
    for one in classes:
        if isinstance(one, type) and issubclass(one, TracerFamily):
            plugins.problems.extend(f"{where}: {text}" for text in _take_family(one, plugins.families))
            continue
        try:
            wrong = check(one)
        except Exception as error:
            wrong = [f"cannot be checked: {_said(error)}"]
        if not wrong and one.name in into:
            wrong = [f'name: "{one.name}" is taken by {into[one.name].__module__}; choose another']
        if wrong:
            name = printable(one.__qualname__ if isinstance(one, type) else type(one).__name__)
            plugins.problems.extend(f"{where}: {name}: {text}" for text in wrong)
        else:
            into[one.name] = one


def _take_family(family: type[TracerFamily], into: dict[str, type[TracerFamily]]) -> list[str]:
    """Keep a family of tracers; what is wrong with it."""
    prefix, name = getattr(family, "prefix", None), family.__qualname__
    if not isinstance(prefix, str) or not PREFIX.fullmatch(prefix):
        return [f'{name}: prefix: must be small letters and a colon, such as "syscall:", not {prefix!r}']
    if prefix in into:
        return [f'{name}: prefix: "{prefix}" is taken by {into[prefix].__module__}; choose another']
    into[prefix] = family
    return []


def check_tracer(tracer: object) -> list[str]:
    """What is wrong with a tracer class, a line each."""
    if not isinstance(tracer, type) or not issubclass(tracer, Tracer | BPFTracer):
        return ["is no subclass of bpfd.Tracer or bpfd.BPFTracer"]
    wrong = [*_check_name(tracer), *check_fields(tracer.fields)]
    if issubclass(tracer, BPFTracer):
        return wrong + _check_program(tracer) + _check_methods(tracer, BPF_TRACER_METHODS, "cls")
    follows: object = tracer.follows_containers
    if not isinstance(follows, bool):
        wrong.append(f"follows_containers: must be True or False, not {follows!r}"[:MOST_SAID])
    return wrong + _check_methods(tracer, TRACER_METHODS)


def check_action(action: object) -> list[str]:
    """What is wrong with an action class, a line each."""
    if not isinstance(action, type) or not issubclass(action, Action):
        return ["is no subclass of bpfd.Action"]
    wrong = [*_check_name(action), *_check_methods(action, ACTION_METHODS)]
    settings = action.settings
    if not isinstance(settings, Mapping) or not all(isinstance(t, str) for item in settings.items() for t in item):
        wrong.append(f"settings: must give each key a line of text, not {settings!r}"[:MOST_SAID])
    elif not isinstance(action.per_rule, tuple) or not {*action.per_rule} <= {*settings}:
        wrong.append(f"per_rule: must be a tuple of keys of settings, not {action.per_rule!r}"[:MOST_SAID])
    if action.acts_on not in ("process", "container"):
        wrong.append(f'acts_on: must be "process" or "container", not {action.acts_on!r}')
    if not isinstance(action.undo_after_s, int | float) or not action.undo_after_s >= 0:
        wrong.append(f"undo_after_s: must be a number of seconds, not {action.undo_after_s!r}")
    return wrong


def _check_name(plugin: type) -> list[str]:
    wrong = []
    name = getattr(plugin, "name", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        wrong.append(f'name: must be small letters, digits, - and _, such as "setuid", not {name!r}')
    if not (plugin.__doc__ or "").strip():
        wrong.append("has no docstring; its first line is what lists show")
    return wrong


def _check_methods(plugin: type, wanted: Mapping[str, tuple[str, ...]], first: str = "self") -> list[str]:
    """The methods that bpfd calls, each with what it is given after `first`; where that is `cls`, on the class."""
    wrong = []
    for name, arguments in wanted.items():
        method, form = getattr(plugin, name, None), f"({', '.join((first, *arguments))})"
        if not callable(method) or getattr(method, "__isabstractmethod__", False):
            wrong.append(f"{name}: is missing; define {name}{form}")
            continue
        signature = inspect.signature(method)
        if first == "cls" and not inspect.ismethod(method):
            wrong.append(f"{name}{signature}: must be a class method and take {form}")
        elif not _takes(signature, (None, *arguments) if first == "self" else arguments):
            wrong.append(f"{name}{signature}: must take {form}")
        if inspect.iscoroutinefunction(method):
            wrong.append(f"async {name}{signature}: is called from a thread, without an event loop; leave out async")
    return wrong


def _takes(signature: inspect.Signature, arguments: tuple[str | None, ...]) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def check_fields(fields: object) -> list[str]:
    """What is wrong with the fields of a tracer, a line each."""
    if not isinstance(fields, tuple) or not all(isinstance(one, Field) for one in fields):
        return [f"fields: must be a tuple of bpfd.Field, not {type(fields).__name__}"]
    wrong = [f"fields: {one.name!r}: {text}" for one in fields for text in _check_field(one, fields)]
    names = [one.name for one in fields]
    wrong += [f"fields: {name!r}: is there twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    strings = sum(one.is_string for one in fields)
    if strings > MOST_STRINGS or len(fields) - strings > MOST_NUMBERS:
        wrong.append(f"fields: at most {MOST_STRINGS} strings and {MOST_NUMBERS} numbers")
    return wrong


def _check_field(one: Field, fields: tuple[Field, ...]) -> list[str]:
    wrong = []
    if not isinstance(one.name, str) or not FIELD_NAME.fullmatch(one.name):
        wrong.append("must be letters, digits and _, at most 64, and begin with no digit")
    if one.name in TAKEN:
        wrong.append("every event has a field of that name; choose another")
    if one.type not in FIELD_TYPES:
        wrong.append(f"type must be one of {', '.join(FIELD_TYPES)}, not {one.type!r}")
    if one.is_string and (type(one.length) is not int or not 2 <= one.length <= MOST_LENGTH):
        wrong.append(f"length must be from 2 to {MOST_LENGTH} bytes, not {one.length!r}")
    if one.also and not any(other.name == one.also and other.is_string for other in fields):
        wrong.append(f"also names {one.also!r}, which is no string field")
    return wrong


def _check_program(tracer: type[BPFTracer]) -> list[str]:
    wrong = [
        f"fields: {one.name!r}: the C side cannot have a member of that name; choose another"
        for one in (tracer.fields if isinstance(tracer.fields, tuple) else ())
        if isinstance(one, Field) and _is_taken_in_c(one.name)
    ]
    program = getattr(tracer, "program", None)
    if not isinstance(program, Path):
        wrong.append(f"program: must be a pathlib.Path, the C file beside the module, not {program!r}"[:MOST_SAID])
    elif not program.is_file():
        wrong.append(f"program: {printable(str(program))} is no file; name the C file beside the module")
    size = tracer.ring_bytes
    if type(size) is not int or size < PAGE or size & (size - 1):
        wrong.append(f"ring_bytes: must be a power of two of at least {PAGE}, not {size!r}")
    if not _are_counts(tracer.counts):
        wrong.append(f"counts: must be a tuple of at most {MOST_COUNTS} names, not {tracer.counts!r}"[:MOST_SAID])
    if not isinstance(tracer.probes, tuple) or not all(isinstance(one, str) for one in tracer.probes):
        wrong.append(f"probes: must be a tuple of texts, not {tracer.probes!r}"[:MOST_SAID])
    return wrong


def is_taken(name: str) -> bool:
    """Whether a tracer may not have a field of that name: every event has one, or the C side."""
    return name in TAKEN or name in own_fields.SHARED or _is_taken_in_c(name)


def _are_counts(counts: object) -> bool:
    """Are they names, and none that every tracer has?"""
    return (
        isinstance(counts, tuple)
        and len(counts) <= MOST_COUNTS
        and all(isinstance(one, str) and NAME.fullmatch(one) and one not in ("lost", "unattached") for one in counts)
    )


def _is_taken_in_c(name: object) -> bool:
    return isinstance(name, str) and (
        name in C_KEYWORDS or name in C_MEMBERS or name in C_MACRO_ARGUMENTS or name.startswith("bpfd_")
    )
