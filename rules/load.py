"""Rule files read: bytes, TOML, and the rule that it says, with every problem. `directory.py` reads many."""

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
from bpfd.rules import check, definitions, locate
from bpfd.rules.context import Known
from bpfd.rules.model import Rule
from bpfd.rules.problems import Problems, TooManyProblems

LARGEST = 1 << 20
"""The largest rule file in bytes."""
_LARGEST_TEXT = "a rule file has at most 1 MiB; split it"
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$")


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
    return rule_of(read(text, source), known, default_name)


def rule_of(document: Document, known: Known, default_name: str = "") -> Rule:
    """Make a rule of a file's TOML: see `parse_rule`."""
    problems = Problems(document.source)
    try:
        own = definitions.read(document.table, problems)
        if definitions.is_library(document.table):
            problems.add((), "holds macros and lists only, and no rule; put it into the rules directory")
        if own:
            known = replace(known, definitions=known.definitions.merged(own))
        rule = check.rule(document.table, known, problems, default_name, document.source, document.text)
    except TooManyProblems:
        raise RuleError(problems.lines(document.text)) from None
    if problems:
        raise RuleError(problems.lines(document.text))
    warnings = problems.warnings(document.text)
    return replace(rule, warnings=warnings) if warnings else rule


def read(text: bytes | str, source: str) -> Document:
    """Make TOML of a file's content. Raises `RuleError`."""
    decoded = _decoded(text, source)
    return Document(source, decoded, _table(decoded, source))


def read_file(path: str | Path) -> bytes:
    """The bytes of a rule file; never waits on a pipe or device, never reads more than `LARGEST`.

    Raises `RuleError`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise RuleError([f"{printable(str(path))}: cannot be read: {reason(error)}"]) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RuleError([f"{printable(str(path))}: is no regular file; put a file with a rule here or remove it"])
        parts = []
        left = LARGEST + 1
        while left and (part := os.read(descriptor, left)):
            parts.append(part)
            left -= len(part)
    except OSError as error:
        raise RuleError([f"{printable(str(path))}: cannot be read: {reason(error)}"]) from None
    finally:
        os.close(descriptor)
    if not left:
        raise RuleError([f"{printable(str(path))}: is too large; {_LARGEST_TEXT}"])
    return b"".join(parts)


def reason(error: OSError | ValueError) -> str:
    """Why a file can't be read, without its name."""
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
