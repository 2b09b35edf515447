"""Counts matches in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bpfd import Action, Event


class TallyAction(Action):
    """Keeps a file with the number of matches of each rule."""

    name = "tally"
    durable = False
    settings = {"path": "the file to write; /run/bpfd/tally"}

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._path = Path(settings.get("path", "/run/bpfd/tally"))
        self._counts: Counter[str] = Counter()

    def act(self, event: Event) -> None:
        self._counts[event.rule] += 1
        lines = [f"{count} {rule}\n" for rule, count in sorted(self._counts.items())]
        self._path.write_text("".join(lines))
