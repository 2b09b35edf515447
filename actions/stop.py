"""stop: stops the process."""

from __future__ import annotations

import signal

from bpfd.actions.signals import SignalAction


class Stop(SignalAction):
    """Stop the process that acted where it stands, with SIGSTOP, until `continue` or SIGCONT."""

    name = "stop"
    number = signal.SIGSTOP
