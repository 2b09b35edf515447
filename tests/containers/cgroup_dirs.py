"""Cgroups of the tests' own."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def own_cgroup(mount: Path) -> Iterator[Path]:
    """A cgroup below `mount`, removed at the end with all that was made in it."""
    path = mount / f"bpfd-test-{secrets.token_hex(8)}"
    path.mkdir()
    try:
        yield path
    finally:
        remove(path)


def remove(path: Path) -> None:
    """Remove a cgroup and those below it, however deep; a cgroup may be busy for a moment after its last process."""
    deadline = time.monotonic() + 10
    for _, names, _, fd in os.fwalk(path, topdown=False):
        for name in names:
            _rmdir(name, fd, deadline)
    _rmdir(str(path), None, deadline)


def _rmdir(name: str, fd: int | None, deadline: float) -> None:
    while True:
        try:
            os.rmdir(name, dir_fd=fd)
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
