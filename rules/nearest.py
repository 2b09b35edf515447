"""How an error names what the user may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from bpfd.event import printable

_LONGEST = 64
"""Longer words are compared with nothing and cut when shown: difflib's time grows with the square of the length."""
_MOST = 24


def hint(word: str, known: Iterable[str], kind: str) -> str:
    """What to do about an unknown `word`: the nearest of `known`, or all of them; `kind` is their plural."""
    names = sorted(known)
    if near := _did_you_mean(word, names):
        return near
    if not names:
        return f"there are no {kind}"
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{kind} are {', '.join(names[:_MOST])}{more}"


def no_rule(name: str, rules: Iterable[str]) -> str:
    """That there is no rule `name`, and what to do: the nearest of `rules`, which may be too many to be listed."""
    return f"there is no rule {quoted(name)}; {_did_you_mean(name, sorted(rules)) or 'bpfd ls lists the rules'}"


def _did_you_mean(word: str, names: list[str]) -> str:
    """Empty: nothing is near, or the word is too long to be compared."""
    if len(word) > _LONGEST:
        return ""
    folded = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), folded, 1, 0.6)
    return f'did you mean "{folded[near[0]]}"?' if near else ""


def quoted(word: object) -> str:
    """`word` for an error line: in double quotes, escaped, and cut if long."""
    text = str(word)
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    return f'"{printable(text)}"'
