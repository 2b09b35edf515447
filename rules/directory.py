"""The rules directory: every file of it with all its problems, and what has not changed is not parsed again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bpfd.errors import RuleError
from bpfd.event import printable
from bpfd.rules import definitions, steps
from bpfd.rules.context import Known
from bpfd.rules.definitions import Definitions
from bpfd.rules.load import Document, parse_rule, read, read_file, reason, rule_of
from bpfd.rules.model import Rule
from bpfd.rules.problems import Problems, TooManyProblems


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a directory held."""

    rules: tuple[Rule, ...]
    """The good ones, in the order of their files' names; those that are not enabled too."""
    problems: Mapping[str, tuple[str, ...]]
    """For each bad file, by its path, its problems as whole lines."""
    definitions: Definitions = field(default_factory=Definitions)
    """The macros and lists of all files, for rules that come later over the API."""
    kept: Mapping[str, Rule] = field(default_factory=dict)
    """For bad files that were good when the directory was read before, by path: their last good rule."""


@dataclass(slots=True)
class _File:
    """A file as it was read last."""

    content: bytes = b""
    problems: tuple[str, ...] = ()
    """Why it can't be read, is no TOML, or defines macros and lists that are bad."""
    is_library: bool = False
    definitions: Definitions = definitions.NONE
    """The last good ones."""
    rule: Rule | None = None
    rule_problems: tuple[str, ...] = ()
    known: Definitions | None = None
    """What `rule` and `rule_problems` were made with; None: not made yet."""
    document: Document | None = None
    """Its TOML, until the first rule is made of it."""
    last: Rule | None = None
    """The rule when the file was good last."""


def _nobody(path: str) -> bool:
    return False


class Directory:
    """One directory, to be read again and again. Not for two threads at once."""

    def __init__(self, path: Path, known: Known) -> None:
        self._path, self._known = path, known
        self._files: dict[str, _File] = {}
        self._definitions = known.definitions

    def read(self, is_being_written: Callable[[str], bool] = _nobody) -> Loaded:
        """Read every `*.toml` file right in the directory, sorted by name; hidden files and backups are left out.

        A bad file is reported in the result and spoils no other. A file that is new or has changed, and whose real path
        `is_being_written`, is taken as it was before. Raises `RuleError` if the directory can't be read.
        """
        files: dict[str, _File] = {}
        real, shown = os.path.realpath(self._path), "" if self._path == Path() else str(self._path)
        for entry in _files(self._path):
            path = os.path.join(shown, entry.name)
            before = self._files.get(path)
            found: _File | None = _read(path, before)
            if found is not before and is_being_written(_real_path(entry, real)):
                found = before
            if found is not None:
                files[path] = found
                found.last = before.last if before is not None else None
        self._files = files
        shared, problems = _shared_definitions(files)
        all_definitions = self._known.definitions.merged(shared)
        if all_definitions != self._definitions:
            self._definitions = all_definitions
        rules = self._rules(problems)
        kept = {path: files[path].last for path in problems}
        return Loaded(
            tuple(rules.values()),
            problems,
            shared,
            {path: rule for path, rule in kept.items() if rule is not None and rule.name not in rules},
        )

    def _rules(self, problems: dict[str, tuple[str, ...]]) -> dict[str, Rule]:
        """The good rules by name. Adds to `problems`."""
        rules: dict[str, Rule] = {}
        known = replace(self._known, definitions=self._definitions)
        for path, file in self._files.items():
            if path in problems or file.is_library:
                continue
            self._make_rule(path, file, known)
            if file.rule_problems:
                problems[path] = file.rule_problems
            elif file.rule is not None and file.rule.name in rules:
                problems[path] = _name_again(file.rule, rules[file.rule.name])
            elif file.rule is not None:
                rules[file.rule.name] = file.rule
        lasting = {file.last.name for path, file in self._files.items() if path in problems and file.last is not None}
        for rule in [rule for rule in rules.values() if steps.of(rule)]:
            if unknown := steps.unknown(rule, rules.keys() | lasting):
                problems[rule.source] = unknown
                del rules[rule.name]
        for rule in rules.values():
            self._files[rule.source].last = rule
        return rules

    def _make_rule(self, path: str, file: _File, known: Known) -> None:
        if file.known is self._definitions and not file.rule_problems:
            return  # what was wrong may be right by now: the kernel has another tracepoint, say
        document, file.document = file.document or read(file.content, path), None
        file.known, file.rule_problems = self._definitions, ()
        try:
            file.rule = rule_of(document, known, os.path.basename(path).removesuffix(".toml"))
        except RuleError as error:
            file.rule_problems = error.problems


def load_directory(path: Path, known: Known) -> Loaded:
    """Read a directory once: see `Directory.read`."""
    return Directory(path, known).read()


def load_file(path: Path, known: Known) -> Loaded:
    """Read one file as if it were loaded with the others of its directory, whose macros, lists and rules it may use.

    What is wrong with the others is not reported. Raises `RuleError` if the file can't be read.
    """
    document = read(read_file(path), str(path))
    try:
        others = load_directory(path.parent, known)
    except RuleError:
        others = Loaded((), {})
    if is_rule_file(path.name):
        rules = tuple(rule for rule in others.rules if rule.source == document.source)
        problems = {source: lines for source, lines in others.problems.items() if source == document.source}
        return Loaded(rules, problems, others.definitions)
    known = replace(known, definitions=known.definitions.merged(others.definitions))
    try:
        rule = parse_rule(document.text, document.source, known, path.stem)
    except RuleError as error:
        return Loaded((), {document.source: error.problems}, others.definitions)
    return Loaded((rule,), {}, others.definitions)


def is_rule_file(name: str) -> bool:
    """Whether a file of this name is read as a rule, or as a library of macros and lists."""
    return name.endswith(".toml") and not name.startswith((".", "#"))


def _files(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted((entry for entry in entries if is_rule_file(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        shown = printable(str(path))
        raise RuleError(
            [f"{shown}: the rules directory cannot be read: {reason(error)}; make it, or name another"]
        ) from None


def _real_path(entry: os.DirEntry[str], folder: str) -> str:
    """Where the file really is; `folder` is where its directory is."""
    return os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(folder, entry.name)


def _read(path: str, before: _File | None) -> _File:
    """The file now; `before` itself if it is unchanged."""
    last = before.definitions if before is not None else definitions.NONE
    try:
        content = read_file(path)
    except RuleError as error:
        return _File(problems=error.problems, definitions=last)
    if before is not None and before.content == content and (content or not before.problems):
        return before
    try:
        document = read(content, path)
    except RuleError as error:
        return _File(content, error.problems, definitions=last)
    problems = Problems(path)
    try:
        own = definitions.read(document.table, problems)
    except TooManyProblems:
        pass
    if problems:
        return _File(content, problems.lines(document.text), definitions=last)
    is_library = definitions.is_library(document.table)
    return _File(content, is_library=is_library, definitions=own, document=None if is_library else document)


def _shared_definitions(files: Mapping[str, _File]) -> tuple[Definitions, dict[str, tuple[str, ...]]]:
    """The macros and lists of all files, and the files that are bad as far as that. One that two files define is a
    problem of the later.
    """
    shared = Definitions()
    bad: dict[str, tuple[str, ...]] = {}
    for path, file in files.items():
        problems = Problems(path)
        own = file.definitions
        try:
            for key, mine, present in (("macros", own.macros, shared.macros), ("lists", own.lists, shared.lists)):
                for name in mine.keys() & present.keys():
                    problems.add((key, name), "is defined by another file of the directory too; choose another name")
        except TooManyProblems:
            pass
        if problems and not file.problems:
            bad[path] = problems.lines(read(file.content, path).text)
            continue
        if file.problems:
            bad[path] = file.problems
        if not problems:
            shared = shared.merged(own)
    return shared, bad


def _name_again(rule: Rule, first: Rule) -> tuple[str, ...]:
    problems = Problems(rule.source)
    problems.add(("name",), f'"{rule.name}" is the name of the rule in {printable(first.source)}; choose another')
    return problems.lines(rule.text)
