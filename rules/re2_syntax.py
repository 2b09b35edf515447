"""RE2's regular expressions, read as far as they are regular over characters.

Only what RE2 has taken already is given here, so nothing is refused for being wrong. Whatever is not known for sure to
mean the same is `Unsupported`, and left to RE2 itself: word boundaries, lines (`(?m)`), Unicode's properties, and
letters beyond ASCII whose case is to be ignored. Source: RE2's doc/syntax.txt and re2/parse.cc.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from bpfd.rules.expression import (
    ANY,
    Begin,
    Chars,
    Either,
    End,
    Expression,
    Ranges,
    Repeat,
    Sequence,
    Unsupported,
    complement,
    merged,
)

DEEPEST = 40
"""How deep groups may be nested."""
LONGEST = 8192
"""How many characters an expression may have."""
KELVIN, LONG_S = 0x212A, 0x17F
"""What else is a k or an s where case is ignored (Unicode's CaseFolding.txt); no other ASCII letter has such a kin."""

_NEWLINE: Ranges = ((10, 10),)
_PERL: Mapping[str, Ranges] = {
    "d": ((48, 57),),
    "s": ((9, 10), (12, 13), (32, 32)),
    "w": ((48, 57), (65, 90), (95, 95), (97, 122)),
}
_POSIX: Mapping[str, Ranges] = {
    "alnum": ((48, 57), (65, 90), (97, 122)),
    "alpha": ((65, 90), (97, 122)),
    "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)),
    "cntrl": ((0, 31), (127, 127)),
    "digit": ((48, 57),),
    "graph": ((33, 126),),
    "lower": ((97, 122),),
    "print": ((32, 126),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)),
    "upper": ((65, 90),),
    "word": _PERL["w"],
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}
_CONTROL = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_REPEAT = re.compile(r"\{(0|[1-9][0-9]{0,3})(,(0|[1-9][0-9]{0,3})?)?\}")
_COUNTED = re.compile(r"\{[0-9]+(,[0-9]*)?\}")
_PLAIN = re.compile(r"[^\\.+*?()|\[\]{}^$]+(?![*+?{])")
"""Characters that are themselves; not one that is repeated."""
_GROUP = re.compile(r"\?P?<\w+>")
_FLAGS = re.compile(r"\?([imsU]*)(-[imsU]+)?([:)])")
_OCTAL = re.compile(r"[0-7]{1,3}")
_HEX = re.compile(r"x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]+)\})")
_POSIX_CLASS = re.compile(r"\[:(\^?)([a-z]+):\]")


class _Flags(NamedTuple):
    ignore_case: bool
    dot_is_all: bool
    lines: bool


def parse(pattern: str, ignore_case: bool = False, dot_is_all: bool = True, loosely: bool = False) -> Expression:
    """The expression that `pattern` is, as a search in a text. `dot_is_all`: `.` is a newline too, as with `(?s)`.

    `loosely`: it may match more than the pattern does, which lets some more patterns be read. Raises `Unsupported`.
    """
    if len(pattern) > LONGEST:
        raise Unsupported(f"it has more than {LONGEST} characters")
    parser = _Parser(pattern, _Flags(ignore_case, dot_is_all, False), loosely)
    whole = parser.alternatives(0)
    if not parser.at_end:
        raise Unsupported("its parentheses do not match")
    return whole


class _Parser:
    def __init__(self, pattern: str, flags: _Flags, loosely: bool) -> None:
        self._pattern, self._flags, self._loosely = pattern, flags, loosely
        self._at = 0
        self._vague = False
        """The characters of the present item are not all known."""

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._pattern)

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self) -> str:
        if self.at_end:
            raise Unsupported("it ends too soon")
        self._at += 1
        return self._pattern[self._at - 1]

    def _take_match(self, what: re.Pattern[str]) -> re.Match[str] | None:
        found = what.match(self._pattern, self._at)
        if found:
            self._at = found.end()
        return found

    def alternatives(self, depth: int) -> Expression:
        """Up to the group's end. Flags that are set inside hold up to there, over `|` too."""
        if depth > DEEPEST:
            raise Unsupported(f"its groups are nested more than {DEEPEST} deep")
        choices = [self._sequence(depth)]
        while self._peek() == "|":
            self._at += 1
            choices.append(self._sequence(depth))
        return choices[0] if len(choices) == 1 else Either(tuple(choices))

    def _sequence(self, depth: int) -> Expression:
        parts: list[Expression] = []
        while not self.at_end and self._peek() not in "|)":
            if not self._flags.ignore_case and (run := self._take_match(_PLAIN)):
                parts += map(_plain, run[0])
                continue
            item = self._item(depth)
            if item is not None:
                parts.append(self._repeated(item))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _repeated(self, item: Expression) -> Expression:
        bounds = self._bounds()
        if bounds is None:
            return item
        if self._peek() == "?":  # to take less first finds the same texts
            self._at += 1
        if self._peek() in ("*", "+", "?") or _COUNTED.match(self._pattern, self._at):
            raise Unsupported("it repeats a repetition")
        return Repeat(item, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._peek())
        if simple:
            self._at += 1
            return simple
        if found := self._take_match(_REPEAT):
            least = int(found[1])
            if found[2] is None:
                return least, least
            return least, int(found[3]) if found[3] is not None else None
        return None

    def _item(self, depth: int) -> Expression | None:
        """The next item, or None if there was but a setting of flags."""
        character = self._take()
        match character:
            case "(":
                return self._group(depth)
            case "[":
                return self._class()
            case ".":
                return Chars(ANY if self._flags.dot_is_all else complement(_NEWLINE))
            case "^" | "$":
                if self._flags.lines:
                    return self._anywhere("it looks at lines, by (?m)")
                return Begin() if character == "^" else End()
            case "\\":
                return self._escape()
            case "*" | "+" | "?":
                raise Unsupported("it repeats nothing")
            case "{" if _COUNTED.match(self._pattern, self._at - 1):
                raise Unsupported("it repeats nothing")
            case _:
                return self._chars(self._folded(_single(ord(character))))

    def _anywhere(self, why: str) -> Expression:
        """For what holds at some places only."""
        if not self._loosely:
            raise Unsupported(why)
        return Sequence(())

    def _chars(self, ranges: Ranges) -> Expression:
        vague, self._vague = self._vague, False
        return Chars(ANY if vague else ranges)

    def _group(self, depth: int) -> Expression | None:
        before = self._flags
        if self._peek() == "?" and not self._take_match(_GROUP):
            found = self._take_match(_FLAGS)
            if not found:
                raise Unsupported("it has a group of a kind that is not known")
            self._flags = _with(self._flags, found[1], found[2] or "")
            if found[3] == ")":
                return None
        inner = self.alternatives(depth + 1)
        if self._take() != ")":
            raise Unsupported("its parentheses do not match")
        self._flags = before
        return inner

    def _escape(self) -> Expression:
        following = self._peek()
        if following == "A":
            self._at += 1
            return Begin()
        if following == "z":
            self._at += 1
            return End()
        if following in ("b", "B"):
            self._at += 1
            return self._anywhere(f"it has \\{following}")
        if following and following.lower() in _PERL:
            return Chars(self._perl_class())
        return self._chars(self._folded(_single(self._escaped())))

    def _perl_class(self) -> Ranges:
        """`\\d` and its like. Where case is ignored, `\\w` has the kin of its letters, and `\\W` lacks them."""
        name = self._take()
        inside = self._folded(_PERL[name.lower()])
        return complement(inside) if name.isupper() else inside

    def _escaped(self) -> int:
        """The character that an escape stands for; its backslash is taken already."""
        if found := self._take_match(_HEX):
            code = int(found[1] or found[2], 16)
            if code > ANY[0][1]:
                raise Unsupported("it has a character beyond Unicode")
            return code
        if self._peek() == "0":
            if found := self._take_match(_OCTAL):
                return int(found[0], 8)
        elif self._peek() and self._peek() in "1234567":
            found = self._take_match(_OCTAL)
            if found and len(found[0]) > 1:
                return int(found[0], 8)
            raise Unsupported("it refers back to a group")
        character = self._take()
        if character in _CONTROL:
            return _CONTROL[character]
        if character in string.punctuation or character == " ":
            return ord(character)
        raise Unsupported(
            f"it has \\{character}" if character.isascii() and character.isalnum() else "it has an escape"
        )

    def _class(self) -> Expression:
        negated = self._peek() == "^"
        self._at += negated
        ranges: list[tuple[int, int]] = []
        first = True
        while first or self._peek() != "]":
            ranges += self._member()
            first = False
        self._at += 1
        inside = merged(ranges)
        return self._chars(complement(inside) if negated else inside)

    def _member(self) -> Ranges:
        """The next of a class: another class by its name, a range, or a character."""
        if found := self._take_match(_POSIX_CLASS):
            if found[2] not in _POSIX:
                raise Unsupported("it has a class that is not known")
            inside = self._folded(_POSIX[found[2]])
            return complement(inside) if found[1] else inside
        following = self._pattern[self._at + 1 : self._at + 2]
        if self._peek() == "\\" and following and following.lower() in _PERL:
            self._at += 1
            return self._perl_class()
        low = self._member_character()
        rest = self._pattern[self._at : self._at + 2]
        if len(rest) == 2 and rest[0] == "-" and rest[1] != "]":
            self._at += 1
            high = self._member_character()
            if high < low:
                raise Unsupported("it has a range that goes down")
            return self._folded(((low, high),))
        return self._folded(_single(low))

    def _member_character(self) -> int:
        character = self._take()
        return self._escaped() if character == "\\" else ord(character)

    def _folded(self, ranges: Ranges) -> Ranges:
        """With the other case of each letter, where case is ignored."""
        if not self._flags.ignore_case:
            return ranges
        if any(high > 127 for _, high in ranges):
            if not self._loosely:
                raise Unsupported("it ignores the case of a character beyond ASCII")
            self._vague = True
        more = list(ranges)
        for low, high in ranges:
            for first, distance in ((ord("A"), 32), (ord("a"), -32)):
                begin, end = max(low, first), min(high, first + 25)
                if begin <= end:
                    more.append((begin + distance, end + distance))
        for letter, kin in (("k", KELVIN), ("s", LONG_S)):
            if any(low <= ord(letter) <= high for low, high in more):
                more.append((kin, kin))
        return merged(more)


@lru_cache(maxsize=256)
def _plain(character: str) -> Chars:
    return Chars(_single(ord(character)))


def _single(code: int) -> Ranges:
    return ((code, code),)


def _with(flags: _Flags, on: str, off: str) -> _Flags:
    def now(name: str, before: bool) -> bool:
        return (before or name in on) and name not in off

    return _Flags(now("i", flags.ignore_case), now("s", flags.dot_is_all), now("m", flags.lines))
