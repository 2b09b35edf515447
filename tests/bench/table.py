"""The table that the bench prints, with what was to be reached."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path


class Table:
    """Rows of what was measured; printed as they come."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def section(self, title: str) -> None:
        print(f"\n{title}", flush=True)

    def row(self, what: str, value: str, target: str = "", reached: bool | None = None) -> None:
        verdict = "" if reached is None else "reached" if reached else "MISSED"
        self.rows.append({"what": what, "value": value, "target": target, "verdict": verdict})
        print(f"  {what:58} {value:>28}  {target:24} {verdict}", flush=True)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.rows, indent=1) + "\n")


Section = Callable[[Table], None]
