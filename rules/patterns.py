"""How text is judged by patterns: any number of them, in time that hardly grows with it, and never explodes.

Regular expressions and globs run on RE2, which is linear in the text whatever the pattern. RE2 wants UTF-8: text goes
to it with each byte that was not UTF-8 as the encoding of its lone surrogate, so that RE2 sees one character there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bpfd.rules import glob
from bpfd.rules.model import Test

Judge = Callable[[str], bool]

MOST_SIZE = 100_000
"""How large all regular expressions and globs of a rule may be together, in instructions of RE2."""
_FEW = 16
"""Up to so many values are tried one after the other, which is faster than any index."""
_GRAM = 4
_MEMORY = 8 << 20
_FOLD = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


class PatternError(ValueError):
    """A pattern can't be taken; the text is `what is wrong; what to do`."""


def judge(test: Test) -> Judge:
    """What tells whether a text passes `test`, one of the text operators. Any thread.

    Raises `PatternError` for a glob or regular expression that `size` would refuse.
    """
    values = test.values
    if test.ignore_case and test.operator != "regex":
        return _ignoring_case(judge(Test(test.field, test.operator, tuple(map(fold, values)))))
    match test.operator:
        case "contains":
            return _contains(values)
        case "is":
            return frozenset(values).__contains__
        case "prefix":
            return _prefix(values)
        case "suffix":
            return _suffix(values)
        case "glob":
            return _glob(values)
        case "regex":
            return _regex([f"(?i){value}" for value in values] if test.ignore_case else list(values))
        case "exists":
            return bool
        case _:
            raise PatternError(f'"{test.operator}" does not judge text; use another operator')


def fold(text: str) -> str:
    """`text` with A to Z as a to z."""
    return text.lower() if text.isascii() else text.translate(_FOLD)


def _ignoring_case(inner: Judge) -> Judge:
    return lambda text: inner(fold(text))


def _contains(values: tuple[str, ...]) -> Judge:
    if len(values) > _FEW:
        return _contains_many(values)
    if len(values) == 1:
        only = values[0]
        return lambda text: only in text

    def any_in(text: str) -> bool:
        for value in values:  # noqa: SIM110 - any() with a generator takes twice as long
            if value in text:
                return True
        return False

    return any_in


def _contains_many(values: tuple[str, ...]) -> Judge:
    """Index each value by the rarest of its first runs of four characters, and look the text's runs up."""
    index: dict[str, tuple[str, ...]] = {}
    for value in values:
        if len(value) >= _GRAM:
            runs = {value[at : at + _GRAM] for at in range(min(len(value) - _GRAM + 1, 16))}
            rarest = min(runs, key=lambda run: len(index.get(run, ())))
            index[rarest] = (*index.get(rarest, ()), value)
    short = tuple(value for value in values if len(value) < _GRAM)

    def any_in(text: str) -> bool:
        for value in short:
            if value in text:
                return True
        for at in range(len(text) - _GRAM + 1):
            for value in index.get(text[at : at + _GRAM], ()):
                if value in text:
                    return True
        return False

    return any_in


def _prefix(values: tuple[str, ...]) -> Judge:
    if len(values) <= _FEW:
        return lambda text: text.startswith(values)
    wanted = frozenset(values)
    lengths = sorted({len(value) for value in values})
    return lambda text: any(text[:length] in wanted for length in lengths)


def _suffix(values: tuple[str, ...]) -> Judge:
    if len(values) <= _FEW:
        return lambda text: text.endswith(values)
    wanted = frozenset(values)
    lengths = sorted({len(value) for value in values})
    return lambda text: any(text[-length:] in wanted for length in lengths)


def _glob(values: tuple[str, ...]) -> Judge:
    """Globs that are plain text with `*` at an end need no automaton; the others share one."""
    simple: dict[str, list[str]] = {"is": [], "prefix": [], "suffix": [], "contains": []}
    others = []
    for value in values:
        pieces = glob.parse(value)
        shape = _shape(pieces)
        if shape:
            simple[shape] += [piece.text for piece in pieces if isinstance(piece, glob.Literal)]
        else:
            others.append(_glob_regex(pieces))
    judges: list[Judge] = []
    if simple["is"]:
        judges.append(frozenset(simple["is"]).__contains__)
    judges += [
        make(tuple(simple[shape]))
        for shape, make in (("prefix", _prefix), ("suffix", _suffix), ("contains", _contains))
        if simple[shape]
    ]
    if others:
        judges.append(_regex([rf"\A(?:{'|'.join(others)})\z"]))
    if len(judges) == 1:
        return judges[0]
    return lambda text: any(judge(text) for judge in judges)


_L, _R = glob.Literal, glob.AnyRun
_SHAPES: dict[tuple[type, ...], str] = {(_L,): "is", (_L, _R): "prefix", (_R, _L): "suffix", (_R, _L, _R): "contains"}


def _shape(pieces: tuple[glob.Piece, ...]) -> str:
    """The operator that does for a glob; empty if only an automaton does."""
    return _SHAPES.get(tuple(map(type, pieces)), "")


def _glob_regex(pieces: Iterable[glob.Piece]) -> str:
    """A glob as a regular expression, without anchors."""
    regex = ""
    for piece in pieces:
        match piece:
            case glob.Literal():
                regex += "".join(map(_escaped, piece.text))
            case glob.AnyRun():
                regex += ".*"
            case glob.AnyOne():
                regex += "."
            case glob.OneOf():
                members = "".join(f"{_escaped(low)}-{_escaped(high)}" for low, high in piece.ranges)
                regex += f"[{'^' if piece.negated else ''}{members}]"
    return regex


def _escaped(character: str) -> str:
    return character if character.isascii() and character.isalnum() else f"\\x{{{ord(character):x}}}"


def _regex(patterns: list[str]) -> Judge:
    compiled = _compile("|".join(f"(?:{pattern})" for pattern in patterns) if len(patterns) > 1 else patterns[0])
    match = compiled.Match
    anchor = type(compiled).Anchor.UNANCHORED
    nothing = [(-1, -1)] * (1 + compiled.NumberOfCapturingGroups())  # groups with a name are captured all the same

    def matches(text: str) -> bool:
        data = text.encode("utf-8", "surrogatepass")
        return bool(match(anchor, data, 0, len(data)) != nothing)

    return matches


def _compile(pattern: str) -> Any:
    """RE2's own object, used directly: the package's imitation of Python's `re` takes three times as long to match.

    Raises `PatternError`.
    """
    import re2  # Loaded only where a rule needs it: it takes 3 MiB.
    from re2 import _re2

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _MEMORY
    compiled = _re2.RE2(f"(?s){pattern}".encode(), options)
    if not compiled.ok():
        reason = compiled.error()
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise PatternError(text.replace("(?s)", "", 1))
    return compiled


def size(operator: str, value: str) -> int:
    """How much of `MOST_SIZE` a pattern takes. Raises `PatternError` if it is no glob or RE2 regular expression."""
    if operator == "glob":
        try:
            pieces = glob.parse(value)
        except ValueError as error:
            raise PatternError(str(error)) from None
        if _shape(pieces):
            return 0
        return sum(len(piece.text) if isinstance(piece, glob.Literal) else 8 for piece in pieces)
    for forbidden, instead in ((r"\C", "."), (r"\Q", "a backslash before each special character")):
        if forbidden in value.replace(r"\\", ""):
            raise PatternError(f"uses {forbidden}, which is not supported; use {instead} instead")
    try:
        return int(_compile(value).ProgramSize())
    except PatternError as error:
        raise PatternError(f"is no regular expression that RE2 takes: {error}; see RE2's syntax") from None
