"""What the actions that send a signal have in common."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any, ClassVar

from bpfd import options
from bpfd.event import Event
from bpfd.plugin import Action
from bpfd.process import signal_process
from bpfd.tree import signal_tree


class SignalAction(Action):
    """Sends `number` to the process that acted."""

    responds = True
    settings = {"tree": "whether the signal goes to all descendants of the process too; false"}
    per_rule = ("tree",)
    number: ClassVar[signal.Signals]

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._tree = options.yes(settings, "tree", False)

    def act(self, event: Event) -> None:
        """Raises `TargetGoneError` if the process has ended and `RefusedError` if it is a protected one."""
        if self._tree:
            signal_tree(event.pid, event.start, event.time, self.number, event.inode, self.spares)
        else:
            signal_process(event.pid, event.start, event.time, self.number, event.inode)
