"""An event as one readable line, for people at a terminal."""

from __future__ import annotations

import errno
import time

from bpfd.event import NOT_FOUND, Container, Event, printable

_RESET = "\x1b[0m"
_BOLD = "\x1b[1m"
_DIM = "\x1b[2m"
_RED = "\x1b[31m"


def line(event: Event, color: bool = False) -> str:
    """`event` in one line without the newline: when, which rule and tracer, who, where, what.

    What the process had a say in is escaped and, if it could be taken for something else, quoted: neither a terminal
    nor a reader of the line is fooled. Any thread. `color` adds the terminal's escapes, and nothing else does.
    """
    rule = _word(event.rule) if event.rule else "-"
    words = [
        clock(event.time),
        f"{_BOLD}{rule}{_RESET}" if color else rule,
        _word(event.tracer),
        f"{_word(event.command)}[{event.pid}]",
        f"uid={event.uid}",
        _where(event.container),
    ]
    if event.return_value:
        shown = f"returned={returned(event.return_value)}"
        words.append(f"{_RED}{shown}{_RESET}" if color and event.return_value < 0 else shown)
    for key, value in event.data.items():
        name = f"{_DIM}{_word(key)}={_RESET}" if color else f"{_word(key)}="
        words.append(name + _word(value))
    return " ".join(words)


def clock(time_ns: int) -> str:
    """Local date and time of `time_ns` (wall clock), to the millisecond."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{rest // 1_000_000:03}"


def _where(container: Container) -> str:
    """`docker:web`, `docker:0123456789ab` as long as the name is not known, or `host`."""
    if container.runtime == NOT_FOUND:
        return "host"
    return f"{_word(container.runtime)}:{_word(container.name or container.id[:12])}"


def returned(value: int) -> str:
    """What a call returned: the errno's name if it failed, else the number."""
    return errno.errorcode.get(-value, str(value))


def _word(text: str) -> str:
    """`text` safe to stand between spaces: quoted if it holds one, is empty, or looks like a part of the line."""
    if text.isascii() and text.isprintable() and not _DOUBTFUL.intersection(text) and text:
        return text
    safe = printable(text)
    if text and not _DOUBTFUL.intersection(safe) and safe.isascii():
        return safe
    return '"' + safe.replace('"', '\\"') + '"'


_DOUBTFUL = frozenset(" \"=[]'")
