"""A rule file's table, checked against what is known here, made a Rule."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from bpfd.plugin import Field
from bpfd.rules import fields, values
from bpfd.rules.locate import KeyPath
from bpfd.rules.model import RUNTIMES, All, Any, Condition, Rule, Test
from bpfd.rules.nearest import hint, quoted
from bpfd.rules.problems import Problems

Table = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Known:
    """What rules may name: the tracers with their own fields, and the actions with their configured instances."""

    tracers: Mapping[str, tuple[Field, ...]]
    actions: Collection[str]


KEYS = ("name", "tracer", "actions", "containerRuntimes", "filterEvents", "match")
"""The keys at the top of a rule file."""
MISPLACED = "; move it above the first [table]: TOML puts what follows a [table] line inside that table"


def rule(table: Table, known: Known, problems: Problems, default_name: str = "") -> Rule:
    """Check `table` and make it a rule. What is wrong goes into `problems`, all of it; the rule then means nothing."""
    for key in table:
        if key not in KEYS:
            problems.add((key,), _unknown(key))
    name = _name(table, problems, default_name)
    tracer, known_fields = _tracer(table, known, problems)
    actions = _names(table, "actions", known.actions, "actions", problems)
    tests, filters, inner_runtimes = _filters(table, tracer, known_fields, problems)
    runtimes = _names(table, "containerRuntimes", RUNTIMES, "runtimes", problems)
    if runtimes and inner_runtimes:
        problems.add(("containerRuntimes",), "is given twice; keep one of the two")
    runtimes = runtimes or inner_runtimes
    return Rule(name, tracer, actions, _condition(tests, _match(table, problems), runtimes), runtimes, filters)


def name_problem(name: str) -> str:
    """What keeps `name` from being a rule's name: `what; what to do`. Empty: nothing."""
    if not 1 <= len(name) <= 128:
        return "must have 1 to 128 characters" if name else "is empty; give the rule a name"
    if "/" in name:
        return 'has a "/"; use "-" instead'
    if name in (".", ".."):
        return "is a folder's name; give the rule another"
    if not name.isprintable():
        return f"{quoted(name)} has control characters; remove them"
    return ""


def _unknown(key: str) -> str:
    return f"is no key of a rule; {hint(key, KEYS, 'keys')}"


def _name(table: Table, problems: Problems, default: str) -> str:
    name = table.get("name", default)
    if not isinstance(name, str):
        problems.add(("name",), f'is {values.kind(name)}, not a string; write name = "{default or "my-rule"}"')
        return ""
    if "name" not in table and not name:
        problems.add(("name",), 'is missing; write name = "my-rule"')
    elif problem := name_problem(name):
        given = "name" in table
        problems.add(("name",), problem if given else f'{problem}, or write name = "my-rule" in the file')
    return name


def _tracer(table: Table, known: Known, problems: Problems) -> tuple[str, dict[str, Field] | None]:
    """The tracer and the fields that the rule may name; None where the tracer is not known."""
    tracer = table.get("tracer")
    if tracer is None:
        problems.add(("tracer",), f"is missing; {hint('', known.tracers, 'tracers')}")
        return "", None
    if not isinstance(tracer, str):
        problems.add(("tracer",), f'is {values.kind(tracer)}, not a string; write tracer = "exec"')
        return "", None
    if tracer not in known.tracers:
        problems.add(("tracer",), f"there is no tracer {quoted(tracer)}; {hint(tracer, known.tracers, 'tracers')}")
        return tracer, None
    return tracer, fields.table(known.tracers[tracer])


def _names(
    table: Table, key: str, known: Collection[str], kind: str, problems: Problems, path: KeyPath = ()
) -> tuple[str, ...]:
    """A list of names, each known. No list or an empty one: no names."""
    if key not in table:
        return ()
    where = (*path, key)
    names = values.strings(table[key], where, problems, f'{key} = ["{next(iter(sorted(known)), "name")}"]')
    for name in names:
        if name not in known:
            given = table[key]
            index = given.index(name) if isinstance(given, list) else 0
            problems.add((*where, index), f"there is no {kind[:-1]} {quoted(name)}; {hint(name, known, kind)}")
    return names


def _match(table: Table, problems: Problems) -> bool:
    """Whether one matching filter is enough."""
    match = table.get("match", "all")
    if match not in ("all", "any"):
        shown = quoted(match) if isinstance(match, str) else f"is {values.kind(match)}, and"
        problems.add(("match",), f'{shown} is neither "all" nor "any"; write one of them')
    return match == "any"


def _filters(
    table: Table, tracer: str, known: dict[str, Field] | None, problems: Problems
) -> tuple[list[Condition], dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The tests of `[filterEvents]`, the same as written, and container runtimes that stand inside one of its tables.

    The seed's own sample ends with `containerRuntimes` below a filter, where TOML puts it inside that filter; it is
    taken for the rule's, as the sample's text says.
    """
    tests: list[Condition] = []
    written: dict[str, tuple[str, ...]] = {}
    runtimes: tuple[str, ...] = ()
    for name, filter_table in _tables(table, "filterEvents", problems).items():
        path: KeyPath = ("filterEvents", name)
        if "containerRuntimes" in filter_table:
            if runtimes:
                problems.add((*path, "containerRuntimes"), "is given twice; keep one of the two")
            runtimes = _names(filter_table, "containerRuntimes", RUNTIMES, "runtimes", problems, path)
        field = _field(name, tracer, known, path, problems)
        test = _filter(filter_table, field, path, problems)
        if test is not None:
            tests.append(test)
            written[name] = test.values
    return tests, written, runtimes


def _tables(table: Table, key: str, problems: Problems) -> dict[str, Table]:
    """The tables of a table of tables."""
    outer = table.get(key, {})
    if not isinstance(outer, dict):
        problems.add((key,), f"is {values.kind(outer)}, not a table; write [{key}.command] and below it values = [...]")
        return {}
    good: dict[str, Table] = {}
    for name, inner in outer.items():
        if isinstance(inner, dict):
            good[name] = inner
        elif name in KEYS:
            problems.add((key, name), f"is no field{MISPLACED}")
        else:
            problems.add((key, name), f"is {values.kind(inner)}, not a table; write [{key}.{name}] with values = [...]")
    return good


def _field(name: str, tracer: str, known: dict[str, Field] | None, path: KeyPath, problems: Problems) -> Field | None:
    if known is None:
        return None
    field = known.get(name)
    if field is None:
        problems.add(path, f'tracer "{tracer}" has no field {quoted(name)}; {hint(name, known, "fields")}')
    return field


def _filter(table: Table, field: Field | None, path: KeyPath, problems: Problems) -> Test | None:
    """One `[filterEvents.FIELD]`. Its keys are checked even where the field is not known."""
    for key in table:
        if key not in ("values", "containerRuntimes"):
            problems.add(
                (*path, key), "is no key of a filter" + (MISPLACED if key in KEYS else '; the only key is "values"')
            )
    if "values" not in table:
        problems.add(path, f'has no values; write values = ["{field.example if field else "text"}"]')
        return None
    if field is None:
        return None
    wanted = values.listed(table["values"], field, (*path, "values"), problems)
    return Test(field.name, "is" if values.is_exact(field) else "contains", wanted)


def _condition(tests: list[Condition], one_is_enough: bool, runtimes: tuple[str, ...]) -> Condition:
    """The whole rule as one tree. A rule that names nothing holds for every event."""
    if len(tests) == 1:
        whole = tests[0]
    elif one_is_enough and tests:
        whole = Any(tuple(tests))
    else:
        whole = All(tuple(tests))
    if not runtimes:
        return whole
    scope = Test("containerRuntime", "is", runtimes)
    return All((scope, whole)) if tests else scope
