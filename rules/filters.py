"""`[filterEvents.FIELD]`, `[excludeEvents.FIELD]` and `[container]`: the tables of a rule that hold its clauses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bpfd.event import NOT_FOUND
from bpfd.plugin import Field
from bpfd.rules import clauses, fields, values
from bpfd.rules.context import Context
from bpfd.rules.locate import KeyPath
from bpfd.rules.model import RUNTIMES, All, Any, Condition, Not, Operator, Test
from bpfd.rules.nearest import hint, quoted

Table = Mapping[str, object]

OPERATORS: Mapping[str, Operator] = {
    "values": "contains",
    "is": "is",
    "prefix": "prefix",
    "suffix": "suffix",
    "glob": "glob",
    "regex": "regex",
    "above": "above",
    "below": "below",
    "net": "net",
    "exists": "exists",
}
"""The keys of a filter that say how it judges; several of them must all hold."""
KEYS = (*OPERATORS, "not", "ignoreCase")
CONTAINER = ("runtime", "id", "name", "image", "label", "host")
MISPLACED = "; move it above the first [table]: TOML puts what follows a [table] line inside that table"


@dataclass(slots=True)
class Filters:
    """What `[filterEvents]` holds."""

    clauses: list[Condition] = field(default_factory=list)
    written: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The `values` of each field."""
    runtimes: tuple[str, ...] = ()
    """Container runtimes that stand inside one of the filters.

    The seed's own sample ends with `containerRuntimes` below a filter, where TOML puts it inside that filter; it is
    taken for the rule's, as the sample's text says.
    """


def read(table: Table, key: str, context: Context, rule_keys: tuple[str, ...]) -> Filters:
    """The filters below `key`; `rule_keys` are those that may have slipped into them from above."""
    found = Filters()
    for name, filter_table in _tables(table, key, context, rule_keys).items():
        path: KeyPath = (key, name)
        if key == "filterEvents" and "containerRuntimes" in filter_table:
            if found.runtimes:
                context.problems.add((*path, "containerRuntimes"), "is given twice; keep one of the two")
            found.runtimes = names(filter_table, "containerRuntimes", RUNTIMES, "runtimes", context, path)
        one = _filter(filter_table, context.field(name, path), context, path, rule_keys)
        if one is not None:
            found.clauses.append(one)
        for test in one.parts if isinstance(one, All) else (one,):
            if isinstance(test, Test) and "values" in filter_table and test.operator in ("contains", "is"):
                found.written.setdefault(name, test.values)
    return found


def names(
    table: Table, key: str, choices: tuple[str, ...], kind: str, context: Context, path: KeyPath = ()
) -> tuple[str, ...]:
    """A list of names, each of them known. No list or an empty one: no names."""
    if key not in table:
        return ()
    given = table[key]
    found = values.strings(given, (*path, key), context.problems, f'{key} = ["{next(iter(sorted(choices)), "name")}"]')
    for name in found:
        if name not in choices:
            index = given.index(name) if isinstance(given, list) else 0
            what = f"there is no {kind[:-1]} {quoted(name)}; {hint(name, choices, kind)}"
            context.problems.add((*path, key, index), what)
    return found


def _tables(table: Table, key: str, context: Context, rule_keys: tuple[str, ...]) -> dict[str, Table]:
    """The tables of a table of tables."""
    outer = table.get(key, {})
    if not isinstance(outer, dict):
        what = f"is {values.kind(outer)}, not a table; write [{key}.command] and below it values = [...]"
        context.problems.add((key,), what)
        return {}
    good: dict[str, Table] = {}
    for name, inner in outer.items():
        if isinstance(inner, dict):
            good[name] = inner
        elif name in rule_keys:
            context.problems.add((key, name), f"is no field{MISPLACED}")
        else:
            what = f"is {values.kind(inner)}, not a table; write [{key}.{name}] with values = [...]"
            context.problems.add((key, name), what)
    return good


def _filter(
    table: Table, of: Field | None, context: Context, path: KeyPath, rule_keys: tuple[str, ...]
) -> Condition | None:
    """One filter. Its keys are checked even where the field is not known."""
    for key in table:
        if key not in KEYS and not (key == "containerRuntimes" and path[0] == "filterEvents"):
            hinted = MISPLACED if key in rule_keys else f"; {hint(key, KEYS, 'keys')}"
            context.problems.add((*path, key), f"is no key of a filter{hinted}")
    negated = flag(table, "not", context, path)
    ignore_case = flag(table, "ignoreCase", context, path)
    used = [key for key in OPERATORS if key in table]
    if not used:
        context.problems.add(path, f'has no values; write values = ["{of.example if of else "text"}"]')
    if of is None or not used:
        return None
    if ignore_case and not fields.is_text(of):
        context.problems.add((*path, "ignoreCase"), f'is for text, which "{of.name}" is not; remove it')
    parts = [part for key in used if (part := _clause(table, key, of, context, path, ignore_case))]
    whole = parts[0] if len(parts) == 1 else All(tuple(parts))
    return Not(whole) if negated else whole


def _clause(table: Table, key: str, of: Field, context: Context, path: KeyPath, ignore_case: bool) -> Condition | None:
    where = (*path, key)
    if key == "exists":
        there = Test(of.name, "exists")
        return there if flag(table, key, context, path) else Not(there)
    operator = OPERATORS[key]
    given = table[key]
    if key == "values":
        # The seed's key. Text contains a value; a number is one of them: a pid of 1 is not in 4213.
        operator = "contains" if fields.is_text(of) else "is"
        if not isinstance(given, list):
            example = f'{key} = ["{of.example or "text"}"]'
            context.problems.add(where, f"is {values.kind(given)}, not a list; write {example}")
            return None
    return clauses.make(of, operator, given, context, where, ignore_case)


def flag(table: Table, key: str, context: Context, path: KeyPath = (), default: bool = False) -> bool:
    """A key that is true or false."""
    value = table.get(key, default)
    if not isinstance(value, bool):
        context.problems.add((*path, key), f"is {values.kind(value)}; write {key} = true or {key} = false")
        return default
    return value


def container(table: Table, context: Context, rule_keys: tuple[str, ...]) -> list[Condition]:
    """The clauses of `[container]`, all of which must hold; `rule_keys` as for `read`."""
    inner = table.get("container", {})
    if not isinstance(inner, dict):
        what = f'is {values.kind(inner)}, not a table; write [container] and below it name = ["web"]'
        context.problems.add(("container",), what)
        return []
    for key in inner:
        if key not in CONTAINER:
            hinted = MISPLACED if key in rule_keys else f"; {hint(key, CONTAINER, 'keys')}"
            context.problems.add(("container", key), f"is no key of [container]{hinted}")
    known = fields.table(())
    parts: list[Condition | None] = []
    if "runtime" in inner:
        given = inner["runtime"] if isinstance(inner["runtime"], list) else [inner["runtime"]]
        runtimes = names({"runtime": given}, "runtime", RUNTIMES, "runtimes", context, ("container",))
        parts.append(Test("containerRuntime", "is", runtimes) if runtimes else None)
    shapes: tuple[tuple[str, str, Operator], ...] = (
        ("id", "containerID", "prefix"),
        ("name", "containerName", "glob"),
        ("image", "containerImage", "glob"),
    )
    for key, name, operator in shapes:
        if key in inner:
            parts.append(clauses.make(known[name], operator, inner[key], context, ("container", key)))
    if "label" in inner:
        parts += _labels(inner["label"], context)
    if "host" in inner:
        host = Test("containerRuntime", "is", (NOT_FOUND,))
        on_host = flag(inner, "host", context, ("container",))
        parts.append(host if on_host else Not(host))
        if on_host and len(inner) > 1:
            what = "is true, and the host is no container; remove it, or the other keys of [container]"
            context.problems.add(("container", "host"), what)
    return [part for part in parts if part is not None]


def _labels(labels: object, context: Context) -> list[Condition | None]:
    """`label = { app = "web*", tier = ["a", "b"] }`: globs; each label named must match."""
    path: KeyPath = ("container", "label")
    if not isinstance(labels, dict) or not labels:
        context.problems.add(path, f'is {values.kind(labels)}; write label = {{ app = "web" }}')
        return []
    parts: list[Condition | None] = []
    for key, wanted in labels.items():
        found = fields.find(f"containerLabel[{key}]", {})
        if found is None:
            context.problems.add((*path, key), "is no label; it has 1 to 256 characters and no brackets")
        else:
            parts.append(clauses.make(found, "glob", wanted, context, (*path, key)))
    return parts


def joined(
    filters: list[Condition], any_is_enough: bool, others: list[Condition], excluded: list[Condition]
) -> Condition:
    """The whole rule as one tree: scope, filters, exceptions. Nothing at all: holds for every event."""
    if any_is_enough and len(filters) > 1:
        filters = [Any(tuple(filters))]
    parts = [*others, *filters, *(Not(exception) for exception in excluded)]
    return parts[0] if len(parts) == 1 else All(tuple(parts))
