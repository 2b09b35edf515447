"""Keeps Python's collector of reference cycles out of the way of events.

It stops all threads while it looks at every object there is: a tenth of a second with ten thousand rules, and several
times while they are read. Rules in force are no garbage and have no cycles, so it leaves them out.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

LARGE = 20_000
"""How many objects must have come to stay for a change to be a large one."""
COLLECTED_EVERY = 64
"""After so many large changes all is looked at once: what others leave behind is left out with the rest."""

_large_changes = count(1)


@contextmanager
def left_alone() -> Iterator[None]:
    """Around a change of what is in force: nothing is collected meanwhile, and what came of a large one is not looked
    at later either. One thread at a time."""
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > LARGE:
            if not next(_large_changes) % COLLECTED_EVERY:
                gc.unfreeze()
                gc.collect()
            gc.freeze()
        gc.enable()


def look_at_all() -> None:
    """Let the collector look at everything again."""
    gc.unfreeze()
