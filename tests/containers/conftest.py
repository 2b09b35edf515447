"""The real dockerd, for the tests that need one."""

from __future__ import annotations

from tests.dockerd import dockerd

__all__ = ["dockerd"]
