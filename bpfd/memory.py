"""Has the C library give back what is free while the daemon starts, and keep it later (mallopt(3), malloc_trim(3)).

A daemon reads its rules and makes its programs once, and then needs little: what it took to start is not to stay
resident. What events need is needed again, and not asked of the kernel each time. With another library than glibc
nothing happens.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""malloc.h"""
LITTLE = 128 << 10
"""Bytes that may stay free at the heap's end: glibc's own default, which grows unless it is set."""
MUCH = 8 << 20
"""More than a round of the event path takes. With glibc's largest, 64 MiB, a daemon that is ready has 5 MiB more."""


def keep_little() -> None:
    """From now on, give back what is free at the end of what is in use."""
    library = _library()
    if library is not None:
        library.mallopt(M_TRIM_THRESHOLD, LITTLE)


def give_back() -> None:
    """Give back all that is free now, and from now on keep up to `MUCH` of what is freed."""
    library = _library()
    if library is not None:
        library.malloc_trim(0)
        library.mallopt(M_MMAP_THRESHOLD, MUCH // 2)
        library.mallopt(M_TRIM_THRESHOLD, MUCH)


def _library() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
