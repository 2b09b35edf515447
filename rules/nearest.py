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
    if len(word) <= _LONGEST:
        folded = {name.lower(): name for name in names}
        near = difflib.get_close_matches(word.lower(), folded, 1, 0.6)
        if near:
            return f'did you mean "{folded[near[0]]}"?'
    if not names:
        return f"there are no {kind}"
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{kind} are {', '.join(names[:_MOST])}{more}"


def quoted(word: object) -> str:
    """`word` for an error line: in double quotes, escaped, and cut if long."""
    text = str(word)
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    return f'"{printable(text)}"'
