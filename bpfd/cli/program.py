"""The entry point."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def run() -> None:
    """Run the command line and exit."""
    signal.signal(signal.SIGINT, _end)
    from bpfd.cli.main import main

    sys.exit(main(sys.argv[1:]))


def _end(number: int, frame: FrameType | None) -> None:
    """End at once on Ctrl-C. As an exception it could be swallowed by whatever callback happens to run.

    Commands hold nothing that the kernel does not give back; the daemon, which does, handles signals itself.
    """
    os._exit(128 + number)
