"""A daemon's worth of outbox and webhook, to be killed: sends what it is told on standard input, a number a line."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bpfd.actions.webhook import Webhook
from bpfd.alert import Alert
from bpfd.counters import Counters
from bpfd.delivery import Delivery, Retry
from bpfd.event import Event
from bpfd.outbox import Outbox

_BATCH = 50


def main(directory: str, url: str) -> None:
    """Put each number into the outbox as an alert with that id, and say on standard output what is safe."""
    counters = Counters()
    outbox = Outbox(Path(directory), counters)
    retry = Retry(first_s=0.05, longest_s=0.5, tries=1000)
    delivery = Delivery("a", Webhook({"url": url}), outbox, counters, retry)
    event = Event(0, "open", 1, 1, 1, 0, 0, "cat", 0)
    waiting: list[Alert] = []
    for text in sys.stdin:
        waiting.append(Alert(event, id=text.strip()))
        if len(waiting) == _BATCH:
            outbox.put("a", waiting)
            print(waiting[-1].id, flush=True)
            waiting = []
    while outbox.waiting():
        time.sleep(0.02)
    delivery.stop(5)
    outbox.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
