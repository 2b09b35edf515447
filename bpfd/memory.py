"""Has the C library give memory back once it is free, where it would keep it for later (mallopt(3), malloc_trim(3)).

A daemon reads its rules and makes its programs once, and then needs little: what was used meanwhile is not to stay
resident. With another library than glibc nothing happens.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD = -1
"""malloc.h"""
THRESHOLD = 128 << 10
"""Bytes that may stay free at the heap's end. It is glibc's own default; to set it keeps it from growing."""


def keep_little() -> None:
    """From now on, keep no more than `THRESHOLD` at the end of what is in use."""
    library = _library()
    if library is not None:
        library.mallopt(M_TRIM_THRESHOLD, THRESHOLD)


def give_back() -> None:
    """Give back all that is free now."""
    library = _library()
    if library is not None:
        library.malloc_trim(0)


def _library() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
