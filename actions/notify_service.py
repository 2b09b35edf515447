"""The child in which apprise talks to a service.

    python3 notify_service.py PARENT

PARENT is the process that asks, with which this one ends. Each line of standard input is a question in JSON, each line
of standard output an answer: true or false. The first question is the service's URL; every other one has what notify()
takes. This file runs as a program of its own and imports nothing of bpfd: apprise reads answers of any length for any
time, so its memory is limited here, and its time by the parent, who ends it. What it logs holds URLs with their
secrets: it goes nowhere.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

MEMORY_BYTES = 512 << 20
PR_SET_PDEATHSIG = 1


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)  # it ended before it could be asked for its end
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever is printed is no answer
    from apprise import Apprise, AppriseAsset

    service = Apprise(asset=AppriseAsset(http_redirects=False))
    for number, line in enumerate(sys.stdin):
        question = json.loads(line)
        taken = service.add(question) if number == 0 else _tell(service, question)
        answers.write(json.dumps(bool(taken)) + "\n")
        answers.flush()


def _tell(service: Any, question: dict[str, str]) -> bool:
    try:
        return bool(service.notify(**question))
    except (Exception, MemoryError):
        return False


if __name__ == "__main__":
    main()
