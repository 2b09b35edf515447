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

    def add(self, path: KeyPath, what: str) -> None:
        """Note that the value at `path` is wrong; `what` is `what is wrong; what to do`.

        Raises `TooManyProblems`.
        """
        self._found.append((path, what))
        if len(self._found) == _MOST:
            raise TooManyProblems

    def __bool__(self) -> bool:
        return bool(self._found)

    def lines(self, text: str) -> tuple[str, ...]:
        """Each problem as `file:line: key: what is wrong; what to do`, in the order of the file.

        `text` is the file's, and valid TOML.
        """
        where = locate.lines(text, {path for path, _ in self._found})
        ordered = sorted(self._found, key=lambda problem: where[problem[0]])
        shown = [f"{self._source}:{where[path]}: {_dotted(path)}: {what}" for path, what in ordered]
        if len(self._found) == _MOST:
            shown.append(f"{self._source}: too many problems to show; mend these first")
        return tuple(shown)


def _dotted(path: KeyPath) -> str:
    """`path` as it would be written: `tests[2].event`; long keys are cut."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            shown = printable(part if len(part) <= 64 else part[:64] + "…") or '""'
            text += f".{shown}" if text else shown
    return text
