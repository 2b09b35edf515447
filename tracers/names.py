"""Names of files as programs pass them, and how tracers write them."""

from __future__ import annotations

import posixpath


def plain(path: str) -> str:
    """An absolute `path` without `.`, `..` and double slashes, as far as names alone tell: no link is followed."""
    path = posixpath.normpath(path)
    return path[1:] if path.startswith("//") else path  # POSIX keeps two; Linux has one root
