"""What the rules of these tests may name."""

from __future__ import annotations

import pytest

from bpfd.plugin import Field, Named
from bpfd.rules.check import Known

EXEC = (
    Field("filename", "the program", length=256, example="/usr/sbin/sshd"),
    Field("argv", "its arguments", length=4096),
    Field("cwd", "the working directory", length=256),
    Field("argv_truncated", "whether arguments were cut", type="bool"),
)
OPEN = (
    Field("path", "the file that was opened", length=4096, also="origin", example="/etc/shadow"),
    Field("origin", "its path in its own file system", length=4096, optional=True),
    Field("flags", "how it was opened", type="u64", show=lambda flags: "O_RDONLY"),
    Field("size", "its size", type="u64"),
    Field("kind", "what it is", type="u64", show=Named({8: "regular", 4: "directory"})),
    Field("peer", "who asked", type="address", example="10.0.0.1"),
)


@pytest.fixture
def known() -> Known:
    return Known(
        {"exec": EXEC, "open": OPEN},
        ("stdout", "kill", "interrupt", "slack"),
        {"kill": ("tree",), "interrupt": ("tree",), "slack": ("channel", "thread")},
    )
