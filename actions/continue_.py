"""continue: lets the process go on."""

from __future__ import annotations

import signal

from bpfd.actions.signals import SignalAction


class Continue(SignalAction):
    """Let a stopped process go on, with SIGCONT."""

    name = "continue"
    number = signal.SIGCONT
