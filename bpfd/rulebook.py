"""The daemon's rules: those of the rules directory, and those made over the API, which survive a restart."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from bpfd.errors import RuleError, RuleExistsError, RuleNotFoundError
from bpfd.rules import steps
from bpfd.rules.check import Known
from bpfd.rules.definitions import Definitions
from bpfd.rules.directory import Directory
from bpfd.rules.load import parse_rule
from bpfd.rules.model import Rule
from bpfd.rules.nearest import no_rule

API = "api"
"""The source of a rule that came without a file's name."""
MOST = 100_000
"""How many rules there may be."""


class Rulebook:
    """All rules by name. Not for two threads at once: the daemon's lock guards it.

    A rule made over the API stands before one of the same name from the directory, for as long as it is there.
    """

    def __init__(self, known: Known, rules_dir: Path, state_dir: Path) -> None:
        self._known = known
        self._rules_dir = rules_dir
        self._directory = Directory(rules_dir, known)
        self._store = state_dir / "rules"
        self._from_api: dict[str, Rule] = {}
        self._from_files: dict[str, Rule] = {}
        self._removed: dict[str, str] = {}
        """Rules of the directory that were removed over the API: their texts, by name."""
        self._bad_files: Mapping[str, tuple[str, ...]] = {}
        self._bad_stored: dict[str, tuple[str, ...]] = {}
        self.bad_names: dict[str, str] = {}
        """The names of rules of the API that became bad, by the path that `problems` has them under."""
        self._kept_files: dict[str, str] = {}

    @property
    def problems(self) -> dict[str, tuple[str, ...]]:
        """Bad files, by path, each with its problems as whole lines."""
        return {**self._bad_stored, **self._bad_files}

    @property
    def kept(self) -> dict[str, str]:
        """Rules in force although their file became bad: the file's path, by name."""
        stored = {name: path for path, name in self.bad_names.items() if name in self._from_api}
        return {**self._kept_files, **stored}

    def load(self) -> None:
        """Read the directory, and the rules that the API left, which may use its macros and lists. What is bad goes
        into `problems`; the rest is good.

        A directory that is missing is a problem too, like one that can't be read.
        """
        self.reload()
        for path in sorted(self._store.glob("*.json")) if self._store.is_dir() else []:
            self._read_stored(path)

    def reload(self, is_being_written: Callable[[str], bool] | None = None) -> None:
        """Read the directory again. A file that became bad keeps its last good rule, and is in `problems`. So does a
        rule of the API whose macros and lists changed.

        With `is_being_written`, files at those real paths stay as they were, and a rule that was removed stays away
        until its file changes.
        """
        if is_being_written is None:
            self._removed.clear()
        try:
            loaded = self._directory.read(is_being_written) if is_being_written else self._directory.read()
        except RuleError as error:
            self._unreadable(error.problems)
            return
        self._define(loaded.definitions)
        files = {rule.name: rule for rule in (*loaded.kept.values(), *loaded.rules)}
        self._removed = {name: text for name, text in self._removed.items() if name in files}
        self._from_files = {name: rule for name, rule in files.items() if self._removed.get(name) != rule.text}
        self._kept_files = {rule.name: path for path, rule in loaded.kept.items() if rule.name in self._from_files}
        self._bad_files = loaded.problems

    def _unreadable(self, problems: tuple[str, ...]) -> None:
        """The directory is: what it held stays in force, and as good or bad as it was."""
        self._bad_files = {**self._bad_files, str(self._rules_dir): problems}

    def _define(self, definitions: Definitions) -> None:
        """Take the directory's macros and lists, and make the rules of the API anew that may use them."""
        changed = definitions != self._known.definitions
        self._known = replace(self._known, definitions=definitions)
        again = set(self.bad_names)  # what was wrong may be right by now
        if changed:
            again |= {str(self._path(name)) for name, rule in self._from_api.items() if "condition" in rule.text}
        for path in sorted(again):
            self._read_stored(Path(path))

    @property
    def rules(self) -> Mapping[str, Rule]:
        """Those in force."""
        return {**self._from_files, **self._from_api}

    def parse(self, toml: str, source: str, may_replace: bool) -> Rule:
        """Read a rule that is to be added. Raises `RuleError`, `RuleExistsError`."""
        stem = source.rsplit("/", 1)[-1].removesuffix(".toml")
        rule = parse_rule(toml, source or API, self._known, stem)
        present = self.rules
        if rule.name in present and not may_replace:
            raise RuleExistsError(
                [f'{rule.source}: name: there is a rule "{rule.name}" already; choose another name, or give --replace']
            )
        if unknown := steps.unknown(rule, present.keys()):
            raise RuleError(unknown)
        if len(present) >= MOST:
            raise RuleError([f"{rule.source}: there are {MOST} rules already; remove some"])
        return rule

    def add(self, rule: Rule) -> None:
        """Keep `rule`, on disk first. Raises `RuleError` if that fails; then nothing has changed."""
        stored = json.dumps({"name": rule.name, "source": rule.source, "toml": rule.text})
        try:
            _write_whole(self._path(rule.name), stored)
        except OSError as error:
            raise RuleError(
                [f"{self._store}: the rule cannot be kept: {error.strerror}; mend that, or set state_dir"]
            ) from None
        self._from_api[rule.name] = rule
        self._forget_bad(rule.name)

    def remove(self, name: str, tracer: str) -> None:
        """Remove a rule, one of the API that became bad too. One from the directory is gone until its file changes, or
        SIGHUP or a start has all of the directory read again.

        Raises `RuleNotFoundError`.
        """
        rule = self.rules.get(name)
        if rule is None and not tracer and str(self._path(name)) in self._bad_stored:
            self._unlink(name)
            self._forget_bad(name)
            return
        if rule is None:
            raise RuleNotFoundError([no_rule(name, self.rules)])
        if tracer and rule.tracer != tracer:
            raise RuleNotFoundError([f'rule "{name}" belongs to tracer "{rule.tracer}", not "{tracer}"'])
        if name not in self._from_api:
            self._removed[name] = self._from_files.pop(name).text
            return
        self._unlink(name)
        del self._from_api[name]
        self._forget_bad(name)

    def _unlink(self, name: str) -> None:
        """Raises `RuleError`."""
        try:
            self._path(name).unlink(missing_ok=True)
            _sync_directory(self._store)
        except OSError as error:
            raise RuleError([f"{self._path(name)}: cannot be removed: {error.strerror}"]) from None

    def _forget_bad(self, name: str) -> None:
        path = str(self._path(name))
        self.bad_names.pop(path, None)
        self._bad_stored.pop(path, None)

    def _path(self, name: str) -> Path:
        """A name may be longer than a file's may be, or not be one."""
        return self._store / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"

    def _read_stored(self, path: Path) -> None:
        """Make the rule that the API left at `path`. One that became bad stays as it was, if it was good before."""
        try:
            stored = json.loads(path.read_text())
            name, source, toml = str(stored["name"]), str(stored["source"]), str(stored["toml"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._bad_stored[str(path)] = (f"{path}: is no stored rule: {error}; remove the file",)
            return
        try:
            self._from_api[name] = parse_rule(toml, source, self._known, name)
        except RuleError as error:
            self._bad_stored[str(path)] = error.problems
            self.bad_names[str(path)] = name
        else:
            self._forget_bad(name)


def _write_whole(path: Path, text: str) -> None:
    """Put `text` at `path` so that after a crash there is all of it or what was there before."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    try:
        with open(new, "w", encoding="utf-8", opener=_private) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        _sync_directory(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def _sync_directory(path: Path) -> None:
    """Have the names in a directory on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o640)
