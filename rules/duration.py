"""Lengths of time as people write them."""

from __future__ import annotations

import re

_UNITS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_PART = r"(\d{1,9})(ms|s|m|h|d)"
LONGEST_NS = 30 * _UNITS["d"]


def parse(text: object) -> int:
    """Nanoseconds of `10s`, `1h30m`, `500ms`; at most 30 days. Raises ValueError: what is wrong; what to do."""
    if not isinstance(text, str) or not re.fullmatch(f"(?:{_PART})+", text, re.ASCII) or len(text) > 64:
        raise ValueError('is no length of time; write such as "500ms", "10s" or "1h30m"')
    total = sum(int(count) * _UNITS[unit] for count, unit in re.findall(_PART, text, re.ASCII))
    if not 0 < total <= LONGEST_NS:
        raise ValueError("is not between 1 ms and 30 days; choose another length of time")
    return total
