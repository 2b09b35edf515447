"""Tests that lower kernel.pid_max: it belongs to a pid namespace since Linux 6.14, and before that to the machine."""

from __future__ import annotations

import os

import pytest

SINCE = (6, 14)
_release = os.uname().release.split("-")[0].split(".")

own_pid_max = pytest.mark.skipif(
    tuple(int(number) for number in _release[:2]) < SINCE,
    reason="before Linux 6.14 the whole machine would be left with some 300 process numbers",
)
