"""interrupt: asks the process to end."""

from __future__ import annotations

import signal

from bpfd.actions.signals import SignalAction


class Interrupt(SignalAction):
    """Interrupt the process that acted, with SIGINT, as Ctrl-C does; it may decline."""

    name = "interrupt"
    number = signal.SIGINT
