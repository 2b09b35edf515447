"""Counts with their nouns, as people read them."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "s") -> str:
    """`count` and `noun`, which takes the ending `plural` unless it is one: `1 rule`, `2 rules`, `0 matches`."""
    return f"{count} {noun}{'' if count == 1 else plural}"
