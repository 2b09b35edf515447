"""Changes in directories, told by the kernel: inotify(7), through ctypes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from typing import NamedTuple

IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO = 0x2, 0x8, 0x40, 0x80
IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF = 0x100, 0x200, 0x400, 0x800
IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED = 0x2000, 0x4000, 0x8000
IN_ONLYDIR, IN_EXCL_UNLINK = 0x01000000, 0x04000000
"""Of include/uapi/linux/inotify.h."""

_HEAD = struct.Struct("=iIII")
"""struct inotify_event without its name: watch, mask, cookie, length of the name."""
_READ_BYTES = 65536
_libc = ctypes.CDLL(None, use_errno=True)


class Change(NamedTuple):
    """One event. `watch` is -1 where the queue ran over (`IN_Q_OVERFLOW`); `name` is empty for the directory itself."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One queue of changes. Not for two threads at once; `fd` is readable while changes wait. The owner closes it."""

    def __init__(self) -> None:
        """Raises OSError: EMFILE where fs.inotify.max_user_instances are in use."""
        self.fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def add(self, directory: str, mask: int) -> int:
        """Watch `directory` and return the watch's number: the one that it has, if it is watched already.

        Raises OSError: ENOENT, ENOTDIR, ENOSPC where fs.inotify.max_user_watches are in use.
        """
        return _checked(_libc.inotify_add_watch(self.fd, os.fsencode(directory), ctypes.c_uint32(mask)))

    def remove(self, watch: int) -> None:
        """Watch no longer. A watch that the kernel has removed already is no error."""
        with contextlib.suppress(OSError):
            _checked(_libc.inotify_rm_watch(self.fd, watch))

    def read(self) -> list[Change]:
        """What waits, oldest first, up to 64 KiB of it; an empty list if nothing does."""
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return []
        changes, at = [], 0
        while at < len(data):
            watch, mask, _, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            changes.append(Change(watch, mask, os.fsdecode(data[at : at + length].split(b"\0", 1)[0])))
            at += length
        return changes

    def close(self) -> None:
        os.close(self.fd)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
