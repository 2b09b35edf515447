"""Bits of a number, as the names that a program would write: `RENAME_NOREPLACE|RENAME_EXCHANGE`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

MOST_REMEMBERED = 4096


def flags(names: Sequence[tuple[str, int]], none: str = "0") -> Callable[[int], str]:
    """A field's `show`: from a number to the names of its bits, what has none in hexadecimal, and `none` for 0.

    A name of several bits stands for all of them at once, and must come before names of the same bits.
    """
    shown: dict[int, str] = {}

    def show(number: int) -> str:
        text = shown.get(number)
        if text is None:
            if len(shown) >= MOST_REMEMBERED:
                shown.clear()
            text = shown[number] = "|".join(_names(number, names)) or none
        return text

    return show


def _names(number: int, names: Sequence[tuple[str, int]]) -> list[str]:
    found = []
    for name, bits in names:
        if number & bits == bits:
            found.append(name)
            number &= ~bits
    if number:
        found.append(hex(number))
    return found
