"""What a rule says of its alerts and responses: `fold`, `rate`, `context`, `for`, `tree` and the like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bpfd.rules import duration, filters, values
from bpfd.rules.context import Context
from bpfd.rules.model import Count, Fold, Rate, Sequence
from bpfd.rules.nearest import hint, quoted
from bpfd.rules.problems import Problems

KEYS = ("fold", "rate", "burst", "context", "for", "tree", "settings")
"""The keys of a rule file that are read here."""
MOST_BURST = 1_000_000
MOST_CONTEXT = 100
_PER_MINUTE = {"s": 60.0, "m": 1.0, "h": 1 / 60, "d": 1 / 1440}
_KIN_FIELDS = {"process": ("pid",), "tree": ("containerID",), "container": ("containerID",)}

Table = Mapping[str, object]
Settings = Mapping[str, Mapping[str, Any]]


def fold(table: Table, window: Count | Sequence | None, context: Context) -> Fold | None:
    """The window in which repeats are folded. `by` says what repeats are; a count's `by` is the fold's too.

    The `by` of a sequence tells runs of it apart, and repeats of one run's kin are folded.
    """
    if "fold" not in table:
        return None
    if isinstance(window, Count):
        repeats = window.by
    elif isinstance(window, Sequence):
        repeats = _KIN_FIELDS[window.by]
    else:
        repeats = by(table, context)
    try:
        return Fold(duration.parse(table["fold"]), repeats)
    except ValueError as error:
        context.problems.add(("fold",), str(error))
        return None


def by(table: Table, context: Context) -> tuple[str, ...]:
    """`by` as a list of the tracer's fields."""
    given = values.strings(table["by"], ("by",), context.problems, 'by = ["containerID"]') if "by" in table else ()
    for name in given:
        context.field(name, ("by",))
    return given


def rate(table: Table, problems: Problems) -> Rate | None:
    """How many alerts there may be; `burst`, if it is left out, is as many as the rate names."""
    if "rate" not in table:
        if "burst" in table:
            problems.add(("burst",), 'belongs to rate, and there is none; write such as rate = "10/m"')
        return None
    given = table["rate"]
    burst = _whole(table, "burst", MOST_BURST, problems) if "burst" in table else 0
    found = re.fullmatch(r"(\d{1,7})/([smhd])", given, re.ASCII) if isinstance(given, str) else None
    if found is None or not 1 <= (count := int(found[1])) <= MOST_BURST:
        problems.add(("rate",), f'is no rate of 1 to {MOST_BURST}; write such as "10/m", "1/s", "100/h" or "20/d"')
        return None
    return Rate(count * _PER_MINUTE[found[2]], burst or count)


def before(table: Table, problems: Problems) -> int:
    """`context`: how many events before it an alert carries."""
    return _whole(table, "context", MOST_CONTEXT, problems) if "context" in table else 0


def settings(table: Table, actions: tuple[str, ...], context: Context) -> Settings:
    """The rule's own settings of its actions, by action: those of `[settings.NAME]`, and `for` and `tree`."""
    found = {name: dict(inner) for name, inner in _tables(table, actions, context).items()}
    if "for" in table:
        _give(found, "for", _for_s(table["for"], context.problems), actions, context)
    if "tree" in table:
        _give(found, "tree", filters.flag(table, "tree", context), actions, context)
        if table.get("where") == "kernel":
            what = 'is not for where = "kernel", which signals the process alone; remove one of the two'
            context.problems.add(("tree",), what)
    return found


def _for_s(given: object, problems: Problems) -> float:
    try:
        length_s = duration.parse(given) / 1e9
        if length_s < 1:
            raise ValueError("is less than a second; choose another length of time")
    except ValueError as error:
        problems.add(("for",), str(error))
        return 1
    return length_s


def _give(found: dict[str, dict[str, Any]], key: str, value: Any, actions: tuple[str, ...], context: Context) -> None:
    """Set `key` for every action of the rule that takes it."""
    takers = [name for name, keys in context.known.settings.items() if key in keys]
    chosen = [name for name in actions if name in takers]
    if not chosen:
        listed = ", ".join(sorted(takers)) or "none"
        context.problems.add((key,), f"is for actions that take it ({listed}), and actions has none; name one of them")
    for name in chosen:
        found.setdefault(name, {}).setdefault(key, value)


def _tables(table: Table, actions: tuple[str, ...], context: Context) -> dict[str, Table]:
    outer = table.get("settings", {})
    if not isinstance(outer, dict):
        what = f'is {values.kind(outer)}, not a table; write [settings.slack] and below it channel = "#web"'
        context.problems.add(("settings",), what)
        return {}
    good: dict[str, Table] = {}
    for name, inner in outer.items():
        if not isinstance(inner, dict):
            what = f"is {values.kind(inner)}, not a table; write [settings.{name}] and below it a line for each"
            context.problems.add(("settings", name), what)
        elif name not in actions:
            what = f"is no action of this rule; {hint(name, actions, 'its actions')}"
            context.problems.add(("settings", name), what)
        else:
            allowed = context.known.settings.get(name, ())
            for key in inner:
                if key not in allowed:
                    _refuse(name, key, tuple(allowed), context.problems)
            good[name] = inner
    return good


def _refuse(name: str, key: str, allowed: tuple[str, ...], problems: Problems) -> None:
    if allowed:
        what = f"a rule can't set {quoted(key)} of {name}; {hint(key, allowed, 'keys')}"
    else:
        what = f"a rule can set nothing of {name}; set it in the daemon's configuration"
    problems.add(("settings", name, key), what)


def _whole(table: Table, key: str, most: int, problems: Problems) -> int:
    given = table[key]
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= most:
        problems.add((key,), f"is no whole number from 1 to {most}; write such as {key} = 20")
        return 1
    return given
