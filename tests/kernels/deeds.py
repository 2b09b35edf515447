"""Are the events right, too? The deeds of tests/tracers/loads.py, done in the guest."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

from bpfd.event import Event
from bpfd.rules.model import All
from tests.kernel.conftest import Bench
from tests.tracers.loads import LOADS, Told

PLACE = Path("/deeds")
LATER = {
    "setns": {"target", "target_command"},
    "tcpdrop": {"state"},
    "tracepoint:sched:sched_process_exit": {"group_dead"},
}
"""Fields that a tracer can fill on later kernels only, as its documentation says: they may be left out."""


def untold(bench: Bench, within_s: float) -> str:
    """What the tracer did not tell as it was, and what it told; empty: all was told, or there are no deeds for it."""
    name = bench.tracer.name
    if name not in LOADS:
        return ""
    bench.tracer.loaded(bench.program.maps)
    bench.judge_by([All()])
    folder = PLACE / name.replace(":", "-")
    folder.mkdir(parents=True)
    try:
        with contextlib.chdir(folder):
            missing = LOADS[name](folder)
    except (OSError, AssertionError):
        return traceback.format_exc()
    events: list[Event] = []
    pids = {told.pid for told in missing}
    deadline = time.monotonic() + within_s
    while missing and time.monotonic() < deadline:
        events += [event for event, _ in bench.events() if event.pid in pids]
        missing = [told for told in missing if not any(_tells(event, told, LATER.get(name, set())) for event in events)]
        time.sleep(0.05)
    if not missing:
        return ""
    return "\n".join(
        [*(f"not told: {told}" for told in missing), *(f"told: {one.pid} {one.data}" for one in events[-12:])]
    )


def _tells(event: Event, told: Told, later: set[str]) -> bool:
    return event.pid == told.pid and all(
        field in later if field not in event.data else _is(event.data, field, told) for field in told.data
    )


def _is(data: Mapping[str, str], field: str, told: Told) -> bool:
    wanted = told.data[field]
    return wanted == data[field] if isinstance(wanted, str) else wanted(data[field])
