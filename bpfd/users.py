"""The names of users, from /etc/passwd alone: the event thread can't wait for a directory server."""

from __future__ import annotations

import time
from pathlib import Path

PASSWD = Path("/etc/passwd")
MOST_BYTES = 4 << 20
AGAIN_S = 5.0
"""How soon after a look the file is looked at again for a number that was not in it."""


class Users:
    """Names by number. Event thread: a dictionary hit, but for a number that is new, at most once in `AGAIN_S`."""

    def __init__(self, passwd: Path = PASSWD) -> None:
        self._passwd = passwd
        self._names: dict[int, str] = {}
        self._read_at = 0.0
        self._read()

    def __call__(self, uid: int) -> str:
        name = self._names.get(uid)
        return self._look_again(uid) if name is None else name

    def _look_again(self, uid: int) -> str:
        if time.monotonic() - self._read_at < AGAIN_S:
            return ""
        self._read()
        return self._names.setdefault(uid, "") if len(self._names) < 65536 else ""

    def _read(self) -> None:
        self._read_at = time.monotonic()
        names: dict[int, str] = {}
        try:
            with self._passwd.open("rb") as file:
                text = file.read(MOST_BYTES).decode("utf-8", "surrogateescape")
        except OSError:
            return
        for line in text.split("\n"):
            words = line.split(":")
            if len(words) > 2 and words[2].isdigit() and len(words[2]) < 11:
                names.setdefault(int(words[2]), words[0])
        self._names = names
