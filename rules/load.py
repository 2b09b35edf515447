"""Rule files read: from TOML text, or a whole directory, with every problem of every file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import tomli

from bpfd.errors import RuleError
from bpfd.event import printable
from bpfd.rules import check, locate
from bpfd.rules.check import Known
from bpfd.rules.model import Rule
from bpfd.rules.problems import Problems, TooManyProblems

LARGEST = 1 << 20
"""The largest rule file in bytes."""
_LARGEST_TEXT = "a rule file has at most 1 MiB; split it"
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a directory held."""

    rules: tuple[Rule, ...]
    """The good ones, in the order of their files' names."""
    problems: Mapping[str, tuple[str, ...]]
    """For each bad file, by its path, its problems as whole lines."""


def parse_rule(text: bytes | str, source: str, known: Known, default_name: str = "") -> Rule:
    """Read one rule from the TOML `text` of a file.

    `source` begins each line of an error; `default_name` names a rule that has no `name`. Raises `RuleError` with all
    problems of the file. Takes well under a second whatever the text; any thread.
    """
    decoded = _decoded(text, source)
    table = _table(decoded, source)
    problems = Problems(source)
    try:
        rule = check.rule(table, known, problems, default_name)
    except TooManyProblems:
        raise RuleError(problems.lines(decoded)) from None
    if problems:
        raise RuleError(problems.lines(decoded))
    return replace(rule, source=source, text=decoded)


def load_directory(path: Path, known: Known) -> Loaded:
    """Read every `*.toml` file right in `path`, sorted by name; hidden files and backups are left out.

    A bad file is reported in the result and spoils no other. Raises `RuleError` if the directory can't be read.
    """
    rules: dict[str, Rule] = {}
    problems: dict[str, tuple[str, ...]] = {}
    for file in _files(path):
        source = str(file)
        try:
            rule = parse_rule(read_file(file), source, known, file.name.removesuffix(".toml"))
            first = rules.setdefault(rule.name, rule)
            if first is not rule:
                again = Problems(source)
                again.add(
                    ("name",), f'"{rule.name}" is the name of the rule in {printable(first.source)}; choose another'
                )
                raise RuleError(again.lines(rule.text))
        except RuleError as error:
            problems[source] = error.problems
    return Loaded(tuple(rules.values()), problems)


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
