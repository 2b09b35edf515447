"""kill: ends the process."""

from __future__ import annotations

import signal

from bpfd.actions.signals import SignalAction


class Kill(SignalAction):
    """End the process that acted, with SIGKILL; never a stranger that was given its pid."""

    name = "kill"
    number = signal.SIGKILL
