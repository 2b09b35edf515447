"""Tracers on the real kernel: their programs alone (`bench`), or in a daemon that a user starts (`daemon`)."""

from __future__ import annotations

from tests.daemon.conftest import cache_dir, daemon
from tests.dockerd import dockerd
from tests.kernel.conftest import build, folder

__all__ = ["build", "cache_dir", "daemon", "dockerd", "folder"]
