"""Rule files read: from TOML text, or a whole directory, with every problem of every file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import tomli

from bpfd.errors import RuleError
from bpfd.event import printable
from bpfd.rules import check, definitions, locate
from bpfd.rules.context import Known
from bpfd.rules.definitions import Definitions
from bpfd.rules.model import Rule, Sequence
from bpfd.rules.nearest import hint, quoted
from bpfd.rules.problems import Problems, TooManyProblems

LARGEST = 1 << 20
"""The largest rule file in bytes."""
_LARGEST_TEXT = "a rule file has at most 1 MiB; split it"
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a directory held."""

    rules: tuple[Rule, ...]
    """The good ones, in the order of their files' names; those that are not enabled too."""
    problems: Mapping[str, tuple[str, ...]]
    """For each bad file, by its path, its problems as whole lines."""
    definitions: Definitions = field(default_factory=Definitions)
    """The macros and lists of all files, for rules that come later over the API."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file's text and what TOML makes of it."""

    source: str
    text: str
    table: Mapping[str, object]


def parse_rule(text: bytes | str, source: str, known: Known, default_name: str = "") -> Rule:
    """Read one rule from the TOML `text` of a file.

    `source` begins each line of an error; `default_name` names a rule that has no `name`. The rule's conditions may use
    the file's own macros and lists and those of `known`. Raises `RuleError` with all problems of the file. Takes well
    under a second whatever the text; any thread.
    """
    document = read(text, source)
    problems = Problems(source)
    try:
        own = definitions.read(document.table, problems)
        if definitions.is_library(document.table):
            problems.add((), "holds macros and lists only, and no rule; put it into the rules directory")
        known = replace(known, definitions=known.definitions.merged(own))
        rule = check.rule(document.table, known, problems, default_name)
    except TooManyProblems:
        raise RuleError(problems.lines(document.text)) from None
    if problems:
        raise RuleError(problems.lines(document.text))
    return replace(rule, source=source, text=document.text, warnings=problems.warnings(document.text))


def load_directory(path: Path, known: Known) -> Loaded:
    """Read every `*.toml` file right in `path`, sorted by name; hidden files and backups are left out.

    A bad file is reported in the result and spoils no other. Raises `RuleError` if the directory can't be read.
    """
    problems: dict[str, tuple[str, ...]] = {}
    documents: list[tuple[str, Document]] = []
    for file in _files(path):
        try:
            documents.append((file.name.removesuffix(".toml"), read(read_file(file), str(file))))
        except RuleError as error:
            problems[str(file)] = error.problems
    shared = _shared_definitions([document for _, document in documents], problems)
    known = replace(known, definitions=known.definitions.merged(shared))
    rules: dict[str, Rule] = {}
    for stem, document in documents:
        if document.source in problems or definitions.is_library(document.table):
            continue
        try:
            rule = parse_rule(document.text, document.source, known, stem)
            if rule.name in rules:
                raise RuleError(_name_again(rule, rules[rule.name]))
            rules[rule.name] = rule
        except RuleError as error:
            problems[document.source] = error.problems
    for rule in [rule for rule in rules.values() if isinstance(rule.window, Sequence)]:
        if unknown := unknown_steps(rule, rules):
            problems[rule.source] = unknown
            del rules[rule.name]
    return Loaded(tuple(rules.values()), problems, shared)


def load_file(path: Path, known: Known) -> Loaded:
    """Read one file as if it were loaded with the others of its directory, whose macros, lists and rules it may use.

    What is wrong with the others is not reported. Raises `RuleError` if the file can't be read.
    """
    document = read(read_file(path), str(path))
    try:
        others = load_directory(path.parent, known)
    except RuleError:
        others = Loaded((), {})
    if path.name.endswith(".toml") and not path.name.startswith((".", "#")):
        rules = tuple(rule for rule in others.rules if rule.source == document.source)
        problems = {source: lines for source, lines in others.problems.items() if source == document.source}
        return Loaded(rules, problems, others.definitions)
    known = replace(known, definitions=known.definitions.merged(others.definitions))
    try:
        rule = parse_rule(document.text, document.source, known, path.stem)
    except RuleError as error:
        return Loaded((), {document.source: error.problems}, others.definitions)
    return Loaded((rule,), {}, others.definitions)


def unknown_steps(rule: Rule, names: Collection[str]) -> tuple[str, ...]:
    """The problems of a rule whose sequence names rules that are not among `names`. Empty: none."""
    problems = Problems(rule.source)
    steps = rule.window.rules if isinstance(rule.window, Sequence) else ()
    for index, name in enumerate(steps):
        if name == rule.name:
            problems.add(("sequence", index), "is the rule itself; name another")
        elif name not in names:
            problems.add(("sequence", index), f"there is no rule {quoted(name)}; {hint(name, names, 'rules')}")
    return problems.lines(rule.text) if problems else ()


def _shared_definitions(documents: Iterable[Document], found: dict[str, tuple[str, ...]]) -> Definitions:
    """The macros and lists of all files. One that two files define otherwise is a problem of the later."""
    shared = Definitions()
    for document in documents:
        problems = Problems(document.source)
        try:
            own = definitions.read(document.table, problems)
            for key, mine, present in (("macros", own.macros, shared.macros), ("lists", own.lists, shared.lists)):
                for name in mine:
                    if name in present:
                        problems.add(
                            (key, name), "is defined by another file of the directory too; choose another name"
                        )
        except TooManyProblems:
            pass
        if problems:
            found[document.source] = problems.lines(document.text)
        else:
            shared = shared.merged(own)
    return shared


def _name_again(rule: Rule, first: Rule) -> tuple[str, ...]:
    problems = Problems(rule.source)
    problems.add(("name",), f'"{rule.name}" is the name of the rule in {printable(first.source)}; choose another')
    return problems.lines(rule.text)


def read(text: bytes | str, source: str) -> Document:
    """Make TOML of a file's content. Raises `RuleError`."""
    decoded = _decoded(text, source)
    return Document(source, decoded, _table(decoded, source))


def read_file(path: Path) -> bytes:
    """The bytes of a rule file; never waits on a pipe or device, never reads more than `LARGEST`.

    Raises `RuleError`.
    """
    shown = printable(str(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise RuleError([f"{shown}: cannot be read: {_reason(error)}"]) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RuleError([f"{shown}: is no regular file; put a file with a rule here or remove it"])
        parts = []
        left = LARGEST + 1
        while left and (part := os.read(descriptor, left)):
            parts.append(part)
            left -= len(part)
    except OSError as error:
        raise RuleError([f"{shown}: cannot be read: {_reason(error)}"]) from None
    finally:
        os.close(descriptor)
    if not left:
        raise RuleError([f"{shown}: is too large; {_LARGEST_TEXT}"])
    return b"".join(parts)


def _files(path: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        shown = printable(str(path))
        raise RuleError(
            [f"{shown}: the rules directory cannot be read: {_reason(error)}; make it, or name another"]
        ) from None
    return [path / name for name in names if name.endswith(".toml") and not name.startswith((".", "#"))]


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _decoded(text: bytes | str, source: str) -> str:
    """`text` as str, of bearable size, in UTF-8 and without a byte order mark."""
    shown = printable(source)
    try:
        data = text.encode() if isinstance(text, str) else text
        if len(data) > LARGEST:
            raise RuleError([f"{shown}: is too large; {_LARGEST_TEXT}"])
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RuleError([f"{shown}:{line}: not UTF-8 text: byte 0x{data[error.start]:02x}; save it as UTF-8"]) from None
    except UnicodeEncodeError:
        raise RuleError([f"{shown}:1: not UTF-8 text; remove the lone surrogates"]) from None


def _table(text: str, source: str) -> dict[str, object]:
    """What tomli makes of `text`. Raises `RuleError`."""
    shown = printable(source)
    try:
        locate.refuse_long_keys(text)
        return tomli.loads(text)
    except locate.TooManyParts as error:
        raise RuleError([f"{shown}:{error.line}: a key has more than {locate.MOST_PARTS} parts; shorten it"]) from None
    except tomli.TOMLDecodeError as error:
        what = str(error)
        at = _AT_LINE.search(what)
        line = int(at[1]) if at else text.count("\n") + (not text.endswith("\n"))
        raise RuleError([f"{shown}:{line}: not TOML: {printable(_AT_LINE.sub('', what))}"]) from None
    except (RecursionError, ValueError, OverflowError) as error:
        raise RuleError([f"{shown}:1: not TOML that can be read: {printable(str(error))}"]) from None
