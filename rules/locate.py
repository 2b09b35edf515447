"""Where a key stands in TOML text: tomli tells what a file holds, but not on which line."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

KeyPath = tuple[str | int, ...]
"""Keys from the top of the file; numbers are places in arrays, from 0."""

MOST_PARTS = 64
"""How many parts a dotted key may have. tomli's time grows with the square of it."""

# Only single characters are repeated possessively: Python before 3.11.5 gets groups wrong (gh-106052).
_TOKEN = re.compile(
    r"""
      (?P<skip> [ \t\r]++ | \#[^\n]*+ )
    | (?P<newline> \n )
    | (?P<string>
          \"{3} [^"\\]*+ (?: \\.[^"\\]*+ | "(?!"")[^"\\]*+ )* "{3,5}
        | '{3}  [^']*+   (?: '(?!'')[^']*+ )* '{3,5}
        | "     [^"\\\n]*+ (?: \\.[^"\\\n]*+ )* "
        | '     [^'\n]*+ '
      )
    | (?P<mark> [][{}=,.] )
    | (?P<bare> [^][{}=,.\s"'#]++ )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_SHORT = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


class TooManyParts(ValueError):
    """A dotted key has more than `MOST_PARTS` parts; `line` says where."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def lines(text: str, wanted: Collection[KeyPath]) -> dict[KeyPath, int]:
    """The line, from 1, of each path in `wanted`; of its nearest parent where the file lacks it; else 1.

    `text` must be valid TOML. Linear in its length; memory grows with `wanted` only.
    """
    prefixes = {path[:length] for path in wanted for length in range(1, len(path) + 1)}
    found: dict[KeyPath, int] = {}
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    for path, position in positions(text):
        for length in range(1, len(path) + 1):
            if path[:length] in prefixes:
                found.setdefault(path[:length], bisect_right(starts, position))
    answer = {}
    for path in wanted:
        known = (found[path[:length]] for length in range(len(path), 0, -1) if path[:length] in found)
        answer[path] = next(known, 1)
    return answer


def refuse_long_keys(text: str) -> None:
    """Raise `TooManyParts` for text that would keep tomli busy for seconds; `text` may be anything."""
    if text.count(".") > 4096:
        for _ in positions(text):
            pass


def positions(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Every key and array element of TOML `text` with its offset.

    Never fails on text that is no TOML; what it yields then means nothing. Raises `TooManyParts`.
    """
    walk = _Walk()
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind == "skip":
            continue
        path = walk.take(kind, match.group())
        if len(walk.parts) > MOST_PARTS:
            raise TooManyParts(text.count("\n", 0, match.start()) + 1)
        if path is not None:
            yield path, match.start()


@dataclass(slots=True)
class _Open:
    """An array or inline table that has not been closed."""

    path: KeyPath
    index: int
    """The element that is being read; -1: this is an inline table."""
    fresh: bool = True
    """No token of this element was seen yet."""


@dataclass(slots=True)
class _Walk:
    """The state between two tokens."""

    base: KeyPath = ()
    """The table that the last header opened."""
    parts: tuple[str, ...] = ()
    """The dotted key that is being read."""
    in_value: bool = False
    header: int = 0
    """How many brackets opened the header that is being read."""
    open: list[_Open] = field(default_factory=list)
    here: KeyPath = ()
    """The key whose value is being read."""
    counts: dict[KeyPath, int] = field(default_factory=dict)
    """The last index of each array of tables."""

    def take(self, kind: str, piece: str) -> KeyPath | None:
        """Go one token on; returns the path that it completes, if any."""
        if kind == "newline":
            if not self.open:
                self.parts, self.in_value, self.header = (), False, 0
            return None
        return self._value(kind, piece) if self.in_value else self._key(kind, piece)

    def _key(self, kind: str, piece: str) -> KeyPath | None:
        if kind in ("string", "bare"):
            self.parts += (_unquoted(piece) if kind == "string" else piece,)
        elif piece == "=":
            self.here = (self.open[-1].path if self.open else self.base) + self.parts
            self.parts, self.in_value = (), True
            return self.here
        elif piece == "[" and not self.parts and not self.open:
            self.header += 1
        elif piece == "]" and self.header:
            path, self.header = self._enter(), 0
            self.in_value = True  # Nothing but a comment may follow on this line.
            return path
        elif piece == "}":
            self._close()
        elif piece == ",":
            self.parts = ()
        return None

    def _enter(self) -> KeyPath:
        """The table that a header names, with the indexes of the arrays of tables on its way."""
        path: KeyPath = ()
        for number, part in enumerate(self.parts, 1):
            path += (part,)
            if number == len(self.parts) and self.header > 1:
                self.counts[path] = self.counts.get(path, -1) + 1
            if path in self.counts:
                path += (self.counts[path],)
        self.base, self.parts = path, ()
        return path

    def _value(self, kind: str, piece: str) -> KeyPath | None:
        inside = self.open[-1] if self.open else None
        if piece in ("]", "}") and kind == "mark":
            self._close()
            return None
        if piece == "," and kind == "mark":
            if inside is not None:
                inside.fresh = True
                inside.index += inside.index >= 0
                self.in_value = inside.index >= 0
            return None
        element = None
        if inside is not None and inside.index >= 0 and inside.fresh:
            inside.fresh = False
            element = self.here = (*inside.path, inside.index)
        if kind == "mark" and piece in "[{":
            self.open.append(_Open(self.here, 0 if piece == "[" else -1))
            self.in_value = piece == "["
        return element

    def _close(self) -> None:
        """An array or inline table ends; what holds it goes on behind its value."""
        if self.open:
            self.open.pop()
        self.parts, self.in_value = (), True


def _unquoted(piece: str) -> str:
    """A quoted key's text."""
    if piece[0] == "'":
        return piece.strip("'")
    return _ESCAPE.sub(_escaped, piece.strip('"') if piece.startswith('"""') else piece[1:-1])


def _escaped(match: re.Match[str]) -> str:
    short, long, single = match.groups()
    if single is not None:
        return _SHORT.get(single, single)
    return chr(min(int(short or long, 16), 0x10FFFF))
