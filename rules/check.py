"""A rule file's table, checked against what is known here, made a Rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bpfd.rules import (
    condition,
    definitions,
    duration,
    fields,
    filters,
    lint,
    output,
    plan,
    reaction,
    resolve,
    sample,
    selftest,
    values,
)
from bpfd.rules.context import Context, Known
from bpfd.rules.locate import KeyPath
from bpfd.rules.model import RUNTIMES, SEVERITIES, SIGNALS, Condition, Count, Example, Rule, Sequence, Test
from bpfd.rules.nearest import hint, quoted
from bpfd.rules.problems import Problems

__all__ = ["Known", "name_problem", "rule"]

Table = Mapping[str, object]

MATCHING = ("filterEvents", "excludeEvents", "match", "container", "containerRuntimes", "condition")
"""The keys that say which events match; a rule with a sequence has none of them."""
KEYS = (
    "name",
    "tracer",
    "actions",
    *MATCHING,
    "severity",
    "tags",
    "description",
    "output",
    "enabled",
    "mode",
    "where",
    "count",
    "within",
    "by",
    "sequence",
    "tests",
    *reaction.KEYS,
    *definitions.KEYS,
)
"""The keys at the top of a rule file."""
_KEYS = frozenset(KEYS)
KIN = ("process", "tree", "container")
MOST_COUNT = 100_000
MOST_STEPS = 16
MOST_TESTS = 1000


def rule(
    table: Table, known: Known, problems: Problems, default_name: str = "", source: str = "", text: str = ""
) -> Rule:
    """Check `table`, the TOML of a `text` from `source`, and make it a rule. What is wrong goes into `problems`, all of
    it; the rule then means nothing.
    """
    for key in table:
        if key not in _KEYS:
            problems.add((key,), f"is no key of a rule; {hint(key, KEYS, 'keys')}")
    context = Context(known, problems)
    name = _name(table, problems, default_name)
    in_sequence = "sequence" in table
    if not in_sequence:
        _tracer(table, context)
    condition_tree, written, runtimes = _condition(table, context)
    actions = filters.names(table, "actions", tuple(known.actions), "actions", context)
    window = _sequence(table, context) if in_sequence else _count(table, context)
    made = Rule(
        name=name,
        tracer=context.tracer,
        actions=actions,
        condition=condition_tree,
        runtimes=runtimes,
        filters=written,
        source=source,
        text=text,
        severity=_choice(table, "severity", SEVERITIES, "notice", problems),
        tags=values.strings(table["tags"], ("tags",), problems, 'tags = ["network"]') if "tags" in table else (),
        description=_line(table, "description", problems),
        output=_output(table, context),
        enabled=filters.flag(table, "enabled", context, default=True),
        mode=_mode(table, problems),
        where=_where(table, actions, problems),
        window=window,
        fold=reaction.fold(table, window, context),
        rate=reaction.rate(table, problems),
        context=reaction.before(table, problems),
        settings=reaction.settings(table, actions, context),
        examples=_examples(table, context),
    )
    if made.where == "kernel" and not problems:
        _kernel_decides(made, known, problems)
    if not problems and not in_sequence:
        lint.tree(made.condition, context, next(((key,) for key in MATCHING if key in table), ("tracer",)))
        selftest.run(made, known.tracers[made.tracer], problems)
    return made


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


def _tracer(table: Table, context: Context) -> None:
    """Note the tracer and the fields that the rule may name."""
    tracer = table.get("tracer")
    known = context.known.tracers
    if tracer is None:
        context.problems.add(("tracer",), f"is missing; {hint('', known, 'tracers')}")
    elif not isinstance(tracer, str):
        context.problems.add(("tracer",), f'is {values.kind(tracer)}, not a string; write tracer = "exec"')
    else:
        context.tracer = tracer
        if tracer in known:
            context.fields = fields.table(known[tracer])
        else:
            context.problems.add(("tracer",), _no_tracer(tracer, context))


def _no_tracer(tracer: str, context: Context) -> str:
    if context.known.no_tracer is not None:
        return context.known.no_tracer(tracer)
    return f"there is no tracer {quoted(tracer)}; {hint(tracer, context.known.tracers, 'tracers')}"


def _condition(table: Table, context: Context) -> tuple[Condition, dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The whole rule as one tree; the `values` as written; the runtimes as written."""
    found = filters.read(table, "filterEvents", context, KEYS)
    excluded = filters.read(table, "excludeEvents", context, KEYS)
    runtimes = filters.names(table, "containerRuntimes", RUNTIMES, "runtimes", context)
    if runtimes and found.runtimes:
        context.problems.add(("containerRuntimes",), "is given twice; keep one of the two")
    runtimes = runtimes or found.runtimes
    others: list[Condition] = [Test("containerRuntime", "is", runtimes)] if runtimes else []
    others += filters.container(table, context, KEYS)
    any_is_enough = _choice(table, "match", ("all", "any"), "all", context.problems) == "any"
    if "condition" in table:
        others += _written_condition(table["condition"], context)
    return filters.joined(found.clauses, any_is_enough, others, excluded.clauses), found.written, runtimes


def _written_condition(text: object, context: Context) -> list[Condition]:
    if not isinstance(text, str):
        context.problems.add(("condition",), f"is {values.kind(text)}, not a condition; write it in quotes")
        return []
    try:
        node = condition.parse(text)
    except condition.ConditionError as error:
        context.problems.add(("condition",), str(error))
        return []
    return [resolve.resolve(node, context, ("condition",))]


def _choice(table: Table, key: str, choices: tuple[str, ...], default: str, problems: Problems) -> str:
    """A key with a few words to choose from."""
    given = table.get(key, default)
    if isinstance(given, str) and given in choices:
        return given
    what = quoted(given) if isinstance(given, str) else f"is {values.kind(given)}, and"
    problems.add((key,), f"{what} is none of {', '.join(choices)}; write one of them")
    return default


def _mode(table: Table, problems: Problems) -> Literal["act", "observe"]:
    return "observe" if _choice(table, "mode", ("act", "observe"), "act", problems) == "observe" else "act"


def _where(table: Table, actions: tuple[str, ...], problems: Problems) -> Literal["user", "kernel"]:
    if _choice(table, "where", ("user", "kernel"), "user", problems) == "user":
        return "user"
    if not any(action in SIGNALS for action in actions):
        what = f'is "kernel", which sends signals, but actions has none; name one of {", ".join(SIGNALS)}'
        problems.add(("where",), what)
    if table.get("mode") == "observe":
        problems.add(("where",), 'is "kernel", but mode = "observe" runs no action; remove one of the two')
    for key in ("count", "sequence"):
        if key in table:
            problems.add(("where",), f'is "kernel", which judges each event alone; remove {key}')
    return "kernel"


def _kernel_decides(rule: Rule, known: Known, problems: Problems) -> None:
    """The kernel acts only on what it decides all by itself: it can't ask anybody."""
    reason = plan.make([rule.condition], known.tracers[rule.tracer]).inexact.get(0)
    if reason is not None:
        what = f'is "kernel", but the kernel does not decide the rule alone: {reason}; change that, or write "user"'
        problems.add(("where",), what)


def _line(table: Table, key: str, problems: Problems) -> str:
    text = table.get(key, "")
    if isinstance(text, str):
        return text
    problems.add((key,), f"is {values.kind(text)}, not a string; write it in quotes")
    return ""


def _output(table: Table, context: Context) -> str:
    text = _line(table, "output", context.problems)
    if problem := output.problem(text, context.fields):
        context.problems.add(("output",), problem)
    return text


def _within(table: Table, problems: Problems) -> int:
    if "within" not in table:
        problems.add(("within",), 'is missing; write how long it may take, such as within = "10s"')
        return 1
    try:
        return duration.parse(table["within"])
    except ValueError as error:
        problems.add(("within",), str(error))
        return 1


def _count(table: Table, context: Context) -> Count | None:
    problems = context.problems
    if "count" not in table:
        if "within" in table:
            problems.add(("within",), "belongs to count or sequence, and there is none; remove it")
        if "by" in table and "fold" not in table:
            problems.add(("by",), "belongs to count, sequence or fold, and there is none; remove it")
        return None
    count = table["count"]
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_COUNT:
        problems.add(("count",), f"is no whole number from 1 to {MOST_COUNT}; write such as count = 20")
        count = 1
    return Count(count, _within(table, problems), reaction.by(table, context))


def _sequence(table: Table, context: Context) -> Sequence:
    problems = context.problems
    for key in ("tracer", *MATCHING, "count", "tests"):
        if key in table:
            problems.add((key,), "has no place in a rule with a sequence, which only follows other rules; remove it")
    rules = _steps(table["sequence"], problems)
    by = table.get("by", "process")
    if not isinstance(by, str) or by not in KIN:
        problems.add(("by",), f"is none of {', '.join(KIN)}; write one of them")
    kin: Literal["process", "tree", "container"] = "process"
    if by == "tree":
        kin = "tree"
    elif by == "container":
        kin = "container"
    return Sequence(rules, _within(table, problems), kin)


def _steps(given: object, problems: Problems) -> tuple[str, ...]:
    """The names of a sequence's rules; unlike other lists, one may come twice."""
    if not isinstance(given, list) or not 2 <= len(given) <= MOST_STEPS:
        problems.add(("sequence",), f'is no list of 2 to {MOST_STEPS} rules; write such as sequence = ["a", "b"]')
        return ()
    for index, name in enumerate(given):
        if not isinstance(name, str) or name_problem(name):
            problems.add(("sequence", index), "is no name of a rule; write one in quotes")
    return tuple(name for name in given if isinstance(name, str))


def _examples(table: Table, context: Context) -> tuple[Example, ...]:
    tests = table.get("tests", [])
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests) or len(tests) > MOST_TESTS:
        what = f"is no list of at most {MOST_TESTS} tests; write [[tests]] and below it event = {{ ... }} and expect"
        context.problems.add(("tests",), what)
        return ()
    return tuple(_example(test, number, context) for number, test in enumerate(tests, 1))


def _example(test: Table, number: int, context: Context) -> Example:
    path: KeyPath = ("tests", number - 1)
    for key in test:
        if key not in ("event", "expect"):
            hinted = filters.MISPLACED if key in KEYS else f"; {hint(key, ('event', 'expect'), 'keys')}"
            context.problems.add((*path, key), f"is no key of a test{hinted}")
    event = test.get("event")
    if not isinstance(event, dict):
        context.problems.add((*path, "event"), 'is no table; write event = { command = "cat" }')
        event = {}
    expect = test.get("expect")
    if expect not in ("match", "no match"):
        context.problems.add((*path, "expect"), 'is neither "match" nor "no match"; write one of them')
    return Example(sample.event(event, context, (*path, "event")), expect == "match", number)
