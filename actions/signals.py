"""What the actions that send a signal have in common."""

from __future__ import annotations

import signal
from typing import ClassVar

from bpfd.event import Event
from bpfd.plugin import Action
from bpfd.process import signal_process


class SignalAction(Action):
    """Sends `number` to the process that acted."""

    responds = True
    number: ClassVar[signal.Signals]

    def act(self, event: Event) -> None:
        """Raises `TargetGoneError` if the process has ended and `RefusedError` if it is a protected one."""
        signal_process(event.pid, event.start, event.time, self.number)
