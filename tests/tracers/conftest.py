"""Tracers on the real kernel: their programs alone (`bench`), or in a daemon that a user starts (`daemon`)."""

from __future__ import annotations

from tests.daemon.conftest import daemon
from tests.kernel.conftest import build, execs, folder, opens

__all__ = ["build", "daemon", "execs", "folder", "opens"]
