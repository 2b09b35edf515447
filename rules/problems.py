"""The problems of one rule file, collected while it is checked, shown with their lines."""

from __future__ import annotations

from bpfd.event import printable
from bpfd.rules import locate
from bpfd.rules.locate import KeyPath

_MOST = 100


class TooManyProblems(Exception):
    """A hundred problems were noted; checking the file further would only cost time."""


class Problems:
    """What is wrong with one file, at most a hundred problems."""

    def __init__(self, source: str) -> None:
        self._source = printable(source)
        self._found: list[tuple[KeyPath, str]] = []
        self._warnings: list[tuple[KeyPath, str]] = []

    def add(self, path: KeyPath, what: str) -> None:
        """Note that the value at `path` is wrong; `what` is `what is wrong; what to do`.

        Raises `TooManyProblems`.
        """
        self._found.append((path, what))
        if len(self._found) == _MOST:
            raise TooManyProblems

    def warn(self, path: KeyPath, what: str) -> None:
        """Note what is allowed but hardly meant; a hundred of these at most."""
        if len(self._warnings) < _MOST:
            self._warnings.append((path, what))

    def __bool__(self) -> bool:
        return bool(self._found)

    def lines(self, text: str) -> tuple[str, ...]:
        """Each problem as `file:line: key: what is wrong; what to do`, in the order of the file.

        `text` is the file's, and valid TOML.
        """
        shown = self._shown(self._found, text)
        if len(self._found) == _MOST:
            shown += (f"{self._source}: too many problems to show; mend these first",)
        return shown

    def warnings(self, text: str) -> tuple[str, ...]:
        """Each warning, as `lines` has problems."""
        return self._shown(self._warnings, text, " warning:") if self._warnings else ()

    def _shown(self, found: list[tuple[KeyPath, str]], text: str, kind: str = "") -> tuple[str, ...]:
        where = locate.lines(text, {path for path, _ in found})
        ordered = sorted(found, key=lambda problem: where[problem[0]])
        return tuple(f"{self._source}:{where[path]}:{kind} {_dotted(path)}{what}" for path, what in ordered)


def _dotted(path: KeyPath) -> str:
    """`path` as it would be written, cut if long, with a colon: `tests[2].event: `; nothing for the whole file."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            shown = printable(part if len(part) <= 64 else part[:64] + "…") or '""'
            text += f".{shown}" if text else shown
    return text and f"{text}: "
