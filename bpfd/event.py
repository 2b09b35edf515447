"""One occurrence that a tracer saw: fixed identity and a map of data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

NOT_FOUND = "not-found"
"""The container runtime of a process that runs in no container: the host. A name from the seed."""

_NO_LABELS: Mapping[str, str] = {}


class Container(NamedTuple):
    """The container that an event came from. `name`, `image` and `labels` are empty until the runtime told them."""

    id: str = ""
    runtime: str = NOT_FOUND
    name: str = ""
    image: str = ""
    labels: Mapping[str, str] = _NO_LABELS


HOST = Container()
"""No container."""

_NO_DATA: Mapping[str, str] = {}


class Event(NamedTuple):
    """One event. A tuple, because one is made for every record on the hot path and nothing is cheaper to make.

    Text comes from the kernel as bytes and is decoded with `surrogateescape`: a byte that is not UTF-8 becomes a lone
    surrogate, so that no rule's pattern can match it by accident. `printable` escapes it on the way out.
    """

    time: int
    """When it happened: nanoseconds since 1970, wall clock."""
    tracer: str
    pid: int
    """The process (thread group)."""
    tid: int
    """The thread."""
    ppid: int
    """The parent process."""
    uid: int
    gid: int
    command: str
    """The program's name as the kernel keeps it, at most 15 bytes."""
    return_value: int
    """What the call returned; a negative errno if it failed; 0 where nothing returns."""
    data: Mapping[str, str] = _NO_DATA
    """The tracer's own fields."""
    container: Container = HOST
    rule: str = ""
    """The name of the rule that matched; empty if the tracer has no rule and passes everything."""
    host: str = ""
    start: int = 0
    """When the process (its thread-group leader) started: nanoseconds of the boot clock; 0: not known."""
    duration: int = 0
    """How long the process had run: nanoseconds."""
    user: str = ""
    """The name of `uid` on this machine; empty if it has none."""
    parent: str = ""
    """The parent's command."""
    ancestors: str = ""
    """The commands of the parent, its parent and so on, with spaces between; only where a rule asks for it."""
    container_init: bool = False
    """The process is the first of its container."""
    inode: int = 0
    """The process's number in pidfs, never given twice (Linux 6.9); 0: not known."""
    ns_pid: int = 0
    """The process as its own pid namespace numbers it, the innermost that it is in; 0: not known."""

    @property
    def tgid(self) -> int:
        """The thread group, the same as `pid`; the seed's API carries both."""
        return self.pid

    def as_dict(self) -> dict[str, Any]:
        """The event as it is shown everywhere: the keys of the JSON form, text made printable as UTF-8."""
        container = self.container
        return {
            "time": self.time,
            "host": self.host,
            "rule": self.rule,
            "tracer": self.tracer,
            "pid": self.pid,
            "tgid": self.pid,
            "tid": self.tid,
            "nsPid": self.ns_pid,
            "ppid": self.ppid,
            "uid": self.uid,
            "gid": self.gid,
            "command": utf8(self.command),
            "returnValue": self.return_value,
            "containerID": container.id,
            "containerRuntime": container.runtime,
            "container": {"name": container.name, "image": container.image, "labels": dict(container.labels)},
            "data": {key: utf8(value) for key, value in self.data.items()},
        }

    def to_json(self) -> bytes:
        """One line of JSON in UTF-8, without the newline."""
        import orjson  # not when this module loads: a Ctrl-C while orjson loads ends in a segmentation fault

        return orjson.dumps(self.as_dict())


def utf8(text: str) -> str:
    r"""`text` with each byte that was not UTF-8 written as `\xNN`, so that any encoder takes it."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, from JSON of somebody else
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def printable(text: str) -> str:
    r"""`text` safe for a terminal and for one line: control characters and stray bytes as `\n`, `\x1b`, `\u202e`.

    A backslash stays as it is: the result is for eyes; programs read JSON.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
