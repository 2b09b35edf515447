"""Has the rules directory read again whenever something in it changes, however it is changed.

Files are written, renamed over each other by editors, removed; the directory itself may be replaced, or be missing at
first; files may be symbolic links that lead elsewhere, as those of a Kubernetes ConfigMap do, where one link (`..data`)
is swapped for all. A file that somebody is writing is left as it was until it is closed: half a rule may be a rule too,
and match what nobody meant.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bpfd import inotify
from bpfd.errors import GivenUpError
from bpfd.inotify import Change, Inotify
from bpfd.rules.directory import is_rule_file

log = logging.getLogger("bpfd.reload")

QUIET_S = 0.08
"""How long nothing must have changed before the directory is read: what is copied comes in one piece."""
LATEST_S = 1.0
"""It is read after this time all the same, however much goes on."""
COMPARE_S = 2.0
"""How often the directory is compared with the one that is watched: a mount over it, or a parent that was renamed, is
told by nobody."""
MOST_LINKS = 1000
"""How many rule files that are symbolic links are followed to where they lead."""
_NAMES = inotify.IN_CREATE | inotify.IN_DELETE | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO
_OWN = inotify.IN_DELETE_SELF | inotify.IN_MOVE_SELF | inotify.IN_ONLYDIR
_CONTENT = inotify.IN_MODIFY | inotify.IN_CLOSE_WRITE | inotify.IN_EXCL_UNLINK

IsBeingWritten = Callable[[str], bool]
"""Whether somebody is writing the file at this real path, as far as is known by now."""
Reload = Callable[[IsBeingWritten], None]


class RulesWatch:
    """Watches one rules directory, from when it is made until `close`. `start`, `stop`, `close` it from one thread."""

    def __init__(self, directory: Path, reload: Reload) -> None:
        """`reload` is called on a thread of its own; what it raises is logged.

        Where the kernel has no room for another watch, that is logged, and the rest goes on.
        """
        self._directory, self._reload = directory, reload
        self._queue: Inotify | None = None
        self._watches: dict[int, tuple[str, frozenset[str] | None]] = {}
        """By number: the directory, and the names in it that matter; None: those of rule files, and links."""
        self._links: frozenset[str] = frozenset()
        """Names in the rules directory that are on the way to a rule file."""
        self._unfinished: set[str] = set()
        self._changed = False
        self._identity: tuple[int, int] | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="bpfd-reload", daemon=True)
        self._stopping = False
        try:
            self._queue = Inotify()
        except OSError as error:
            self._complain(error)
        self._follow()

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread. One that still reads rules after `timeout_s` is left to end by itself. Idempotent."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def close(self) -> None:
        """Stop, and give the descriptors back, unless the thread still uses them."""
        self.stop()
        if self._thread.is_alive():
            return
        if self._queue is not None:
            self._queue.close()
        os.close(self._wake)

    def _run(self) -> None:
        first = last = 0.0
        """When the first and the last change was seen since the directory was read; 0: none."""
        while not self._stopping:
            wait_s = COMPARE_S if not last else max(0.0, min(last + QUIET_S, first + LATEST_S) - time.monotonic())
            self._sleep(wait_s)
            self._take_changes()
            now = time.monotonic()
            if self._changed or (not last and _identity(self._directory) != self._identity):
                self._changed = False
                first, last = first or now, now
            if last and not self._stopping and now >= min(last + QUIET_S, first + LATEST_S):
                first = last = 0.0
                self._follow()  # before the files are read: what changes after that is told
                self._read_again()

    def _sleep(self, most_s: float) -> None:
        fds = [self._wake] if self._queue is None else [self._wake, self._queue.fd]
        select.select(fds, [], [], most_s)

    def _read_again(self) -> None:
        try:
            self._reload(self._is_being_written)
        except GivenUpError:
            pass
        except Exception as error:
            if not self._stopping:
                for line in str(error).split("\n"):
                    log.error("%s", line)

    def _is_being_written(self, path: str) -> bool:
        self._take_changes()
        return path in self._unfinished

    def _take_changes(self) -> None:
        while self._queue is not None and (changes := self._queue.read()):
            for change in changes:
                self._changed |= self._take(change)

    def _take(self, change: Change) -> bool:
        """Whether it is a reason to read the directory."""
        if change.mask & inotify.IN_Q_OVERFLOW:
            log.warning("rules directory: more changed than the kernel keeps; all of it is read again")
            self._unfinished.clear()
            return True
        if change.mask & inotify.IN_IGNORED:
            self._watches.pop(change.watch, None)
            return True
        if change.watch not in self._watches:
            return False
        directory, names = self._watches[change.watch]
        if not change.name:
            return True  # the directory itself
        if not (change.name in names if names is not None else self._is_ours(change.name)):
            return False
        path = os.path.join(directory, change.name)
        if change.mask & inotify.IN_MODIFY or (change.mask & inotify.IN_CREATE and _is_new_file(path)):
            self._unfinished.add(path)
            return False
        self._unfinished.discard(path)
        return True

    def _is_ours(self, name: str) -> bool:
        return is_rule_file(name) or name in self._links

    def _follow(self) -> None:
        """Watch what is to be watched now, and nothing else."""
        before, self._identity = self._identity, _identity(self._directory)
        if before != self._identity:
            self._unfinished.clear()
        if self._queue is None:
            return
        real = os.path.realpath(self._directory)
        wanted: dict[str, set[str]] = {}
        contents: set[str] = {real}
        for directory, name in _lookups(self._directory):
            wanted.setdefault(directory, set()).add(name)
        for link in _linked_files(real):
            for directory, name in _lookups(link):
                wanted.setdefault(directory, set()).add(name)
                contents.add(directory)
        self._links = frozenset(wanted.pop(real, ()))
        watches: dict[int, tuple[str, frozenset[str] | None]] = {}
        for directory, names in [(real, None), *wanted.items()]:
            mask = _OWN | _NAMES | (_CONTENT if directory in contents else 0)
            try:
                number = self._queue.add(directory, mask)
            except (FileNotFoundError, NotADirectoryError):
                continue  # it is noticed where it will be made
            except OSError as error:
                self._complain(error)
                continue
            watches[number] = (directory, None if names is None else frozenset(names))
        for number in self._watches.keys() - watches.keys():
            self._queue.remove(number)
        self._watches = watches

    def _complain(self, error: OSError) -> None:
        log.error(
            "%s: cannot be watched: %s; raise fs.inotify.max_user_instances and max_user_watches, or send SIGHUP",
            self._directory,
            error.strerror,
        )


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_new_file(path: str) -> bool:
    """Is it a file that somebody has just made, and will write? A link is whole at once."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _linked_files(directory: str) -> list[Path]:
    """The rule files in `directory` that are symbolic links."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        links = [Path(entry.path) for entry in entries if is_rule_file(entry.name) and entry.is_symlink()]
        return sorted(links)[:MOST_LINKS]
    return []


def _lookups(path: Path) -> Iterator[tuple[str, str]]:
    """Where the kernel looks up what decides to which file `path` leads: directories, each with a name in it.

    That is each symbolic link on the way, and the last name; or the first that is missing.
    """
    at, links = "/", 0
    rest = list(reversed(path.parts[1:]))
    while rest:
        name = rest.pop()
        if name == "..":
            at = os.path.dirname(at)
            continue
        here = os.path.join(at, name)
        try:
            target = os.readlink(here)
        except OSError:  # no link
            if not rest or not os.path.isdir(here):
                yield at, name
                return
            at = here
            continue
        yield at, name
        links += 1
        if links > 40:  # as the kernel's own limit, MAXSYMLINKS
            return
        if target.startswith("/"):
            at = "/"
        rest += reversed([part for part in target.split("/") if part not in ("", ".")])
