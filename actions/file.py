"""file: appends alerts to a file."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bpfd import options
from bpfd.alert import Alert
from bpfd.errors import ActionError
from bpfd.event import Event
from bpfd.plugin import Action


class File(Action):
    """Append each alert to a file as a line of JSON; full files are rotated and compressed."""

    name = "file"
    settings = {
        "path": "the file",
        "max_size": "the size from which on it is rotated; 64m",
        "files": "how many rotated files are kept; 10",
        "compress": "whether they are compressed with gzip; true",
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._path = Path(options.text(settings, "path"))
        if not self._path.is_absolute():
            raise ActionError("path: must be an absolute path")
        self._max_size = options.size(settings, "max_size", 64 << 20, 1024, 1 << 40)
        self._files = options.whole(settings, "files", 10, 0, 1000)
        self._suffix = ".gz" if options.yes(settings, "compress", True) else ""
        self._descriptor = -1

    def act(self, event: Event) -> None:
        """Append one event."""
        self.send(Alert(event))

    def send(self, alert: Alert) -> None:
        """Append `alert`. Raises `ActionError` if the file takes nothing; a line is there whole or not at all."""
        text = alert.to_json() + b"\n"
        try:
            size = self._open()
            if size and size + len(text) > self._max_size:
                self._rotate()
                size = self._open()
            if os.write(self._descriptor, text) != len(text):
                os.ftruncate(self._descriptor, size)
                raise ActionError(f"{self._path}: cannot be written: the disk is full")
        except OSError as error:
            raise ActionError(f"{self._path}: cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> int:
        """Have the file open that has the name now, whoever moved the last one away; its size."""
        if self._descriptor >= 0:
            ours = os.fstat(self._descriptor)
            try:
                there = os.lstat(self._path)
            except FileNotFoundError:
                there = None
            if there is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return ours.st_size
            self.close()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Without waiting: somebody may have put a pipe there that nobody reads.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, 0o600)
        ours = os.fstat(self._descriptor)
        if not stat.S_ISREG(ours.st_mode):
            self.close()
            raise ActionError(f"{self._path}: is no regular file")
        return ours.st_size

    def _rotate(self) -> None:
        self.close()
        for number in range(self._files, 0, -1):
            older = self._rotated(number)
            if number == self._files:
                older.unlink(missing_ok=True)
            elif older.exists():
                older.replace(self._rotated(number + 1))
        if self._files == 0:
            self._path.unlink(missing_ok=True)
        elif self._suffix:
            self._compress(self._rotated(1))
        else:
            self._path.replace(self._rotated(1))

    def _compress(self, target: Path) -> None:
        half = target.with_name(target.name + ".part")
        half.unlink(missing_ok=True)
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as raw, self._path.open("rb") as plain, gzip.open(raw, "wb", 6) as packed:
            shutil.copyfileobj(plain, packed, 1 << 20)
        half.replace(target)
        self._path.unlink()

    def _rotated(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}{self._suffix}")
